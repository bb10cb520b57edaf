"""Successive halving (Karnin et al., ICML 2013; Jamieson & Talwalkar, AISTATS 2016, arXiv 1502.07943).

Random sizes train up to a rung, the best 1 / eta of them on to the next, from where they stopped. All follow the
schedule of a full training, so that the last rung ends as random search's trainings do. With the defaults, 24
sizes cost less than six trainings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tas_bench.budget import Band
from tas_bench.errors import PlanFailedError, check_least
from tas_bench.fitness import fitness_of
from tas_bench.jobs import Plan, Problem
from tas_bench.rung import Rung
from tas_bench.train import candidate_job


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """Successive halving; by default over as many sizes as random search draws, and the same.

    Attributes:
        trials: sizes drawn.
        eta: one in so many goes on to the next rung, which is so many times as high.
        rungs: how often sizes are judged; fewer where a training has too few epochs to tell rungs apart.
        proxy_epochs: epochs of the last rung, and of the schedule; None takes the recipe's.
    """

    name: ClassVar[str] = "successive_halving"
    label: ClassVar[str] = "Successive Halving"

    trials: int = 24
    eta: int = 3
    rungs: int = 3
    proxy_epochs: int | None = None

    def __post_init__(self) -> None:
        check_least(self, self.name, 1, "trials", "rungs", "proxy_epochs")
        check_least(self, self.name, 2, "eta")

    @property
    def jobs(self) -> int:
        """One part of a training per size and rung, at most; a single size is not judged any more."""
        later = (self.trials // self.eta**k for k in range(1, self.rungs))
        return self.trials + sum(sizes for sizes in later if sizes > 1)

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Rung after rung; a failed training is the worst and out."""
        sizes = Band.of(problem).sample(np.random.default_rng([seed, 0]), self.trials)  # random search's draws
        ends = self.ends(self.proxy_epochs or problem.recipe.epochs)
        for number in range(len(ends)):
            outcomes = yield [
                Rung(whole=candidate_job(problem, size, seed, ends[-1]), ends=ends, number=number)
                for size in sizes
            ]
            fitness = [fitness_of(outcome) for outcome in outcomes]
            order = sorted(np.flatnonzero(np.array(fitness) >= 0), key=lambda i: -fitness[i])  # ties: the first
            if not order:
                raise PlanFailedError(
                    f"all {len(sizes)} trainings of rung {number + 1} failed, the first: {outcomes[0].error}"
                )
            sizes = [sizes[i] for i in order[: max(1, len(sizes) // self.eta)]]
            if len(sizes) == 1:
                break
        return sizes[0]

    def ends(self, epochs: int) -> tuple[int, ...]:
        """Epochs after which the rungs end: the whole training, an eta-th of it, an eta-th of that ..."""
        return tuple(sorted({max(1, epochs // self.eta**k) for k in range(self.rungs)}))
