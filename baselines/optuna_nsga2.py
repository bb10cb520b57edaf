"""NSGA-II (Deb et al., IEEE TEC 2002) as Optuna has it: validation accuracy up, and what the budget counts down.

Children that miss the budget are repaired to the nearest size that meets it, so that the Pareto set lies within
the band: widen t for a wider one. A generation is asked for at once. A failed training is told as the worst in
both, since Optuna would ask for one more of the same generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from baselines.optuna_study import grid_of, indices_of, params_of, quiet_study
from tas_bench.budget import Band, nearest
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.fitness import Fitness, best_of, fitness_of
from tas_bench.jobs import Outcome, Plan, Problem
from tas_bench.space import Size


@dataclass(frozen=True, kw_only=True)
class OptunaNsga2(Fitness):
    """NSGA-II; by default as many trainings as random search has, the first of them the same.

    Attributes:
        n_trials: sizes judged in all.
        population_size: sizes per generation, asked for at a time; the first are drawn at random.
    """

    name: ClassVar[str] = "optuna_nsga2"
    label: ClassVar[str] = "NSGA-II (Optuna)"

    n_trials: int = 24
    population_size: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(2, "population_size")
        if self.n_trials < self.population_size:
            raise InputError(
                f"optuna_nsga2.n_trials is {self.n_trials}; "
                f"it must be at least population_size, {self.population_size}"
            )

    @property
    def jobs(self) -> int:
        """One per trial."""
        return self.n_trials + self.supernets

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Generation after generation; the most accurate of the Pareto set wins."""
        band, rng = Band.of(problem), np.random.default_rng([seed, 0])
        starts = band.sample(rng, self.population_size)  # random search's first draws
        study = quiet_study(InBand(band, starts, rng), "maximize", "minimize")
        sizes: list[Size] = []
        found: list[Outcome] = []
        while True:
            missing = self.n_trials - len(found)
            trials = [study.ask(grid_of(band.space)) for _ in range(min(self.population_size, missing))]
            sizes += [band.space.size(indices_of(trial, band.space)) for trial in trials]
            outcomes = yield from self.judge(problem, sizes[len(found) :], seed)
            found += outcomes
            if best_of(found) is None:
                raise PlanFailedError(f"the whole first generation failed, the first: {outcomes[0].error}")
            if len(found) == self.n_trials:
                fitness = [fitness_of(outcome) for outcome in found]
                return sizes[max(range(len(sizes)), key=lambda i: (fitness[i], -problem.cost_of(sizes[i])))]
            for trial, size, outcome in zip(trials, sizes[-len(trials) :], outcomes, strict=True):
                study.tell(trial, objectives(outcome, problem, size))


class InBand(NSGAIISampler):
    """NSGA-II over the sizes of a band: its children are repaired before they are trained, or anyone's parents.

    Optuna keeps trials that are enqueued, as the repaired ones of `optuna_tpe` are, out of every generation.

    Args:
        starts: the first generation, as large as any.
    """

    def __init__(self, band: Band, starts: Sequence[Size], rng: np.random.Generator) -> None:
        super().__init__(population_size=len(starts), seed=int(rng.integers(2**32)))
        self.band, self.starts, self.rng = band, starts, rng

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Rows with a choice, from the first trial on."""
        return {row: choice for row, choice in grid_of(self.band.space).items() if not choice.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A start, or a child of two parents."""
        space = self.band.space
        child = super().sample_relative(study, trial, search_space)  # without the rows that mutate
        if trial.number < len(self.starts):
            params = params_of(space.indices(self.starts[trial.number]), space)
        else:
            [drawn] = space.sample_indices(self.rng, 1)
            mutated = np.array([child.get(row, index) for row, index in params_of(drawn, space).items()])
            params = params_of(nearest(mutated, self.band, self.rng), space)
        return {row: params[row] for row in search_space}


def objectives(outcome: Outcome, problem: Problem, size: Size) -> tuple[float, float]:
    """Validation accuracy and cost; of a failed training no accuracy and the unpruned network's cost."""
    fitness = fitness_of(outcome)
    return fitness, problem.cost_of(size if fitness >= 0 else problem.backbone.full)
