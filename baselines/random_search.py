"""Random search: N uniform draws inside the budget band, each trained; the best on the validation half wins.

The paper names it "an NAS baseline used in [31]" (DARTS), which draws 24; "20 H" of the rebuttal is about
24 trainings of ResNet-32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tas_bench.budget import Band
from tas_bench.errors import PlanFailedError
from tas_bench.fitness import Fitness, best_of
from tas_bench.jobs import Plan, Problem


@dataclass(frozen=True, kw_only=True)
class RandomSearch(Fitness):
    """Random search.

    Attributes:
        trials: sizes drawn and judged.
    """

    name: ClassVar[str] = "random_search"
    label: ClassVar[str] = "Random Search"

    trials: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "trials")

    @property
    def jobs(self) -> int:
        """One per trial."""
        return self.trials + self.supernets

    def plan(self, problem: Problem, seed: int) -> Plan:
        """One batch of trials."""
        rng = np.random.default_rng([seed, 0])
        sizes = Band.of(problem).sample(rng, self.trials)
        outcomes = yield from self.judge(problem, sizes, seed)
        best = best_of(outcomes)
        if best is None:
            raise PlanFailedError(f"all {self.trials} trials failed, the first: {outcomes[0].error}")
        return sizes[best]
