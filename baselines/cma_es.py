"""CMA-ES on the architecture parameters (the rebuttal's Q4.2, estimated there at over 1,000 GPU-hours).

A point is the table of logits of all widths and depths. It is decoded to the in-band size of the highest sum of
logits: the argmax where that meets the budget, its nearest repair where not. Fitness is validation accuracy.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tas_bench.budget import Band, most_probable
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.jobs import Outcome, Plan, Problem
from tas_bench.space import Size
from tas_bench.train import candidate_job

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # cma warns when matplotlib, which only its plots need, is missing
    import cma


@dataclass(frozen=True, kw_only=True)
class CmaEs:
    """CMA-ES; by default as many trainings in all as random search has.

    Attributes:
        generations: how often a population is asked for.
        population: sizes trained per generation.
        sigma: initial step size; logits start at zero.
        proxy_epochs: epochs of each training; None takes the recipe's.
    """

    name: ClassVar[str] = "cma_es"
    label: ClassVar[str] = "CMA-ES"

    generations: int = 4
    population: int = 6
    sigma: float = 1.0
    proxy_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.generations < 1 or self.population < 2:
            raise InputError("cma_es.generations must be at least 1 and cma_es.population at least 2")
        if not 0 < self.sigma < math.inf:
            raise InputError(f"cma_es.sigma is {self.sigma}; it must be positive")
        if self.proxy_epochs is not None and self.proxy_epochs < 1:
            raise InputError(f"cma_es.proxy_epochs is {self.proxy_epochs}; it must be at least 1")

    @property
    def jobs(self) -> int:
        """One training per point."""
        return self.generations * self.population

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Ask, train, tell; the best size seen wins, the first of equals."""
        band = Band.of(problem)
        strategy = self._strategy(band, np.random.default_rng([seed, 1]))
        best: tuple[float, Size] | None = None
        for generation in range(self.generations):
            points = strategy.ask()
            sizes = [decode(point, band) for point in points]
            outcomes = yield [candidate_job(problem, size, seed, self.proxy_epochs) for size in sizes]
            losses = losses_of(outcomes)
            if losses is None:
                raise PlanFailedError(f"generation {generation + 1} failed whole, the first: {outcomes[0].error}")
            strategy.tell(points, losses)
            leader = int(np.argmin(losses))
            if best is None or losses[leader] < best[0]:
                best = losses[leader], sizes[leader]
        assert best is not None
        return best[1]

    def _strategy(self, band: Band, rng: np.random.Generator) -> Any:
        """The optimiser, with a random generator of its own (its `seed` option would reseed global numpy)."""
        options = {
            "popsize": self.population, "randn": lambda *shape: rng.standard_normal(shape),
            "seed": math.nan, "verbose": -9, "verb_log": 0, "verb_disp": 0,
        }  # fmt: skip
        return cma.CMAEvolutionStrategy(np.zeros(int(band.space.counts.sum())), self.sigma, options)


def decode(point: NDArray[np.float64], band: Band) -> Size:
    """A point (all candidates of all rows in one vector) to the in-band size of the highest sum of logits."""
    counts = band.space.counts
    logits = np.zeros((len(counts), counts.max()))
    logits[np.arange(counts.max()) < counts[:, None]] = point
    return band.space.size(most_probable(logits, band))


def losses_of(outcomes: Sequence[Outcome]) -> list[float] | None:
    """1 - validation accuracy of every outcome; a failed one counts as the worst. None if all failed."""
    losses = [1 - o.val_accuracy if o.ok and o.val_accuracy is not None else math.nan for o in outcomes]
    known = [x for x in losses if not math.isnan(x)]
    return [max(known) if math.isnan(x) else x for x in losses] if known else None
