"""Meeting a budget, the same way for every method: sizes whose deployed cost lies in a band.

Four tools over a `Band`: uniform draws, the most probable size under given logits (used to derive a search's
result and to repair an optimiser's proposal), the nearest size to a given one, and a check that the band can be
met at all.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tas_bench.costs.layer import Cost, Layer
from tas_bench.counting import Counted
from tas_bench.errors import InputError
from tas_bench.neighbours import Neighbours
from tas_bench.space import FloatArray, IntArray, Size, SizeSpace

if TYPE_CHECKING:
    from tas_bench.jobs import Problem

ENUMERABLE = 50_000
"""Spaces up to this many sizes are searched exhaustively."""

BATCH = 512
"""Sizes drawn at once, of which those in the band are kept."""

HOPELESS = 200_000
"""Draws without an in-band size after which there is taken to be none."""

DRAWS, FEW = 100, 20_000
"""In-band sizes that are drawn where no change leads into the band, and `hopeless` then: it may be empty."""

DEPTH_STARTS = 100
"""Combinations of depths from which a descent into the band is tried."""

GAIN = 1e-12
"""Less is rounding."""

PAIRS = 256
"""Pairs of changes costed at once."""

DOUBLES = 5_000
"""Pairs of changes tried where no single change leads closer to the band."""


@dataclass(frozen=True)
class Band:
    """The sizes of `space` whose `cost` is in [low, high]."""

    layers: tuple[Layer, ...]
    space: SizeSpace
    cost: Cost
    low: float
    high: float

    @classmethod
    def of(cls, problem: Problem, space: SizeSpace | None = None) -> Band:
        """The band of a problem's budget, in its whole space by default."""
        return cls(problem.layers, space or problem.space, problem.counted, *problem.band)

    def costs(self, indices: IntArray) -> IntArray:
        """Costs (N,) of sizes given as candidate indices (N, rows)."""
        return self.cost.many(self.layers, *self.space.values(indices))

    def holds(self, costs: IntArray) -> NDArray[np.bool_]:
        """Which of these costs meet the budget."""
        return (self.low <= costs) & (costs <= self.high)

    def distances(self, costs: IntArray) -> FloatArray:
        """How far these costs are from the band."""
        return np.maximum(np.maximum(self.low - costs, costs - self.high), 0.0)

    def neighbours(self, indices: IntArray) -> Neighbours:
        """The costs of all sizes one change away."""
        return Neighbours(indices, self.layers, self.space, self.cost)

    @property
    def enumerable(self) -> bool:
        """Whether the space is small enough to look at every size."""
        return self.space.cardinality <= ENUMERABLE

    def __str__(self) -> str:
        return f"{self.cost.amount(self.low)} to {self.cost.amount(self.high)} {self.cost.noun}"

    def check(self) -> None:
        """Refuse a band that no size of the space meets.

        Raises:
            InputError: says which range can be met.
        """
        _check(self)  # once: plans of all seeds ask, and large spaces take a second

    def _refuse_out_of_reach(self) -> None:
        rows = len(self.space.rows)
        ends = np.stack([np.zeros(rows, np.int64), self.space.counts - 1])
        least, most = (int(cost) for cost in self.costs(ends))
        wanted = f"no size has {self}"
        if self.low > most or self.high < least:
            reach = f"{self.cost.amount(least)} to {self.cost.amount(most)}"
            raise InputError(f"{wanted}; this space reaches {reach}: change keep")
        try:
            most_probable(np.zeros(self.space.padded.shape), self)
        except InputError as error:
            raise InputError(f"{wanted} although the space spans them: widen t") from error

    def sample(self, rng: np.random.Generator, n: int, hopeless: int = HOPELESS) -> list[Size]:
        """Draw n in-band sizes, exactly uniformly; the first of more draws are those of fewer.

        Args:
            hopeless: draws outside the band after which there are taken to be none inside.

        Raises:
            InputError: no in-band size was found.
        """
        counted = _counted(self)
        kept: list[IntArray] = []
        for batch in itertools.count(1):
            if len(kept) >= n:
                break
            if counted.empty or (not kept and batch * BATCH > hopeless):
                raise InputError(f"no size found with {self}")
            draws = counted.draw(rng, BATCH)
            kept.extend(draws[self.holds(self.costs(draws))])
        return [self.space.size(indices) for indices in kept[:n]]


@lru_cache(maxsize=4)  # some 30 MB each for the largest networks
def _counted(band: Band) -> Counted:
    return Counted(band.layers, band.space, band.cost, band.low, band.high)


@lru_cache(maxsize=256)
def _check(band: Band) -> None:
    band._refuse_out_of_reach()


def most_probable(logits: FloatArray, band: Band) -> IntArray:
    """The in-band size with the highest sum of logits, as candidate indices (rows,).

    Exact where the space has at most `ENUMERABLE` sizes. Elsewhere: from the argmax, the changes that cost the
    least logit per unit of cost until the band is met, then exchanges of one or two rows while they gain.

    Args:
        logits: (rows, most candidates), log-probabilities or any other score; entries past a row's candidates
            are ignored.

    Raises:
        InputError: no in-band size was found.
    """
    scores = scores_of(logits, band)
    if band.enumerable:
        return _best_of_all(scores, band)
    return _polish(_enter_band(scores.argmax(axis=1), scores, band), scores, band)


def nearest(indices: IntArray, band: Band, rng: np.random.Generator, kept: int | None = None) -> IntArray:
    """An in-band size few candidates away from `indices`; row `kept` gives way last.

    A step costs between 1 and 2, drawn anew for every row, so that no row is always the one to give way.
    """
    prices = rng.uniform(1, 2, len(indices))
    if kept is not None:
        prices[kept] = 1e3
    steps = np.abs(np.arange(band.space.counts.max()) - indices[:, None])
    return most_probable(-prices[:, None] * steps, band)


def scores_of(logits: FloatArray, band: Band) -> FloatArray:
    """The logits, -inf past a row's candidates."""
    return np.where(np.arange(logits.shape[1]) < band.space.counts[:, None], logits, -np.inf)


def _score(scores: FloatArray, indices: IntArray) -> FloatArray:
    return np.asarray(scores[np.arange(len(scores)), indices].sum(axis=-1))


def _all_combinations(counts: IntArray) -> IntArray:
    """Every combination of candidate indices, (combinations, rows)."""
    return np.array(list(itertools.product(*(range(n) for n in counts))))


def _best_of_all(scores: FloatArray, band: Band) -> IntArray:
    sizes = _all_combinations(band.space.counts)
    sizes = sizes[band.holds(band.costs(sizes))]
    if not len(sizes):
        raise InputError(f"no size has {band}")
    return np.asarray(sizes[_score(scores, sizes).argmax()])


def _enter_band(indices: IntArray, scores: FloatArray, band: Band) -> Neighbours:
    """Move towards the band by the changes that cost the least score per unit of cost, until inside.

    A depth is a big step, and a descent may end where none of them leads closer: it then starts again from
    the other combinations of depths, the most probable first. Into a very narrow band none may lead: then the best
    of `DRAWS` in-band sizes is taken.

    Raises:
        InputError: there is none.
    """
    convs = len(band.space.widths)
    depths = _all_combinations(band.space.counts[convs:])
    order = np.argsort(-_score(scores[convs:], depths), kind="stable")[:DEPTH_STARTS]
    for start in (indices[convs:], *depths[order]):
        found = _descend(np.concatenate([indices[:convs], start]), scores, band)
        if found is not None:
            return found
    drawn = np.array([band.space.indices(size) for size in band.sample(np.random.default_rng(0), DRAWS, FEW)])
    return band.neighbours(drawn[_score(scores, drawn).argmax()])


def _descend(indices: IntArray, scores: FloatArray, band: Band) -> Neighbours | None:
    """Change one row after another, two at once where no single change leads closer; None where that ends."""
    near = band.neighbours(indices)
    while (away := float(band.distances(np.array(near.cost)))) > 0:
        distances = band.distances(near.cost + near.changes)
        rows, candidates = np.nonzero(near.others & (distances < away))
        if len(rows):
            gone = distances[rows, candidates]
            price = (scores[rows, near.indices[rows]] - scores[rows, candidates]) / (away - gone)
            best = np.lexsort((gone, price))[0]  # of equal prices the longest step
            near.move(int(rows[best]), int(candidates[best]))
            continue
        doubles = _double_changes(near.indices, band.space.counts)
        distances = band.distances(band.costs(doubles))
        closer = distances < away
        if not closer.any():
            return None
        doubles, distances = doubles[closer], distances[closer]
        price = (_score(scores, near.indices[None]) - _score(scores, doubles)) / (away - distances)
        near = band.neighbours(doubles[np.lexsort((distances, price))[0]])
    return near


def _double_changes(indices: IntArray, counts: IntArray) -> IntArray:
    """Sizes that differ from `indices` in two rows: `DOUBLES` of them, the same ones every time."""
    rng = np.random.default_rng(0)
    sizes = np.repeat(indices[None], DOUBLES, axis=0)
    searched = np.flatnonzero(counts > 1)
    for _ in range(2):
        rows = rng.choice(searched, DOUBLES)
        sizes[np.arange(DOUBLES), rows] = rng.integers(0, counts[rows])
    return sizes


def _polish(near: Neighbours, scores: FloatArray, band: Band) -> IntArray:
    """Climb: exchange one row, or the best of the pairs that gain, while the size stays in the band."""
    while True:
        gains = scores - scores[np.arange(len(scores)), near.indices][:, None]
        gains[~near.others] = -np.inf
        single = np.where(band.holds(near.cost + near.changes), gains, -np.inf)
        if single.max() > GAIN:
            moves = [divmod(int(single.argmax()), single.shape[1])]
        else:
            moves = _best_pair(near, gains, band)
        if not moves:
            return near.indices
        for row, candidate in moves:
            near.move(row, candidate)


def _best_pair(near: Neighbours, gains: FloatArray, band: Band) -> list[tuple[int, int]]:
    """Two changes that stay in the band and gain most, one of them gaining more than the other loses; or none."""
    up, up_to = np.nonzero(gains > 0)
    down, down_to = np.nonzero(np.isfinite(gains) & (gains <= 0))
    total = gains[up, up_to][:, None] + gains[down, down_to]
    costs = near.cost + near.changes[up, up_to][:, None] + near.changes[down, down_to]
    tied = near.tied[up[:, None], down]
    first, second = np.nonzero((total > GAIN) & (up[:, None] != down) & (tied | band.holds(costs)))
    order = np.argsort(-total[first, second], kind="stable")
    for start in range(0, len(order), PAIRS):
        i, j = first[order[start : start + PAIRS]], second[order[start : start + PAIRS]]
        sizes = np.repeat(near.indices[None], len(i), axis=0)
        sizes[np.arange(len(i)), up[i]] = up_to[i]
        sizes[np.arange(len(i)), down[j]] = down_to[j]
        held = np.flatnonzero(band.holds(band.costs(sizes)))
        if len(held):
            u, d = i[held[0]], j[held[0]]
            return [(int(up[u]), int(up_to[u])), (int(down[d]), int(down_to[d]))]
    return []
