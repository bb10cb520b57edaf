"""The cost loss of Equation 8 and its E_cost(A), the probability-weighted sum over all candidate networks.

A cost is a sum over layers, and a layer's cost depends on two widths that are drawn independently, so the
expectation is exact without enumeration: p_in^T F p_out per layer, where F holds the layer's cost (the same
formula as for integers) at every pair of candidate widths, times the probability that its block is kept.
A depthwise layer's two widths are one draw: every row of its F is the diagonal, and p_in, of sum one, drops out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tas_bench.costs.layer import Cost, Layer, Tap
from tas_bench.space import SizeSpace


class ExpectedCost(nn.Module):
    """Maps the candidates' probabilities to the expected cost.

    Args:
        exact: count the 1 x 1 shortcuts that a width mismatch needs. The released code leaves them out.
    """

    pairs: Tensor
    kept: Tensor

    def __init__(self, layers: Sequence[Layer], space: SizeSpace, cost: Cost, exact: bool = True) -> None:
        super().__init__()
        layers = [layer for layer in layers if exact or not layer.repairs_mismatch]
        self.space, self.by_index = space, cost.by_index
        self.stages = [layer.source for layer in layers if len(layer.source.convs) > 1]
        self.sources = [self._row(layer.source) for layer in layers]
        self.targets = [self._row(layer.target) for layer in layers]
        self.register_buffer("pairs", torch.from_numpy(np.stack([self._pairs(la, cost) for la in layers])))
        self.register_buffer("kept", torch.from_numpy(np.stack([self._kept(layer) for layer in layers])))
        self.depth_rows = [len(space.widths) + (layer.stage or 0) for layer in layers]

    def forward(self, p: Tensor) -> Tensor:
        """Expected cost (scalar, float64) from probabilities p (rows, most candidates)."""
        p = p.double()
        constant = torch.zeros_like(p[:1])
        constant[0, 0] = 1
        table = torch.cat([p, *(self._mixture(tap, p) for tap in self.stages), constant])
        per_layer = torch.einsum("li,lij,lj->l", table[self.sources], self.pairs, table[self.targets])
        return (per_layer * (self.kept * p[self.depth_rows]).sum(dim=1)).sum()

    def _mixture(self, tap: Tap, p: Tensor) -> Tensor:
        """Distribution (1, candidates) of a stage's output width: that of its last kept block."""
        assert tap.stage is not None
        if self.by_index:
            return p[[tap.convs[-1]]]
        depths = self.space.depths[tap.stage]
        q = p[len(self.space.widths) + tap.stage, : len(depths)]
        return q[None] @ p[[tap.convs[d - 1] for d in depths]]

    def _row(self, tap: Tap) -> int:
        """Row of the table in `forward` that holds the tap's distribution."""
        if not tap.convs:
            return len(self.space.rows) + len(self.stages)
        if len(tap.convs) == 1:
            return tap.convs[0]
        return len(self.space.rows) + self.stages.index(tap)

    def _values(self, tap: Tap) -> np.ndarray:
        if not tap.convs:
            return np.full(self.space.padded.shape[1], tap.constant)
        return self.space.padded[tap.convs[-1]]

    def _pairs(self, layer: Layer, cost: Cost) -> np.ndarray:
        """The layer's cost at every pair of candidate widths: F (candidates in, candidates out)."""
        c_in, c_out = np.meshgrid(self._values(layer.source), self._values(layer.target), indexing="ij")
        c_in = c_out if layer.depthwise else c_in  # one draw sets both
        there = (c_in != c_out) if layer.repairs_mismatch else np.ones_like(c_in, dtype=bool)
        return np.asarray(there * cost.of_layer(layer, c_in, c_out), dtype=np.float64)

    def _kept(self, layer: Layer) -> np.ndarray:
        """Which depth candidates of the layer's stage keep its block; all, for stem and classifier."""
        most = self.space.padded.shape[1]
        if layer.stage is None:
            return np.ones(most)
        depths = self.space.padded[len(self.space.widths) + layer.stage]
        return (depths > layer.block).astype(np.float64)


def cost_loss(expected: Tensor, actual: Tensor, low: float, high: float) -> Tensor:
    """Equation 8. The argmax network's cost `actual` sets the sign, log E_cost carries the gradient."""
    sign = (actual > high).to(expected.dtype) - (actual < low).to(expected.dtype)
    return sign * torch.log(expected)
