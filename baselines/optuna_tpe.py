"""TPE (Bergstra et al., NeurIPS 2011) as Optuna has it: multivariate, asked for several sizes at a time.

A parameter is the index of a width's or depth's candidate. A proposal that misses the budget is withdrawn and the
nearest size that meets it enqueued in its place, so that the model learns from what was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import Trial, TrialState

from baselines.optuna_study import grid_of, indices_of, params_of, quiet_study
from tas_bench.budget import Band, nearest
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.fitness import Fitness, best_of, fitness_of
from tas_bench.jobs import Outcome, Plan, Problem
from tas_bench.space import IntArray, Size


@dataclass(frozen=True, kw_only=True)
class OptunaTpe(Fitness):
    """TPE; by default as many trainings as random search has, the first of them the same.

    Attributes:
        n_trials: sizes judged in all.
        n_startup_trials: sizes drawn at random to begin with.
        parallel: sizes asked for at a time; while they run, the model takes them for bad ones (a constant liar).
    """

    name: ClassVar[str] = "optuna_tpe"
    label: ClassVar[str] = "TPE (Optuna)"

    n_trials: int = 24
    n_startup_trials: int = 8
    parallel: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "n_startup_trials", "parallel")
        if self.n_trials < self.n_startup_trials:
            raise InputError(
                f"optuna_tpe.n_trials is {self.n_trials}; "
                f"it must be at least n_startup_trials, {self.n_startup_trials}"
            )

    @property
    def jobs(self) -> int:
        """One per trial."""
        return self.n_trials + self.supernets

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Ask, train, tell; the best size seen wins, the first of equals."""
        band, rng = Band.of(problem), np.random.default_rng([seed, 0])
        starts = band.sample(rng, self.n_startup_trials)  # random search's first draws
        study = quiet_study(self.sampler(int(rng.integers(2**32))), "maximize")
        model = Model(band, study, rng)
        trials = [model.place(band.space.indices(size)) for size in starts]
        sizes: list[Size] = []
        found: list[Outcome] = []
        while True:
            sizes += [model.size(trial) for trial in trials]
            outcomes = yield from self.judge(problem, sizes[len(found) :], seed)
            found += outcomes
            best, missing = best_of(found), self.n_trials - len(found)
            if best is None:
                raise PlanFailedError(f"all trials at the start failed, the first: {outcomes[0].error}")
            if not missing:
                return sizes[best]
            for trial, outcome in zip(trials, outcomes, strict=True):
                model.tell(trial, outcome)
            trials = [model.ask() for _ in range(min(self.parallel, missing))]

    def sampler(self, seed: int) -> TPESampler:
        """TPE, its options spelt out: their defaults change from one Optuna to the next."""
        return TPESampler(n_startup_trials=self.n_startup_trials, seed=seed, multivariate=True, constant_liar=True)


@dataclass(frozen=True)
class Model:
    """A study whose trials are in-band sizes."""

    band: Band
    study: Study
    rng: np.random.Generator

    def size(self, trial: Trial) -> Size:
        """What to train for a trial."""
        return self.band.space.size(indices_of(trial, self.band.space))

    def ask(self) -> Trial:
        """TPE's proposal where it meets the budget; else it is withdrawn, and the nearest that does placed."""
        trial = self.study.ask(grid_of(self.band.space))
        proposed = indices_of(trial, self.band.space)
        repaired = nearest(proposed, self.band, self.rng)
        if np.array_equal(repaired, proposed):
            return trial
        self.study.tell(trial, state=TrialState.FAIL)  # which TPE does not look at
        return self.place(repaired)

    def place(self, indices: IntArray) -> Trial:
        """A running trial of this very size."""
        self.study.enqueue_trial(params_of(indices, self.band.space))
        return self.study.ask(grid_of(self.band.space))

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Validation accuracy, or that there is none."""
        fitness = fitness_of(outcome)
        if fitness < 0:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, fitness)
