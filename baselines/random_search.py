"""Random search: N uniform draws inside the budget band, each trained; the best on the validation half wins.

The paper names it "an NAS baseline used in [31]" (DARTS), which draws 24; "20 H" of the rebuttal is about
24 trainings of ResNet-32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tas_bench.budget import Band
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.jobs import Outcome, Plan, Problem
from tas_bench.train import candidate_job


@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """Random search.

    Attributes:
        trials: sizes drawn and trained.
        proxy_epochs: epochs of each trial; None takes the recipe's.
    """

    name: ClassVar[str] = "random_search"
    label: ClassVar[str] = "Random Search"

    trials: int = 24
    proxy_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError(f"random_search.trials is {self.trials}; it must be at least 1")
        if self.proxy_epochs is not None and self.proxy_epochs < 1:
            raise InputError(f"random_search.proxy_epochs is {self.proxy_epochs}; it must be at least 1")

    @property
    def jobs(self) -> int:
        """One training per trial."""
        return self.trials

    def plan(self, problem: Problem, seed: int) -> Plan:
        """One batch of trials."""
        rng = np.random.default_rng([seed, 0])
        sizes = Band.of(problem).sample(rng, self.trials)
        outcomes = yield [candidate_job(problem, size, seed, self.proxy_epochs) for size in sizes]
        best = best_of(outcomes)
        if best is None:
            raise PlanFailedError(f"all {self.trials} trials failed, the first: {outcomes[0].error}")
        return sizes[best]


def best_of(outcomes: Sequence[Outcome]) -> int | None:
    """Index of the highest validation accuracy, the first of equals; None if all failed."""
    fitness = [fitness_of(outcome) for outcome in outcomes]
    return fitness.index(max(fitness)) if max(fitness) >= 0 else None


def fitness_of(outcome: Outcome) -> float:
    """Validation accuracy; -1, worse than any, where there is none."""
    accuracy = outcome.val_accuracy
    return accuracy if outcome.ok and accuracy is not None and not math.isnan(accuracy) else -1.0
