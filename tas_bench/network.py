"""The deployed network of any size: plain modules, no masks, no supernet code.

Shortcuts follow the released deployment code (`xautodl/models/shape_infers`): where the stride is 2, an
average pooling and a 1 x 1 convolution; where only widths differ, a 1 x 1 convolution. The backbone says which
of them a batch norm follows.
"""

from __future__ import annotations

import typing

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tas_bench.backbones.backbone import Backbone, ImageShape
from tas_bench.space import Size

ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch norm (or none)."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int, norm: bool = True, depthwise: bool = False
    ) -> None:
        groups = c_in if depthwise else 1
        conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(c_out) if norm else nn.Identity())


class Shortcut(nn.Sequential):
    """1 x 1 convolution, behind an average pooling where the stride is 2."""

    def __init__(self, c_in: int, c_out: int, stride: int, norm: bool) -> None:
        pool = nn.AvgPool2d(stride, stride, ceil_mode=True) if stride > 1 else nn.Identity()
        super().__init__(pool, ConvNorm(c_in, c_out, kernel=1, stride=1, norm=norm))


class Block(nn.Module):
    """Convolutions with an activation between, plus the shortcut if there is one, then an activation or none."""

    def __init__(self, backbone: Backbone, convs: list[ConvNorm], shortcut: nn.Module | None) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.shortcut = shortcut
        self.between = ACTIVATIONS[backbone.activation]()
        self.last = nn.Identity() if backbone.linear_blocks else self.between

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        out = x
        for conv in self.convs[:-1]:
            out = self.between(conv(out))
        out = self.convs[-1](out)
        return self.last(out if self.shortcut is None else out + self.shortcut(x))


class Network(nn.Module):
    """A backbone at one size, from images to logits."""

    def __init__(self, backbone: Backbone, size: Size, classes: int, image: ImageShape | None = None) -> None:
        """Build it, for the backbone's own images by default.

        Raises:
            InputError: the size does not fit the backbone.
        """
        super().__init__()
        backbone.check(size)
        channels = size.widths[0]
        stem = backbone.convs[0]
        self.stem = ConvNorm((image or backbone.image).channels, channels, stem.kernel, stem.stride)
        self.activation = ACTIVATIONS[backbone.activation]()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if backbone.stem_pool else nn.Identity()
        self.stages = nn.ModuleList()
        for s, depth in enumerate(size.depths):
            blocks = nn.Sequential()
            for b in range(depth):
                block, channels = _block(backbone, size, s, b, channels)
                blocks.append(block)
            self.stages.append(blocks)
        self.head: nn.Module = nn.Identity()
        if backbone.head_width:
            self.head = nn.Sequential(ConvNorm(channels, size.widths[-1], kernel=1, stride=1), self.activation)
            channels = size.widths[-1]
        self.classifier = nn.Linear(channels, classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes)."""
        x = self.pool(self.activation(self.stem(x)))
        for stage in self.stages:
            x = stage(x)
        return self.classifier(self.head(x).mean(dim=(2, 3)))


def fold_norms(network: nn.Module) -> None:
    """Fold every batch norm into its convolution, for a network that is only evaluated."""
    for module in network.modules():
        if isinstance(module, ConvNorm) and isinstance(module[1], nn.BatchNorm2d):
            conv, norm = typing.cast("nn.Conv2d", module[0]), module[1]
            module[0] = fuse_conv_bn_eval(conv.eval(), norm.eval())
            module[1] = nn.Identity()


def _block(backbone: Backbone, size: Size, stage: int, block: int, c_in: int) -> tuple[Block, int]:
    """One block, and the number of channels it puts out."""
    parts, channels = [], c_in
    for step in backbone.steps(stage, block):
        c_out = channels if step.row is None else size.widths[step.row]
        parts.append(ConvNorm(channels, c_out, step.kernel, step.stride, depthwise=step.row is None))
        channels = c_out
    shortcut = _shortcut(backbone, stage, block, c_in, channels)
    return Block(backbone, parts, shortcut), channels


def _shortcut(backbone: Backbone, stage: int, block: int, c_in: int, c_out: int) -> nn.Module | None:
    if not backbone.has_shortcut(stage, block):
        return None
    if not backbone.joins_unequal(stage, block) and c_in == c_out:
        return nn.Identity()
    stride = backbone.stages[stage].stride if block == 0 else 1
    return Shortcut(c_in, c_out, stride, norm=backbone.shortcut_norm(stage, block))


def _initialise(network: nn.Module) -> None:
    """He initialisation by fan-out for convolutions, a small normal for the classifier."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
