"""What every cost needs to know of one layer, and the cost of a whole network as the sum over layers.

A backbone lists its layers once, symbolically: where each layer's channels come from (`Tap`), and in which
block it lives. A size then says how many channels each tap has and which blocks are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tas_bench.space import IntArray, Size


@dataclass(frozen=True)
class Tap:
    """A place whose channel count a layer reads or sets.

    Attributes:
        convs: the convolutions (indices into `Size.widths`) whose output this may be: one, or one per block
            for a stage's output, which is that of the last kept block. Empty for a constant.
        stage: the stage whose depth picks among `convs`.
        constant: channels of the image, or the number of classes.
    """

    convs: tuple[int, ...] = ()
    stage: int | None = None
    constant: int = 0


@dataclass(frozen=True)
class Layer:
    """One convolution (or the linear classifier: kernel 1 at one position) of a backbone.

    Attributes:
        positions: output height times width.
        block: number of the block in its stage; the layer is there while `depths[stage] > block`.
        stage: None for stem and classifier, which are always there.
        norm: a batch norm follows.
        depthwise: each output channel reads its own input channel alone; `source` and `target` are one tap.
        repairs_mismatch: a 1 x 1 shortcut that is there only where its input and output widths differ.
        positions_in: input height times width.
        role: what the deployed network does with it, which decides its latency: "conv" (then the activation),
            "pooled" (then max pooling as well), "join" (the shortcut is added first), "linear" (nothing follows),
            "linear join" (the shortcut is added, nothing follows),
            "shortcut" (behind an average pooling where strided), "classifier" (behind the mean over positions).
    """

    source: Tap
    target: Tap
    kernel: int
    stride: int
    positions: int
    stage: int | None = None
    block: int = 0
    norm: bool = True
    bias: bool = False
    repairs_mismatch: bool = False
    depthwise: bool = False
    positions_in: int = 0
    role: str = "conv"

    def weights(self, c_in: Any, c_out: Any) -> Any:
        """k^2 C_in C_out; k^2 C where depthwise."""
        return self.kernel**2 * (c_out if self.depthwise else c_in * c_out)


LayerCost = Callable[[Layer, Any, Any], Any]
"""Cost of a layer from its input and output channels: Python integers, arrays and tensors alike."""


UNITS = {"params": (1e3, "k"), "latency": (1e3, "µs")}
"""Where it is not millions. A latency is counted in nanoseconds, so that sums are exact."""


def noun(name: str) -> str:
    """What the cost of that name counts, in a word: "latency" for "latency:KEY"."""
    return name.partition(":")[0]


def amount(name: str, value: float, digits: int = 3) -> str:
    """A value of the cost of that name, in the unit people read it in."""
    size, unit = UNITS.get(noun(name), (1e6, "M"))
    return f"{value / size:.{digits}f} {unit}"


@dataclass(frozen=True)
class Cost:
    """A cost of a network, as a sum over its layers.

    Attributes:
        name: "macs", or "latency:KEY" for one that is looked up in a table.
        by_index: read a stage's output width at its *last* block, kept or not, as the released search code
            does (rule S); otherwise at the last kept block, as the deployed network has it (rule I).
    """

    name: str
    of_layer: LayerCost
    by_index: bool = False

    @property
    def noun(self) -> str:
        """What it counts, in a word."""
        return noun(self.name)

    def amount(self, value: float, digits: int = 3) -> str:
        """A value in its unit, for people."""
        return amount(self.name, value, digits)

    def many(self, layers: Sequence[Layer], widths: IntArray, depths: IntArray) -> IntArray:
        """Costs (N,) of N sizes given as widths (N, convolutions) and depths (N, stages)."""

        def channels(tap: Tap) -> IntArray:
            if not tap.convs:
                return np.full(len(widths), tap.constant)
            if tap.stage is None or self.by_index:
                return widths[:, tap.convs[-1]]
            last_kept = np.array(tap.convs)[depths[:, tap.stage] - 1]
            return widths[np.arange(len(widths)), last_kept]

        total = np.zeros(len(widths), dtype=np.int64)
        for layer in layers:
            c_in, c_out = channels(layer.source), channels(layer.target)
            there = np.ones(len(widths), bool) if layer.stage is None else depths[:, layer.stage] > layer.block
            if layer.repairs_mismatch:
                there &= c_in != c_out
            here = np.flatnonzero(there)  # a look-up may know nothing of what is not there
            total[here] += self.of_layer(layer, c_in[here], c_out[here])
        return total

    def of(self, layers: Sequence[Layer], size: Size) -> int:
        """The cost of one size."""
        return int(self.many(layers, np.array([size.widths]), np.array([size.depths]))[0])
