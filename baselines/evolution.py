"""Regularised evolution (Real et al., AAAI 2019, arXiv 1802.01548, Algorithm 1): tournaments, and the oldest die.

The paper's workers each replace one model at a time, on their own. Here a step makes `parallel` children of one
population, none of which knows how its siblings do, and as many of the oldest die; `parallel` = 1 is Algorithm 1.
A mutation changes one width or depth, and the others give way until the budget is met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tas_bench.budget import Band, nearest
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.fitness import Fitness, best_of, fitness_of
from tas_bench.jobs import Outcome, Plan, Problem
from tas_bench.space import IntArray


@dataclass(frozen=True, kw_only=True)
class Evolution(Fitness):
    """Aging evolution; by default as many trainings as random search has, the first of them the same.

    Attributes:
        cycles: C, sizes judged in all.
        population_size: P, sizes drawn at random to begin with, and alive at any time.
        sample_size: S, sizes of the population (drawn with replacement) of which the best is the parent.
        parallel: children per step.
    """

    name: ClassVar[str] = "evolution"
    label: ClassVar[str] = "Regularised Evolution"

    cycles: int = 24
    population_size: int = 8
    sample_size: int = 4
    parallel: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "population_size", "sample_size", "parallel")
        if self.cycles < self.population_size:
            raise InputError(
                f"evolution.cycles is {self.cycles}; it must be at least population_size, {self.population_size}"
            )

    @property
    def jobs(self) -> int:
        """One per size."""
        return self.cycles + self.supernets

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Algorithm 1; what failed counts as the worst."""
        band, rng = Band.of(problem), np.random.default_rng([seed, 0])  # random search's draws
        models = [band.space.indices(size) for size in band.sample(rng, self.population_size)]
        history: list[tuple[IntArray, Outcome]] = []
        while True:
            outcomes = yield from self.judge(problem, [band.space.size(model) for model in models], seed)
            history += zip(models, outcomes, strict=True)
            best = best_of([outcome for _, outcome in history])
            if best is None:
                raise PlanFailedError(f"the whole population failed, the first: {outcomes[0].error}")
            missing = self.cycles - len(history)
            if not missing:
                return band.space.size(history[best][0])
            population = history[-self.population_size :]  # the oldest die
            parents = [self._parent(population, rng) for _ in range(min(self.parallel, missing))]
            models = [mutate(parent, problem, band, rng) for parent in parents]

    def _parent(self, population: list[tuple[IntArray, Outcome]], rng: np.random.Generator) -> IntArray:
        """The best of a sample."""
        sample = [population[i] for i in rng.integers(len(population), size=self.sample_size)]
        return max(sample, key=lambda model: fitness_of(model[1]))[0]


def mutate(parent: IntArray, problem: Problem, band: Band, rng: np.random.Generator) -> IntArray:
    """Another candidate for one row of those that matter (the width of a dropped block does not), then in band."""
    space, canonical = band.space, problem.backbone.canonical
    child = parent
    for row in rng.permutation(np.flatnonzero(space.counts > 1)):
        child = parent.copy()
        child[row] = rng.choice(np.delete(np.arange(space.counts[row]), parent[row]))
        if canonical(space.size(child)) != canonical(space.size(parent)):
            break
    return nearest(child, band, rng, kept=row)
