"""CMA-ES on widths and depths (the rebuttal's Q4.2, estimated there at over 1,000 GPU-hours).

A point is the table of logits of all widths and depths, or one position per width and depth along its candidates.
It is decoded to the in-band size of the highest sum of logits, or to the one nearest to it: where a point's own
size meets the budget, to that. Fitness is validation accuracy.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tas_bench.budget import Band, most_probable
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.fitness import Fitness, best_of, fitness_of
from tas_bench.jobs import Outcome, Plan, Problem
from tas_bench.space import Size

CODINGS = ("logits", "index")

LEAST = 6
"""Sizes per generation where nobody says otherwise."""


@dataclass(frozen=True, kw_only=True)
class CmaEs(Fitness):
    """CMA-ES; by default as many sizes as random search has, on up to `LEAST` slots.

    Attributes:
        generations: how often a population is asked for.
        population: sizes judged per generation; None takes as many as the run that began it had slots, at least
            `LEAST`.
        coding: what a point is: "logits" (alpha and beta) or "index" (a position along each row's candidates).
        sigma: initial step size; logits start at zero, positions in the middle, a quarter of the way being 1.
    """

    name: ClassVar[str] = "cma_es"
    label: ClassVar[str] = "CMA-ES"

    generations: int = 4
    population: int | None = None
    coding: str = "logits"
    sigma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "generations")
        self.at_least(2, "population")
        if self.coding not in CODINGS:
            raise InputError(f"cma_es.coding is '{self.coding}'; choose {' or '.join(CODINGS)}")
        if not 0 < self.sigma < math.inf:
            raise InputError(f"cma_es.sigma is {self.sigma}; it must be positive")

    @property
    def jobs(self) -> int:
        """One per point."""
        return self.generations * (self.population or LEAST) + self.supernets

    def for_slots(self, slots: int) -> CmaEs:
        """The same where so many jobs run side by side."""
        return self if self.population is not None else replace(self, population=max(LEAST, slots))

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Ask, judge, tell; the best size seen wins, the first of equals. Where all is flat it starts anew."""
        band, rng = Band.of(problem), np.random.default_rng([seed, 1])
        decode = decode_logits if self.coding == "logits" else decode_positions
        dimensions = int(band.space.counts.sum()) if self.coding == "logits" else len(band.space.counts)
        strategy = self._strategy(np.zeros(dimensions), rng)
        sizes: list[Size] = []
        found: list[Outcome] = []
        for generation in range(self.generations):
            points = strategy.ask()
            sizes += [decode(point, band) for point in points]
            outcomes = yield from self.judge(problem, sizes[len(found) :], seed)
            found += outcomes
            losses = losses_of(outcomes)
            if losses is None:
                raise PlanFailedError(f"generation {generation + 1} failed whole, the first: {outcomes[0].error}")
            strategy.tell(points, losses)
            if min(losses) == max(losses) or strategy.stop():
                strategy = self._strategy(rng.standard_normal(dimensions), rng)
        best = best_of(found)
        assert best is not None
        return sizes[best]

    def _strategy(self, start: NDArray[np.float64], rng: np.random.Generator) -> Any:
        """The optimiser, with a random generator of its own (its `seed` option would reseed global numpy)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cma warns when matplotlib, which only its plots need, is missing
            import cma  # with matplotlib, which takes a second

        options = {
            "popsize": self.population or LEAST, "randn": lambda *shape: rng.standard_normal(shape),
            "seed": math.nan, "verbose": -9, "verb_log": 0, "verb_disp": 0,
        }  # fmt: skip
        return cma.CMAEvolutionStrategy(start, self.sigma, options)


def decode_logits(point: NDArray[np.float64], band: Band) -> Size:
    """A point (all candidates of all rows in one vector) to the in-band size of the highest sum of logits."""
    counts = band.space.counts
    logits = np.zeros((len(counts), counts.max()))
    logits[np.arange(counts.max()) < counts[:, None]] = point
    return band.space.size(most_probable(logits, band))


def decode_positions(point: NDArray[np.float64], band: Band) -> Size:
    """A point (one coordinate per row) to the in-band size nearest to it, by the sum of squares."""
    counts = band.space.counts
    positions = np.clip((counts - 1) / 2 + point * counts / 4, 0, counts - 1)
    return band.space.size(most_probable(-((np.arange(counts.max()) - positions[:, None]) ** 2), band))


def losses_of(outcomes: Sequence[Outcome]) -> list[float] | None:
    """1 - fitness of every outcome; a failed one counts as the worst of the others. None if all failed."""
    known = [fitness_of(outcome) for outcome in outcomes if fitness_of(outcome) >= 0]
    return [1 - max(fitness_of(outcome), min(known)) for outcome in outcomes] if known else None
