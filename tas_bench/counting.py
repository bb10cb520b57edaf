"""Exactly uniform draws of sizes whose cost lies in a band, by counting along the chain of blocks.

A block's cost depends on its own widths and the one that comes in. With costs rounded to buckets, the share of
all sizes that costs so much is a sum along the chain, from its end to its start; a draw goes the other way, each
block in proportion to what may follow it. Which sums may be in the band is known up to the rounding: of the draws,
those are kept whose true cost is. Rejection alone finds one size of 5,000 in the band of ResNet-110 at half its
macs, and at 60 % one of 10^8; here more than half of the draws are kept at either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tas_bench.costs.layer import Cost, Layer, Tap
from tas_bench.space import FloatArray, IntArray, SizeSpace

FINE = 16
"""Width of the band in buckets, per block: the most that rounding adds to the band is one bucket per block."""

MOST_BUCKETS = 8_192
"""Buckets at most, which a narrow band would need more of; fewer of the draws are then kept."""


@dataclass(frozen=True)
class Segment:
    """A block, the stem or the tail.

    Attributes:
        rows: the widths it sets, in forward order.
        buckets: rounded cost (widths that may come in, candidates of its rows but the last, of the last).
        shape: candidates of its rows.
    """

    rows: tuple[int, ...]
    buckets: IntArray
    shape: tuple[int, ...]

    def before(self, after: FloatArray) -> FloatArray:
        """Shares (widths coming in, cost from here on), from those behind (candidates of its last row, cost)."""
        found = np.zeros((len(self.buckets), after.shape[1]))
        for coming, own in enumerate(self.buckets):
            for last in range(own.shape[1]):
                for cost, times in zip(*np.unique(own[:, last], return_counts=True), strict=True):
                    if cost < after.shape[1]:
                        found[coming, cost:] += times * after[last, : after.shape[1] - cost]
        return found / math.prod(self.shape)


def _pick(rng: np.random.Generator, shares: FloatArray) -> IntArray:
    """A column of every row, in proportion to the shares."""
    sums = shares.cumsum(axis=1)
    return np.asarray((sums > rng.random((len(sums), 1)) * sums[:, -1:]).argmax(axis=1))


def _place(
    rng: np.random.Generator,
    segment: Segment,
    after: FloatArray,
    sizes: IntArray,
    here: IntArray,
    coming: IntArray,
    left: IntArray,
) -> IntArray:
    """Draw a segment's rows into `sizes[here]` and take its cost off `left`; returns the last row's candidates."""
    buckets = segment.buckets.reshape(len(segment.buckets), -1)[coming]
    rest = left[here, None] - buckets
    shares = np.where(rest >= 0, after[np.arange(buckets.shape[1]) % len(after), rest], 0.0)
    picks = _pick(rng, shares)
    left[here] = rest[np.arange(len(here)), picks]
    if segment.rows:
        sizes[here[:, None], list(segment.rows)] = np.stack(np.unravel_index(picks, segment.shape), axis=1)
    return picks % len(after)


@dataclass(frozen=True)
class Stage:
    """The blocks of a stage, and what was counted from its end to its start.

    Attributes:
        ends: after every block, whether a depth ends there: its candidate index, or None.
        leaving: for every candidate of a block's last row, its place among the widths that may come out.
        after: shares behind every block, (candidates of its last row, cost).
        behind: the part of `after` where the stage ends there, (widths that may come out, cost).
    """

    blocks: list[Segment]
    ends: list[int | None]
    leaving: list[IntArray]
    after: list[FloatArray]
    behind: FloatArray


class Counted:
    """The sizes of a space counted by rounded cost, to draw from those that may be in [low, high]."""

    def __init__(self, layers: Sequence[Layer], space: SizeSpace, cost: Cost, low: float, high: float) -> None:
        self.layers, self.space, self.cost = layers, space, cost
        blocks = [_by_block(layers, stage) for stage in range(len(space.depths))]
        number = sum(map(len, blocks)) + 2
        self.bucket = max(1.0, (high - low) / (FINE * number), high / MOST_BUCKETS)
        rounding = 0.0 if self.bucket == 1 else number / 2
        first = max(0, math.floor(low / self.bucket - rounding))
        self.buckets = math.ceil(high / self.bucket + rounding) + 1
        outside = [layer for layer in layers if layer.stage is None]
        self.stem = self._segment([layer for layer in outside if not layer.source.convs])
        self.tail = self._segment([layer for layer in outside if layer.source.convs])
        self.behind = np.zeros((self.tail.buckets.shape[2], self.buckets))
        self.behind[:, 0] = 1
        shares = self.tail.before(self.behind)
        self.stages: list[Stage] = []
        for stage in reversed(range(len(blocks))):
            counted, shares = self._count(stage, blocks[stage], shares)
            self.stages.insert(0, counted)
        self.after_stem = shares
        self.shares = self.stem.before(shares)
        self.shares[:, :first] = 0

    @property
    def empty(self) -> bool:
        """Whether no size can be in the band."""
        return not self.shares.any()

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Candidate indices (n, rows), uniform over the sizes that may be in the band."""
        sizes = self.space.sample_indices(rng, n)  # rows of dropped blocks stay as they are
        left = _pick(rng, np.repeat(self.shares, n, axis=0))
        everywhere = np.arange(n)
        coming = _place(rng, self.stem, self.after_stem, sizes, everywhere, np.zeros(n, np.int64), left)
        for row, stage in enumerate(self.stages, start=len(self.space.widths)):
            coming = self._draw_stage(rng, row, stage, sizes, coming, left)
        _place(rng, self.tail, self.behind, sizes, everywhere, coming, left)
        return sizes

    def _draw_stage(
        self, rng: np.random.Generator, row: int, stage: Stage, sizes: IntArray, coming: IntArray, left: IntArray
    ) -> IntArray:
        """Draw a stage's depth and the rows of the blocks kept; returns what comes out."""
        out = np.zeros_like(coming)
        here = np.arange(len(sizes))
        for block, segment in enumerate(stage.blocks):
            coming = _place(rng, segment, stage.after[block], sizes, here, coming, left)
            end = stage.ends[block]
            if end is None:
                continue
            leaving = stage.leaving[block][coming]
            share = stage.behind[leaving, left[here]] / stage.after[block][coming, left[here]]
            ended = rng.random(len(here)) < share
            sizes[here[ended], row] = end
            out[here[ended]] = leaving[ended]
            here, coming = here[~ended], coming[~ended]
        return out

    def _count(
        self, stage: int, blocks: Sequence[Sequence[Layer]], behind: FloatArray
    ) -> tuple[Stage, FloatArray]:
        """A stage, from what was counted behind it (widths that may come out, cost)."""
        depths = self.space.depths[stage]
        segments = [self._segment(own) for own in blocks]
        coming_out = np.unique(np.concatenate([self.space.widths[segment.rows[-1]] for segment in segments]))
        leaving = [np.searchsorted(coming_out, self.space.widths[segment.rows[-1]]) for segment in segments]
        ends = [depths.index(block + 1) if block + 1 in depths else None for block in range(len(blocks))]
        after: list[FloatArray] = []
        shares = np.zeros((len(self.space.widths[segments[-1].rows[-1]]), self.buckets))
        for segment, out, end in zip(reversed(segments), reversed(leaving), reversed(ends), strict=True):
            after.insert(0, shares if end is None else shares + behind[out] / len(depths))
            shares = segment.before(after[0])
        return Stage(segments, ends, leaving, after, behind / len(depths)), shares

    def _segment(self, layers: Sequence[Layer]) -> Segment:
        """Rows set by these layers, which stand or fall together, and the sum of their costs."""
        rows, costs = costs_of(layers, self.space, self.cost)
        buckets = np.minimum(np.rint(costs / self.bucket).astype(np.int64), self.buckets)
        own = costs.shape[1:]
        return Segment(rows, buckets.reshape(len(costs), -1, own[-1] if own else 1), own)


def costs_of(layers: Sequence[Layer], space: SizeSpace, cost: Cost) -> tuple[tuple[int, ...], IntArray]:
    """Rows set by layers that stand or fall together, in forward order, and the sums of the layers' costs.

    Returns:
        The rows, and costs (widths that may come in, candidates of each row).
    """
    first = layers[0]
    rows = tuple(sorted({la.target.convs[0] for la in layers if la.target.convs and not la.depthwise}))
    values = [_values(first.source, space), *(np.array(space.widths[row]) for row in rows)]
    grid = np.meshgrid(*values, indexing="ij")
    widths = np.zeros((grid[0].size, len(space.widths)), np.int64)
    for columns, chosen in zip((first.source.convs, *((row,) for row in rows)), grid, strict=True):
        widths[:, list(columns)] = chosen.reshape(-1, 1)
    depths = np.ones((len(widths), len(space.depths)), np.int64)
    if first.stage is not None:
        depths[:, first.stage] = first.block + 1
    return rows, cost.many(layers, widths, depths).reshape(grid[0].shape)


def _by_block(layers: Sequence[Layer], stage: int) -> list[list[Layer]]:
    blocks: dict[int, list[Layer]] = {}
    for layer in layers:
        if layer.stage == stage:
            blocks.setdefault(layer.block, []).append(layer)
    return list(blocks.values())


def _values(tap: Tap, space: SizeSpace) -> IntArray:
    """The widths a tap may have; one, of no account, where it is a constant."""
    return np.unique(np.concatenate([space.widths[conv] for conv in tap.convs])) if tap.convs else np.zeros(1, int)
