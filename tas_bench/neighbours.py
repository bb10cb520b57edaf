"""The costs of all sizes one change away from a size, kept up to date as it changes.

A row bears on a few layers: after a change only the rows that share a layer with it are costed anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tas_bench.costs.layer import Cost, Layer, Tap
from tas_bench.space import IntArray, SizeSpace


class Neighbours:
    """A size and its neighbours.

    Attributes:
        indices: the size, as candidate indices.
        cost: what it costs.
        changes: what each candidate (rows, most candidates) would add to that, where it is in `others`.
        others: the candidates that are not the size's own.
        tied: pairs of rows whose changes do not add up, since both bear on one layer.
    """

    def __init__(self, indices: IntArray, layers: Sequence[Layer], space: SizeSpace, cost: Cost) -> None:
        self.layers, self.space, self._of = layers, space, cost
        self.indices = indices.copy()
        self.changes = np.zeros_like(space.padded)
        self.cost = int(cost.many(layers, *space.values(indices[None]))[0])
        self._anew()

    @property
    def others(self) -> NDArray[np.bool_]:
        """The candidates that are not the size's own."""
        columns = np.arange(self.changes.shape[1])
        return np.asarray((columns < self.space.counts[:, None]) & (columns != self.indices[:, None]))

    def move(self, row: int, candidate: int) -> None:
        """Change one row."""
        self.cost += int(self.changes[row, candidate])
        self.indices[row] = candidate
        if row < len(self.space.widths):
            self._refresh(np.flatnonzero(self.tied[row]))
        else:
            self._anew()

    def _anew(self) -> None:
        """All changes, which a depth may all have altered."""
        self._lay_out()
        rows, candidates = np.nonzero(self.others)
        sizes = np.repeat(self.indices[None], len(rows), axis=0)
        sizes[np.arange(len(rows)), rows] = candidates
        self.changes[:] = 0
        self.changes[rows, candidates] = self._of.many(self.layers, *self.space.values(sizes)) - self.cost

    def _lay_out(self) -> None:
        """Which layers each row bears on, at these depths."""
        convs, rows = len(self.space.widths), len(self.indices)
        depths = self.space.padded[np.arange(convs, rows), self.indices[convs:]]
        self._bears: list[list[Layer]] = [[] for _ in range(rows)]
        self.tied = np.eye(rows, dtype=bool)

        def width_at(tap: Tap) -> list[int]:
            return list(tap.convs) if tap.stage is None else [tap.convs[depths[tap.stage] - 1]]

        for layer in self.layers:
            taps = layer.source, layer.target
            stages = {layer.stage, layer.source.stage, layer.target.stage} - {None}
            deep = [convs + stage for stage in stages if stage is not None]
            widths = {row for tap in taps for row in tap.convs}
            now = [row for tap in taps for row in width_at(tap)]
            here = layer.stage is None or depths[layer.stage] > layer.block
            for row in {*deep, *(now if here else ())}:
                self._bears[row].append(layer)
                self.tied[row, [*deep, *(now if here else ())]] = True
            for row in deep:
                self.tied[row, list(widths)] = self.tied[list(widths), row] = True

    def _refresh(self, rows: IntArray) -> None:
        """The changes of these rows, from the layers they bear on."""
        for row in rows:
            count = int(self.space.counts[row])
            if count == 1 or not self._bears[row]:
                continue
            options = np.repeat(self.indices[None], count, axis=0)
            options[:, row] = np.arange(count)
            costs = self._of.many(self._bears[row], *self.space.values(options))
            self.changes[row, :count] = costs - costs[self.indices[row]]
