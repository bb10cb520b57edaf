"""Tuning as a method: a plan over searches with other settings and short trainings of what they find."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from tas_bench.errors import InputError, PlanFailedError, check_least, unknown
from tas_bench.jobs import Job, Outcome, Plan, Problem
from tas_bench.search import StoppableSearch, StopRule, TasSearch
from tas_bench.tas import Tas
from tas_bench.train import candidate_job
from tas_bench.tune.advice import advise, ranked
from tas_bench.tune.space import Axis, Params, axes_of
from tas_bench.tune.study import Asker
from tas_bench.tune.trials import OBJECTIVES, Run, Trial

if TYPE_CHECKING:
    from tas_bench.space import Size

SAMPLERS = {
    "grid": "every combination of the values given",
    "random": "draws on their own",
    "tpe": "Tree-structured Parzen Estimator, one objective",
    "motpe": "the same for several objectives",
    "nsga2": "NSGA-II, several objectives",
}

TRIALS = 20
"""Trials, where none are asked for; a grid has as many as it has points."""

FAR = 1000
"""Between the seeds of two tunings of a sweep: they share no search."""

PASSED_OVER = 2
"""Recommendations, at most, that fresh seeds may fail before the next is no longer tried."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """TAS with its settings tuned. A trial is `repeats` searches with the same settings, from seeds side by side.

    Attributes:
        tas: the settings that are not tuned.
        over: what is tuned, each as `space.SYNTAX` says.
        sampler: one of `SAMPLERS`.
        trials: how many in all; more of them later go on from there. None for all points of a grid, else `TRIALS`.
        objectives: accuracy (of the derived size, up), gap (|F - R| / R of the argmax, down), cost (training macs
            of the search, down).
        repeats: searches per trial.
        parallel: trials asked for at a time, where what they find matters to the next ones.
        startup: trials at random before TPE has a model; individuals per generation of NSGA-II.
        train_epochs: of the short training that tells the accuracy; None takes the recipe's.
        confirm: fresh seeds on which the recommended settings are searched again; 0 for none.
        stop_after: share of a search's epochs after which it may be given up; 0 for never.
        stop_off: how far outside the band F_cost may stay, as a share of R.
        stop_loss: how high the validation loss may stay; 0 for no limit.
    """

    name: ClassVar[str] = "tune"
    label: ClassVar[str] = "TAS, tuned"

    tas: Tas = Tas()
    over: tuple[str, ...] = ("lambda_cost=0.5/1/2/4/8", "t=0.02/0.05/0.1")
    sampler: str = "grid"
    trials: int | None = field(default=None, metadata={"grows": True})
    objectives: tuple[str, ...] = ("accuracy", "gap", "cost")
    repeats: int = 1
    parallel: int = 4
    startup: int = 8
    train_epochs: int | None = None
    confirm: int = field(default=3, metadata={"grows": True})
    stop_after: float = 0.0
    stop_off: float = 0.2
    stop_loss: float = 0.0

    def __post_init__(self) -> None:
        check_least(self, "tune", 1, "trials", "repeats", "parallel", "startup", "train_epochs")
        for name in ("confirm", "stop_off", "stop_loss"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"tune.{name} is {getattr(self, name)}; it must not be negative")
        if not 0 <= self.stop_after < 1:
            raise InputError(
                f"tune.stop_after is {self.stop_after}; it must be in [0, 1), as a share of the epochs"
            )
        self._check_names()
        for axis in self.axes:
            for end in axis.ends:
                self.settled({axis.name: end})
                if axis.name == "t" and not 0 <= end <= 1:
                    raise InputError(f"t is {end:g}; it must be in [0, 1]")

    def _check_names(self) -> None:
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise unknown("objective", name, OBJECTIVES)
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise InputError(
                f"objectives are {','.join(self.objectives) or 'empty'}; give at least one, each once"
            )
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)

    def check(self) -> None:
        """Refuse what does not go together; settings are changed one at a time.

        Raises:
            InputError: says what.
        """
        if self.sampler == "tpe" and len(self.objectives) > 1:
            raise InputError("tpe has one objective; take motpe or nsga2, or one of accuracy, gap and cost")
        if self.sampler in ("motpe", "nsga2") and len(self.objectives) == 1:
            raise InputError(f"{self.sampler} is for several objectives; take tpe or random for one")
        if self.sampler != "grid":
            return
        for axis in self.axes:
            if not axis.choices:
                raise InputError(
                    f"a grid needs values of {axis.name}, not a range: {axis.name}=V1/V2/..., or --sampler tpe"
                )
        if self.trials not in (None, self.grid_size):
            raise InputError(f"tune.trials is {self.trials}; this grid has {self.grid_size} points: leave it out")

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """What is tuned."""
        return axes_of(self.over)

    @property
    def grid_size(self) -> int:
        """Points of the grid."""
        return math.prod(len(axis.choices) for axis in self.axes)

    @property
    def count(self) -> int:
        """How many trials."""
        return self.trials or (self.grid_size if self.sampler == "grid" else TRIALS)

    @property
    def jobs(self) -> int:
        """A search and a training per seed of every trial; one recommendation is confirmed."""
        return (self.count * self.repeats + self.confirm) * (1 + ("accuracy" in self.objectives))

    def settled(self, params: Params) -> Tas:
        """TAS with the settings of a trial.

        Raises:
            InputError: a value is out of range.
        """
        changed: dict[str, Any] = {name: value for name, value in params.items() if name != "t"}
        return replace(self.tas, **changed)

    def search(self, problem: Problem, params: Params, seed: int) -> TasSearch | StoppableSearch:
        """One search of a trial.

        Raises:
            InputError: these settings do not go with the problem.
        """
        tas = self.settled(params)
        job = tas.job(replace(problem, t=params.get("t", problem.t)), seed)
        if not self.stop_after:
            return job
        after = math.ceil(self.stop_after * tas.search_epochs)
        return StoppableSearch(
            search=job, rule=StopRule(after=after, off=self.stop_off, loss=self.stop_loss or None)
        )

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Try, recommend, confirm."""
        return Tuner(self, problem, seed).plan()


class Tuner:
    """One run of a tuning, as far as it has come.

    Attributes:
        trials: those told to the sampler; the `confirmed` are not.
    """

    def __init__(self, tuning: Tuning, problem: Problem, seed: int) -> None:
        tuning.check()
        if problem.cost != "macs":
            raise InputError(f"tuning compares F with R in macs; the budget is in {problem.counted.noun}")
        self.tuning, self.problem, self.seed = tuning, problem, seed
        for params in _corners(tuning.axes):  # before any compute
            tuning.search(problem, params, seed)
        self.asker = Asker(tuning, seed)
        self.trials: list[Trial] = []
        self.confirmed: list[Trial] = []

    def plan(self) -> Plan:
        """Ask, search, train, tell; then the recommended settings once more, on seeds that nobody has seen.

        Returns:
            A size that the recommended settings found, in the band if any is.
        """
        tuning = self.tuning
        first = FAR * self.seed
        seeds = range(first, first + tuning.repeats)
        while (missing := tuning.count - len(self.trials)) > 0:
            asked = self.asker.ask(missing)
            for trial in (yield from self._tried(asked, seeds)):
                self.asker.tell(trial)
                self.trials.append(trial)
        best = ranked(self.trials, tuning.axes)
        if not best:
            raise PlanFailedError("no search of the tuning ended well")
        fresh = range(seeds.stop, seeds.stop + tuning.confirm)
        for params in best[: 1 + PASSED_OVER] if tuning.confirm else ():
            self.confirmed += yield from self._tried([params], fresh)
            if 2 * self.confirmed[-1].hits > tuning.confirm:
                break
        advice = advise(self.trials, self.confirmed, tuning.axes)
        assert advice is not None
        return self._size(advice.params)

    def _size(self, params: Params) -> Size:
        runs = [run for t in (*self.confirmed, *self.trials) if t.params == params for run in t.ended]
        sizes = [run.search.size for run in runs if run.search.size is not None]
        return next(filter(self.problem.meets, sizes), sizes[0])

    def _tried(
        self, asked: Sequence[Params], seeds: Sequence[int]
    ) -> Generator[Sequence[Job], Sequence[Outcome], list[Trial]]:
        """Search with these settings and train what was found."""
        tuning, problem = self.tuning, self.problem
        searches = [tuning.search(problem, params, seed) for params in asked for seed in seeds]
        runs = [Run(job, outcome) for job, outcome in zip(searches, (yield searches), strict=True)]
        if "accuracy" in tuning.objectives:
            ended = [(run, run.search.size) for run in runs if run.ok and run.search.size is not None]
            trainings = [candidate_job(problem, size, r.job.seed, tuning.train_epochs) for r, size in ended]
            if trainings:
                trained = yield trainings
                for (run, _), training in zip(ended, trained, strict=True):
                    run.trained = training
        first, n = len(self.trials), len(seeds)
        return [
            Trial(first + i, params, runs[i * n : (i + 1) * n], tuning.objectives)
            for i, params in enumerate(asked)
        ]


def _corners(axes: Sequence[Axis]) -> list[Mapping[str, float]]:
    """Settings at the least and at the greatest value of every axis."""
    return [{axis.name: axis.ends[i] for axis in axes} for i in (0, 1)]
