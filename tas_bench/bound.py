"""How probable an in-band size can be at most: what the heuristic of `most_probable` is measured against.

Lagrangian relaxation: whatever lambda >= 0, no size of cost <= high scores more than

    max over all sizes of  score + lambda (high - cost)

and likewise with low from below. A backbone is a chain of blocks, and a block's cost depends on its own widths and
the one that comes in: so that maximum is a walk along the chain (Viterbi), exact for any lambda.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tas_bench.budget import Band, most_probable, scores_of
from tas_bench.costs.layer import Layer
from tas_bench.counting import costs_of
from tas_bench.space import FloatArray, IntArray


def most_probable_and_gap(logits: FloatArray, band: Band) -> tuple[IntArray, float]:
    """`most_probable`, and how much higher the best in-band score may be at most: 0 where the size is exact.

    Raises:
        InputError: no in-band size was found.
    """
    found = most_probable(logits, band)
    scores = scores_of(logits, band)
    score = float(scores[np.arange(len(found)), found].sum())
    return found, 0.0 if band.enumerable else max(0.0, upper_bound(scores, band) - score)


def upper_bound(scores: FloatArray, band: Band) -> float:
    """An upper bound on the score of an in-band size; scores (rows, candidates), -inf past a row's candidates."""
    from scipy.optimize import minimize_scalar  # which takes half a second

    chain = Chain(scores, band)
    argmax_cost = float(band.costs(scores.argmax(axis=1)[None])[0])
    sign, edge = (1.0, band.high) if argmax_cost > band.high else (-1.0, band.low)

    def relaxed(steepness: float) -> float:
        """Steepness: lambda in units of 1 / edge."""
        slope = sign * steepness / edge
        return chain.best(slope) + slope * edge

    steep = 1.0
    while relaxed(2 * steep) < relaxed(steep) and steep < 1e9:
        steep *= 2
    return float(min(relaxed(0.0), minimize_scalar(relaxed, bounds=(0.0, 2 * steep), method="bounded").fun))


@dataclass(frozen=True)
class Segment:
    """A block, the stem or the tail: rows of its own, and its cost (candidates coming in, own candidates ...)."""

    rows: tuple[int, ...]
    cost: IntArray


class Chain:
    """A space's rows as a chain of segments, to maximise score - slope x cost over all sizes."""

    def __init__(self, scores: FloatArray, band: Band) -> None:
        self.scores, self.band = scores, band
        space, layers = band.space, band.layers
        blocks: dict[tuple[int, int], list[Layer]] = {}
        outside: list[list[Layer]] = [[], []]
        for layer in layers:
            if layer.stage is None:
                outside[bool(layer.source.convs)].append(layer)
            else:
                blocks.setdefault((layer.stage, layer.block), []).append(layer)
        stem, tail = outside
        self.stem = self._segment(stem)
        self.stages: list[list[Segment]] = [[] for _ in space.depths]
        for (stage, _), own in blocks.items():
            self.stages[stage].append(self._segment(own))
        self.tail = self._segment(tail)

    def best(self, slope: float) -> float:
        """Max over all sizes of score - slope x cost."""
        coming = self._through(self.stem, np.zeros(1), slope)
        for stage, segments in enumerate(self.stages):
            coming = self._stage(stage, segments, coming, slope)
        return float(self._through(self.tail, coming, slope).max())

    def _stage(self, stage: int, segments: Sequence[Segment], coming: FloatArray, slope: float) -> FloatArray:
        """The best over the stage's depths; rows of dropped blocks are free."""
        space = self.band.space
        free = [sum(self.scores[row].max() for row in segment.rows) for segment in segments]
        ends = []
        for block, segment in enumerate(segments):
            coming = self._through(segment, coming, slope)
            if block + 1 in space.depths[stage]:
                kept = self.scores[len(space.widths) + stage, space.depths[stage].index(block + 1)]
                ends.append(coming + kept + sum(free[block + 1 :]))
        return np.max(ends, axis=0)

    def _through(self, segment: Segment, coming: FloatArray, slope: float) -> FloatArray:
        """Best score of every candidate of the segment's last row."""
        total = coming.reshape(-1, *[1] * len(segment.rows)) - slope * segment.cost
        for axis, row in enumerate(segment.rows, start=1):
            own = self.scores[row, : self.band.space.counts[row]]
            total = total + own.reshape(-1, *[1] * (len(segment.rows) - axis))
        return np.asarray(total.max(axis=tuple(range(total.ndim - 1))) if segment.rows else total)

    def _segment(self, layers: Sequence[Layer]) -> Segment:
        return Segment(*costs_of(layers, self.band.space, self.band.cost))
