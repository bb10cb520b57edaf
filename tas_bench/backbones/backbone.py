"""A backbone as data: a stem, stages of equal blocks, a classifier.

One description serves the costs (`layers`), the deployed network (`tas_bench.network`) and the supernet
(`tas_bench.supernet`), so the three cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

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
    """

    kernel: int
    strided: bool = False
    expansion: int = 1


@dataclass(frozen=True)
class Stage:
    """A run of blocks of equal width; the first has the stride.

    Attributes:
        depths: candidate numbers of blocks, ascending; the last is the full depth.
    """

    width: int
    stride: int
    depths: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """Blocks at full depth."""
        return self.depths[-1]


@dataclass(frozen=True)
class Conv:
    """A convolution that has a width of its own; its index in `Backbone.convs` is its place in `Size.widths`."""

    width: int
    kernel: int
    stride: int
    stage: int | None
    block: int


@dataclass(frozen=True)
class Backbone:
    """A residual network family member.

    Attributes:
        block: the block's convolutions, first to last.
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

    @cached_property
    def convs(self) -> tuple[Conv, ...]:
        """Every convolution with a width of its own, in forward order."""
        return tuple(self._convs())

    def _convs(self) -> Iterator[Conv]:
        yield Conv(self.stem_width, self.stem_kernel, self.stem_stride, stage=None, block=0)
        for s, stage in enumerate(self.stages):
            for b in range(stage.blocks):
                for part in self.block:
                    stride = stage.stride if part.strided and b == 0 else 1
                    yield Conv(part.expansion * stage.width, part.kernel, stride, s, b)

    def conv_index(self, stage: int, block: int, part: int = -1) -> int:
        """Place in `Size.widths` of a block's convolution (its last by default)."""
        blocks_before = sum(s.blocks for s in self.stages[:stage]) + block
        return 1 + blocks_before * len(self.block) + part % len(self.block)

    def joins_unequal(self, stage: int, block: int) -> bool:
        """Whether even the unpruned network's shortcut needs a 1 x 1 convolution here."""
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
            for p in range(len(backbone.block)):
                i = backbone.conv_index(s, b, p)
                conv = backbone.convs[i]
                before, side = side, -(-side // conv.stride)
                yield Layer(
                    source, Tap((i,)), conv.kernel, conv.stride, side**2, s, b,
                    positions_in=before**2, role="join" if p == len(backbone.block) - 1 else "conv",
                )  # fmt: skip
                source = Tap((i,))
            stride = stage.stride if b == 0 else 1
            yield Layer(
                block_input, source, 1, stride, side**2, s, b,
                norm=backbone.shortcut_norm(s, b),
                repairs_mismatch=not backbone.joins_unequal(s, b),
                positions_in=side_in**2, role="shortcut",
            )  # fmt: skip
    last = backbone.stage_output(len(backbone.stages) - 1)
    yield Layer(
        last, Tap(constant=classes), 1, 1, 1, norm=False, bias=True, positions_in=side**2, role="classifier"
    )
