"""Trials of a tuning: what their searches and short trainings found, in numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tas_bench.jobs import Outcome, job_id
from tas_bench.search import StoppableSearch, TasSearch
from tas_bench.tune.space import Params

Direction = Literal["maximize", "minimize"]

OBJECTIVES: Mapping[str, Direction] = {"accuracy": "maximize", "gap": "minimize", "cost": "minimize"}
"""Objectives, and which way is better."""


@dataclass
class Run:
    """One search of a trial, and the training of the size it derived."""

    job: TasSearch | StoppableSearch
    search: Outcome
    trained: Outcome | None = None

    @cached_property
    def key(self) -> str:
        """Of the search."""
        return job_id(self.job)

    @property
    def settings(self) -> TasSearch:
        """The search itself, under a rule or not."""
        return self.job.search if isinstance(self.job, StoppableSearch) else self.job

    @property
    def stopped(self) -> bool:
        """Whether it was given up."""
        epochs = self.search.epochs
        return self.search.ok and epochs is not None and epochs < self.settings.settings.search_epochs

    @property
    def ok(self) -> bool:
        """Whether it came to its end."""
        return self.search.ok and not self.stopped

    @property
    def hit(self) -> bool:
        """Whether the argmax itself lay in the band of the trial's t; a derived size always does."""
        return self.ok and self.search.derived != "in-band"

    @property
    def gap(self) -> float | None:
        """(F - R) / R, of the argmax: above zero it is too large."""
        problem, found = self.job.problem, self.search
        macs = found.argmax_macs
        if macs is None and found.size is not None:
            macs = problem.macs(found.size)
        return None if macs is None else macs / problem.budget - 1

    @property
    def accuracy(self) -> float | None:
        """On the validation half, of the derived size; None where there is none."""
        found = self.trained.val_accuracy if self.trained is not None and self.trained.ok else None
        return found if found is not None and 0 <= found <= 1 else None

    @property
    def cost(self) -> float:
        """Training macs of the search: no machine's speed is in it."""
        return float(self.search.train_macs or 0)


@dataclass(frozen=True)
class Trial:
    """Searches with the same settings."""

    number: int
    params: Params
    runs: list[Run]
    objectives: tuple[str, ...]

    @property
    def ended(self) -> list[Run]:
        """Those that came to their end."""
        return [run for run in self.runs if run.ok and run.search.size is not None]

    @property
    def judged(self) -> list[Run]:
        """Those that tell whether such a search hits: a job that failed for its machine's sake tells nothing."""
        return [run for run in self.runs if run.search.ok or run.search.status == "diverged"]

    @property
    def hits(self) -> int:
        """How often the argmax lay in the band."""
        return sum(run.hit for run in self.runs)

    @property
    def accuracy(self) -> float | None:
        """Mean over the seeds that came to their end, as the cost."""
        return _mean([run.accuracy for run in self.ended])

    @property
    def gap(self) -> float | None:
        """|F - R| / R, of what was given up as it stood then: else one lucky seed would speak for all."""
        judged = self.ended and [run for run in self.runs if run.search.ok]
        return _mean([abs(run.gap) for run in judged if run.gap is not None])

    @property
    def cost(self) -> float | None:
        """Of one search."""
        return _mean([run.cost for run in self.ended])

    @property
    def values(self) -> list[float] | None:
        """The objectives; None where one is missing."""
        found: list[float | None] = [getattr(self, name) for name in self.objectives]
        return None if None in found else [value for value in found if value is not None]

    @property
    def state(self) -> str:
        """As Optuna names it: pruned where every search that did not fail was given up."""
        if self.values is not None:
            return "COMPLETE"
        return "PRUNED" if any(run.stopped for run in self.runs) and not self.ended else "FAIL"


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
