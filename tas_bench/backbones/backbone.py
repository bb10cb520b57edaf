"""A backbone as data: a stem, stages of equal blocks, perhaps one convolution more, a classifier.

One description serves the costs (`layers`), the deployed network (`tas_bench.network`) and the supernet
(`tas_bench.supernet`), so the three cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from tas_bench.costs.layer import Layer, Tap
from tas_bench.errors import InputError
from tas_bench.space import RATIOS, Size, SizeSpace


@dataclass(frozen=True)
class ImageShape:
    """Shape of an input image."""

    channels: int = 3
    side: int = 32


CIFAR = ImageShape()

WIDEST = 65_536
"""Widths beyond this are taken for a mistake: costs are counted in 64-bit integers."""


@dataclass(frozen=True)
class BlockConv:
    """One convolution of a block.

    Attributes:
        strided: carries the stage's stride in the stage's first block.
        expansion: output channels as a multiple of the stage's width.
        of_input: as a multiple of the width of the block's input instead.
        depthwise: one filter per channel. It has no width of its own: its channels are its input's.
    """

    kernel: int
    strided: bool = False
    expansion: int = 1
    of_input: bool = False
    depthwise: bool = False


@dataclass(frozen=True)
class Stage:
    """A run of blocks of equal width; the first has the stride.

    Attributes:
        depths: candidate numbers of blocks, ascending; the last is the full depth.
        block: its block's convolutions, where they are not the backbone's.
    """

    width: int
    stride: int
    depths: tuple[int, ...]
    block: tuple[BlockConv, ...] = ()

    @property
    def blocks(self) -> int:
        """Blocks at full depth."""
        return self.depths[-1]

    def stride_of(self, part: BlockConv, block: int) -> int:
        """Stride of a convolution of that block."""
        return self.stride if part.strided and block == 0 else 1


@dataclass(frozen=True)
class Conv:
    """A convolution that has a width of its own; its index in `Backbone.convs` is its place in `Size.widths`."""

    width: int
    kernel: int
    stride: int
    stage: int | None
    block: int


@dataclass(frozen=True)
class Step:
    """A convolution of a block in its place.

    Attributes:
        row: its place in `Size.widths`; None if it is depthwise.
    """

    kernel: int
    stride: int
    row: int | None


@dataclass(frozen=True)
class Backbone:
    """A family member, residual or plain.

    Attributes:
        block: the block's convolutions, first to last.
        shortcuts: which blocks have one: "all", a 1 x 1 convolution joining what differs; "identity", those alone
            whose unpruned input and output are of one shape; "none".
        activation: follows every convolution but a block's last, and the block.
        linear_blocks: nothing follows the block.
        head_width: channels of a 1 x 1 convolution between the last stage and the classifier; 0: there is none.
        mismatch_norm: whether the 1 x 1 shortcut that repairs a width mismatch (or joins unequal unpruned
            dimensions) at stride 1 is followed by a batch norm.
        stride_norm: whether the one at stride 2 is, which is an average pooling and a 1 x 1 convolution.
        stem_pool: whether a 3 x 3 max pooling of stride 2 follows the stem.
        image: the images it was made for.
    """

    name: str
    stem_width: int
    block: tuple[BlockConv, ...]
    stages: tuple[Stage, ...]
    mismatch_norm: bool
    stride_norm: bool = False
    stem_kernel: int = 3
    stem_stride: int = 1
    stem_pool: bool = False
    image: ImageShape = CIFAR
    shortcuts: Literal["all", "identity", "none"] = "all"
    activation: Literal["relu", "relu6"] = "relu"
    linear_blocks: bool = False
    head_width: int = 0

    @cached_property
    def convs(self) -> tuple[Conv, ...]:
        """Every convolution with a width of its own, in forward order."""
        return tuple(self._convs())

    def _convs(self) -> Iterator[Conv]:
        yield Conv(self.stem_width, self.stem_kernel, self.stem_stride, stage=None, block=0)
        width = self.stem_width
        for s, stage in enumerate(self.stages):
            for b in range(stage.blocks):
                block_input = width
                for part in self._own_widths(s):
                    width = part.expansion * (block_input if part.of_input else stage.width)
                    yield Conv(width, part.kernel, stage.stride_of(part, b), s, b)
        if self.head_width:
            yield Conv(self.head_width, kernel=1, stride=1, stage=None, block=0)

    def parts(self, stage: int) -> tuple[BlockConv, ...]:
        """The convolutions of a stage's block, first to last."""
        return self.stages[stage].block or self.block

    def _own_widths(self, stage: int) -> list[BlockConv]:
        """Those that have a width of their own."""
        return [part for part in self.parts(stage) if not part.depthwise]

    def conv_index(self, stage: int, block: int, part: int = -1) -> int:
        """Place in `Size.widths` of a block's convolution, counting those with a width (its last by default)."""
        before = sum(st.blocks * len(self._own_widths(s)) for s, st in enumerate(self.stages[:stage]))
        own = len(self._own_widths(stage))
        return 1 + before + block * own + part % own

    def steps(self, stage: int, block: int) -> Iterator[Step]:
        """A block's convolutions, first to last."""
        row = self.conv_index(stage, block, 0)
        for part in self.parts(stage):
            stride = self.stages[stage].stride_of(part, block)
            yield Step(part.kernel, stride, row=None if part.depthwise else row)
            row += not part.depthwise

    def has_shortcut(self, stage: int, block: int) -> bool:
        """Whether the block's input is added to its output."""
        if self.shortcuts == "identity":
            return not self.joins_unequal(stage, block)
        return self.shortcuts == "all"

    def joins_unequal(self, stage: int, block: int) -> bool:
        """Whether input and output differ in shape even in the unpruned network."""
        before = self.convs[self.conv_index(stage, block, 0) - 1]
        after = self.convs[self.conv_index(stage, block)]
        return block == 0 and (self.stages[stage].stride != 1 or before.width != after.width)

    def shortcut_norm(self, stage: int, block: int) -> bool:
        """Whether a batch norm follows the 1 x 1 convolution of this block's shortcut, if it has one."""
        strided = block == 0 and self.stages[stage].stride > 1
        return self.stride_norm if strided else self.mismatch_norm

    @property
    def full(self) -> Size:
        """The unpruned size."""
        return Size(tuple(c.width for c in self.convs), tuple(s.blocks for s in self.stages))

    def space(self, search: str = "WD", ratios: tuple[float, ...] = RATIOS) -> SizeSpace:
        """Candidate widths int(n x ratio) and candidate depths; `search` is "W", "D" or "WD"."""
        if search not in ("W", "D", "WD"):
            raise InputError(f"search is '{search}'; it must be W (width), D (depth) or WD (both)")
        widths = [sorted({int(c.width * r) for r in ratios}) if "W" in search else [c.width] for c in self.convs]
        depths = [s.depths if "D" in search else (s.blocks,) for s in self.stages]
        return SizeSpace(tuple(map(tuple, widths)), tuple(depths))

    def check(self, size: Size) -> None:
        """Refuse a size of the wrong form; any positive width may be costed and trained.

        Raises:
            InputError: wrong lengths, a width below 1, a depth of 0 or above the stage's.
        """
        if len(size.widths) != len(self.convs):
            raise InputError(f"{self.name} has {len(self.convs)} widths, the size has {len(size.widths)}")
        if len(size.depths) != len(self.stages):
            raise InputError(f"{self.name} has {len(self.stages)} depths, the size has {len(size.depths)}")
        for i, width in enumerate(size.widths):
            if not 1 <= width <= WIDEST:
                raise InputError(f"width {i} is {width}; widths are integers from 1 to {WIDEST:,}")
        for i, (depth, stage) in enumerate(zip(size.depths, self.stages, strict=True)):
            if not 1 <= depth <= stage.blocks:
                raise InputError(f"depth {i} is {depth}; {self.name} keeps 1 to {stage.blocks} blocks there")

    def canonical(self, size: Size) -> Size:
        """The same network with the ignored entries (those of dropped blocks) set to the unpruned widths."""
        kept = [c.stage is None or size.depths[c.stage] > c.block for c in self.convs]
        widths = (w if k else c.width for w, k, c in zip(size.widths, kept, self.convs, strict=True))
        return Size(tuple(widths), size.depths)

    def stage_output(self, stage: int) -> Tap:
        """The tap behind a stage: its last kept block's last convolution. Stage -1 is the stem."""
        if stage < 0:
            return Tap(convs=(0,))
        blocks = range(self.stages[stage].blocks)
        return Tap(convs=tuple(self.conv_index(stage, b) for b in blocks), stage=stage)

    def layers(self, classes: int, image: ImageShape | None = None) -> tuple[Layer, ...]:
        """Every layer that can cost something, shortcuts and classifier included, on its own images by default."""
        return _layers(self, classes, image or self.image)


@lru_cache(maxsize=64)
def _layers(backbone: Backbone, classes: int, image: ImageShape) -> tuple[Layer, ...]:
    return tuple(_walk(backbone, classes, image))


def _walk(backbone: Backbone, classes: int, image: ImageShape) -> Iterator[Layer]:
    stem = backbone.convs[0]
    side = -(-image.side // stem.stride)
    yield Layer(
        Tap(constant=image.channels), Tap((0,)), stem.kernel, stem.stride, side**2,
        positions_in=image.side**2, role="pooled" if backbone.stem_pool else "conv",
    )  # fmt: skip
    side = -(-side // 2) if backbone.stem_pool else side
    for s, stage in enumerate(backbone.stages):
        for b in range(stage.blocks):
            block_input = Tap((backbone.conv_index(s, b - 1),)) if b else backbone.stage_output(s - 1)
            source, side_in = block_input, side
            for step in backbone.steps(s, b):
                before, side = side, -(-side // step.stride)
                target = source if step.row is None else Tap((step.row,))
                yield Layer(
                    source, target, step.kernel, step.stride, side**2, s, b, depthwise=step.row is None,
                    positions_in=before**2, role=_role(backbone, step, s, b),
                )  # fmt: skip
                source = target
            if backbone.has_shortcut(s, b):
                stride = stage.stride if b == 0 else 1
                yield Layer(
                    block_input, source, 1, stride, side**2, s, b,
                    norm=backbone.shortcut_norm(s, b),
                    repairs_mismatch=not backbone.joins_unequal(s, b),
                    positions_in=side_in**2, role="shortcut",
                )  # fmt: skip
    last = backbone.stage_output(len(backbone.stages) - 1)
    if backbone.head_width:
        head = Tap((len(backbone.convs) - 1,))
        yield Layer(last, head, 1, 1, side**2, positions_in=side**2)
        last = head
    yield Layer(
        last, Tap(constant=classes), 1, 1, 1, norm=False, bias=True, positions_in=side**2, role="classifier"
    )


def _role(backbone: Backbone, step: Step, stage: int, block: int) -> str:
    """What follows a block's convolution."""
    if step.row != backbone.conv_index(stage, block):
        return "conv"
    if backbone.has_shortcut(stage, block):
        return "linear join" if backbone.linear_blocks else "join"
    return "linear" if backbone.linear_blocks else "conv"
