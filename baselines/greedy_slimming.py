"""Greedy slimming (AutoSlim: Yu and Huang, 2019, arXiv 1903.11728): shrink what hurts least, down to the budget.

From the unpruned network on, every step tries each width and depth one candidate smaller, all inside one trained
supernet, and keeps the shrinks whose accuracy stays highest. With `fitness` = "train" each try is a short training
of its own, which is NetAdapt (Yang et al., ECCV 2018) but for its steps of equal cost. Unlike AutoSlim's, the
supernet is the one that all share: of sizes drawn uniformly, without the largest in every batch and distillation
from it. Depths shrink beside widths, a whole block at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tas_bench.budget import Band, nearest
from tas_bench.errors import PlanFailedError
from tas_bench.fitness import Fitness, fitness_of
from tas_bench.jobs import Plan, Problem
from tas_bench.space import IntArray


@dataclass(frozen=True, kw_only=True)
class GreedySlimming(Fitness):
    """Greedy slimming.

    Attributes:
        at_once: rows shrunk per step, those that hurt least; 1 is AutoSlim's.
    """

    name: ClassVar[str] = "greedy_slimming"
    label: ClassVar[str] = "Greedy Slimming"

    fitness: str = "shared"
    at_once: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "at_once")

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Shrink until inside the band; a step that would lead past it takes fewer rows, or the nearest size."""
        band, rng = Band.of(problem), np.random.default_rng([seed, 3])
        size = band.space.indices(band.space.full)
        while band.costs(size[None])[0] > band.high:
            tries = shrinks(size, problem, band)
            if not len(tries):
                return band.space.size(nearest(size, band, rng))
            outcomes = yield from self.judge(problem, [band.space.size(one) for one in tries], seed)
            fitness = np.array([fitness_of(outcome) for outcome in outcomes])
            if fitness.max() < 0:
                raise PlanFailedError(f"a whole step failed, the first: {outcomes[0].error}")
            best = [i for i in np.argsort(-fitness, kind="stable")[: self.at_once] if fitness[i] >= 0]
            size = shrunk(size, tries[best], band)
        if band.costs(size[None])[0] < band.low:  # the unpruned network itself
            size = nearest(size, band, rng)
        return band.space.size(size)


def shrinks(size: IntArray, problem: Problem, band: Band) -> IntArray:
    """Every size that is one candidate smaller in one row that matters, and not below the band."""
    canonical, own = problem.backbone.canonical, problem.backbone.canonical(band.space.size(size))
    found = []
    for row in np.flatnonzero(size > 0):
        one = size.copy()
        one[row] -= 1
        if canonical(band.space.size(one)) != own:
            found.append(one)
    tries = np.array(found).reshape(-1, len(size))
    return tries[band.costs(tries) >= band.low]


def shrunk(size: IntArray, best: IntArray, band: Band) -> IntArray:
    """The size with the shrinks of all of `best`, the first of them first, as long as it is above the band."""
    for one in best:
        both = np.minimum(size, one)
        cost, before = band.costs(np.stack([both, size]))
        if before <= band.high or cost < band.low:
            break
        size = both
    return size
