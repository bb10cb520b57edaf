"""Which settings to take, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tas_bench.report.stats import wilson
from tas_bench.tune.space import Axis, Params
from tas_bench.tune.trials import Trial

NEAR = 0.25
"""How far, of an axis' length, neighbours speak for each other: one standard deviation."""

AS_OFTEN = 0.9
"""Settings that hit that share as often as the most reliable ones do are as good in that."""


@dataclass(frozen=True)
class Advice:
    """The recommended settings.

    Attributes:
        hits, n: fresh seeds on which the argmax lay in the band, of how many; the trial's own where none are.
        low, high: Wilson's 95 % interval of the hit-rate.
        passed_over: settings that were tried on fresh seeds as well, and hit no more often.
    """

    params: Params
    trial: Trial
    confirmed: Trial | None
    hits: int
    n: int
    low: float
    high: float
    passed_over: tuple[Trial, ...] = ()

    @property
    def lines(self) -> tuple[str, str]:
        """Two lines: what to take, and how sure that is."""
        chosen = ", ".join(f"{name} = {value:g}" for name, value in self.params.items())
        trial = self.confirmed if self.confirmed is not None and self.confirmed.ended else self.trial
        told = [f"accuracy {trial.accuracy:.2%}"] if trial.accuracy is not None else []
        told += [f"|F - R| / R {trial.gap:.1%}"] if trial.gap is not None else []
        seeds = "fresh seeds" if self.confirmed else "seeds it was chosen by"
        best_of = f", the best of {1 + len(self.passed_over)} settings tried on them" if self.passed_over else ""
        rate = f"{self.hits} of {self.n} {seeds}{best_of}"
        interval = f"95 % interval {self.low:.0%} to {self.high:.0%}"
        sure = "sure" if self.low > 0.5 else "not settled" if self.hits else "no good"
        return (
            f"recommended: {chosen} ({', '.join(told) or 'nothing measured'})",
            f"how sure: the argmax lay in the band on {rate} ({interval}): {sure}",
        )


def advise(trials: Sequence[Trial], confirmed: Sequence[Trial], axes: Sequence[Axis]) -> Advice | None:
    """The first of `ranked` that fresh seeds confirm; of several that they do not, the one that hit most often.

    Returns:
        None where no trial came to its end.
    """
    best = ranked(trials, axes)
    if not best:
        return None
    by_hits = max(confirmed, key=lambda trial: trial.hits / max(1, len(trial.judged)), default=None)
    params = by_hits.params if by_hits is not None else best[0]
    trial = next(trial for trial in trials if trial.params == params)
    told = by_hits or trial
    n, hits = len(told.judged), told.hits
    low, high = wilson(hits, n)
    over = tuple(other for other in confirmed if other is not by_hits)
    return Advice(params, trial, by_hits, hits, n, low, high, over)


def ranked(trials: Sequence[Trial], axes: Sequence[Axis]) -> list[Params]:
    """Settings of the trials that came to their end, the best first.

    Of those that hit the band nearly as often as the most reliable ones, the most accurate; then the smaller gap.
    Neighbours speak for each other in both, since one trial is a draw of luck.
    """
    ended = list({tuple(t.params.items()): t for t in reversed(trials) if t.ended}.values())[::-1]
    judged = [trial for trial in trials if trial.judged]
    share = {t.number: _near(t, judged, axes, [j.hits / len(j.judged) for j in judged]) for t in ended}
    measured = [trial for trial in trials if trial.accuracy is not None]
    accuracy = {t.number: _near(t, measured, axes, [m.accuracy or 0.0 for m in measured]) for t in ended}
    most = max(share.values(), default=0.0)

    def order(trial: Trial) -> tuple[bool, float, float, float]:
        reliable = share[trial.number] >= AS_OFTEN * most
        gap = trial.gap if trial.gap is not None else math.inf
        first = accuracy[trial.number] if reliable else share[trial.number]
        return not reliable, -round(first, 9), round(gap, 9), trial.number

    return [trial.params for trial in sorted(ended, key=order)]


def _near(trial: Trial, others: Sequence[Trial], axes: Sequence[Axis], values: Sequence[float]) -> float:
    """Mean over trials, weighted by how near their settings are."""
    weights = [_weight(trial.params, other.params, axes) for other in others]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights) if weights else 0.0


def _weight(a: Params, b: Params, axes: Sequence[Axis]) -> float:
    squares = sum((axis.place(a[axis.name]) - axis.place(b[axis.name])) ** 2 for axis in axes)
    return math.exp(-squares / (2 * NEAR**2))
