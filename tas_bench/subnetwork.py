"""One size inside a trained supernet, as a plain network: to score sizes without training them.

It computes what the supernet computes at that size alone. Where the widths of a shortcut differ, the narrower side
is padded with zeros, so that the stream between blocks may be wider than the deployed network's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tas_bench import measure
from tas_bench.data import Passes
from tas_bench.layers import ElasticConv, padded_sum
from tas_bench.loop import accuracy, run_through
from tas_bench.network import ACTIVATIONS, ConvNorm, Network
from tas_bench.space import Size
from tas_bench.supernet import Supernet


def score(supernet: Supernet, size: Size, calibration: Passes, judged: Passes, precision: str) -> float:
    """Accuracy of a size with the supernet's weights, batch-norm statistics taken anew.

    Args:
        size: of the supernet's space.
        calibration: training images whose statistics are taken.
        judged: validation images.
    """
    network = SubNetwork(supernet, size)
    recalibrate(network, calibration, precision)
    return accuracy(network, judged, precision)


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Passes, precision: str) -> None:
    """Set every batch norm's running statistics to their mean over one pass; training kept none."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over batches
    network.train()
    for x, _ in batches:
        run_through(network, x, precision)


class SubNetwork(Network):
    """A copy of the supernet's weights at one size of its space."""

    @torch.no_grad()
    def __init__(self, supernet: Supernet, size: Size) -> None:
        nn.Module.__init__(self)
        backbone = supernet.backbone
        net: Any = supernet
        backbone.check(size)
        self.activation = ACTIVATIONS[backbone.activation]()
        self.stem = _plain(net.convs[0], size.widths[0], net.convs[0].weight.shape[1])
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if backbone.stem_pool else nn.Identity()
        channels = size.widths[0]
        self.stages = nn.ModuleList()
        for s, depth in enumerate(size.depths):
            blocks = nn.Sequential()
            for b in range(depth):
                block = _PaddedBlock(net, size, s, b, channels)
                blocks.append(block)
                channels = block.channels
            self.stages.append(blocks)
        self.head = nn.Identity()
        if backbone.head_width:
            self.head = nn.Sequential(_plain(net.convs[-1], size.widths[-1], channels), self.activation)
            channels = size.widths[-1]
        self.classifier = nn.Linear(channels, net.classifier.out_features)
        self.classifier.weight.copy_(net.classifier.weight[:, :channels])
        self.classifier.bias.copy_(net.classifier.bias)
        measure.channels_last(self, net.classifier.weight.device)


class _PaddedBlock(nn.Module):
    """A block of the supernet at one size; `channels` come out."""

    def __init__(self, net: Any, size: Size, stage: int, block: int, c_in: int) -> None:
        super().__init__()
        backbone, width = net.backbone, c_in
        self.between = ACTIVATIONS[backbone.activation]()
        self.last = nn.Identity() if backbone.linear_blocks else self.between
        self.convs = nn.ModuleList()
        for p, step in enumerate(backbone.steps(stage, block)):
            if step.row is None:
                self.convs.append(_plain(net.depthwise[f"{stage}-{block}-{p}"], width, width))
            else:
                self.convs.append(_plain(net.convs[step.row], size.widths[step.row], width))
                width = size.widths[step.row]
        self.shortcut: nn.Module | None = None
        self.channels = width
        if backbone.has_shortcut(stage, block):
            self.shortcut = nn.Identity()
            self.channels = max(c_in, width)
            if backbone.joins_unequal(stage, block):
                stride = backbone.stages[stage].stride
                pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
                self.shortcut = nn.Sequential(pool, _plain(net.shortcuts[f"{stage}-{block}"], width, c_in))
                self.channels = width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, channels, H / stride, W / stride)."""
        out = x
        for conv in self.convs[:-1]:
            out = self.between(conv(out))
        out = self.convs[-1](out)
        return self.last(out if self.shortcut is None else padded_sum(out, self.shortcut(x)))


def _plain(conv: Any, c_out: int, c_in: int) -> ConvNorm:
    """An elastic (or depthwise) convolution and its batch norm at one width."""
    depthwise = not isinstance(conv, ElasticConv)
    plain = ConvNorm(c_in, c_out, conv.weight.shape[-1], conv.stride, depthwise=depthwise)
    row = () if depthwise else (conv.candidates.index(c_out),)
    inner: Any = plain
    inner[0].weight.copy_(conv.weight[:c_out] if depthwise else conv.weight[:c_out, :c_in])
    inner[1].weight.copy_(conv.gamma[(*row, slice(c_out))])
    inner[1].bias.copy_(conv.beta[(*row, slice(c_out))])
    return plain
