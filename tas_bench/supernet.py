"""The supernet: a backbone whose every convolution runs at sampled widths and every stage at all its depths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tas_bench.backbones.backbone import Backbone, ImageShape
from tas_bench.fused import add_relu
from tas_bench.layers import (
    DepthwiseConv,
    ElasticConv,
    channel_interpolation,
    gumbel_like,
    padded_sum,
    sample_candidates,
)
from tas_bench.space import SizeSpace


@dataclass(frozen=True)
class Sample:
    """One draw of a supernet.

    Attributes:
        picks: I candidate indices per convolution.
        weights: their weights (convolutions, I).
        depth_weights: weights of all depth candidates (stages, most candidates).
    """

    picks: list[list[int]]
    weights: Tensor
    depth_weights: Tensor


class Architecture(nn.Module):
    """The architecture parameters A: alpha for every width, beta for every depth (rows of one table)."""

    missing: Tensor

    def __init__(self, space: SizeSpace) -> None:
        super().__init__()
        self.space = space
        most = space.padded.shape[1]
        self.logits = nn.Parameter(torch.empty(len(space.rows), most).normal_(0, 0.01))
        self.register_buffer("missing", torch.arange(most) >= torch.from_numpy(space.counts)[:, None])

    def log_p(self) -> Tensor:
        """Log-probabilities (rows, candidates) of Equation 2; -inf past a row's candidates."""
        return torch.log_softmax(self.logits.masked_fill(self.missing, -torch.inf), dim=1)

    def sample(self, tau: float, samples: int, generator: torch.Generator | None = None) -> Sample:
        """Draw widths (Equations 3 and 4) and depth weights (Equation 5)."""
        convs = len(self.space.widths)
        log_p = self.log_p()
        picks, weights = sample_candidates(log_p[:convs], tau, min(samples, log_p.shape[1]), generator)
        # a row with fewer candidates than samples: what is drawn past its end has weight zero
        picks = torch.minimum(picks, torch.from_numpy(self.space.counts[:convs])[:, None].to(picks.device) - 1)
        beta = log_p[convs:]
        depth_weights = torch.softmax((beta + gumbel_like(beta, generator)) / tau, dim=1)
        return Sample(picks.tolist(), weights, depth_weights)


class Supernet(nn.Module):
    """Interprets a backbone's stages over sampled widths and depths, from images to logits."""

    def __init__(self, backbone: Backbone, space: SizeSpace, classes: int, image: ImageShape) -> None:
        super().__init__()
        self.backbone, self.space = backbone, space
        self.convs = nn.ModuleList()
        self.shortcuts = nn.ModuleDict()
        self.depthwise = nn.ModuleDict()
        self.activation = F.relu if backbone.activation == "relu" else F.relu6
        c_in = image.channels
        for i, conv in enumerate(backbone.convs):
            self.convs.append(ElasticConv(c_in, space.widths[i], conv.kernel, conv.stride))
            c_in = conv.width
        for s, stage in enumerate(backbone.stages):
            for b in range(stage.blocks):
                width = before = backbone.convs[backbone.conv_index(s, b, 0) - 1].width
                for p, step in enumerate(backbone.steps(s, b)):
                    if step.row is None:
                        self.depthwise[f"{s}-{b}-{p}"] = DepthwiseConv(width, step.kernel, step.stride)
                    else:
                        width = backbone.convs[step.row].width
                if backbone.has_shortcut(s, b) and backbone.joins_unequal(s, b):
                    candidates = space.widths[backbone.conv_index(s, b)]
                    self.shortcuts[f"{s}-{b}"] = ElasticConv(before, candidates, kernel=1, stride=1)
        self.classifier = nn.Linear(c_in, classes)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image of the last forward pass."""
        convs = (m for m in self.modules() if isinstance(m, ElasticConv | DepthwiseConv))
        return sum(m.macs for m in convs) + self.classifier.weight.numel()

    def forward(self, x: Tensor, sample: Sample) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes), at the sampled widths and the mixture of depths."""
        x = self.activation(self._conv(0, x, sample))
        if self.backbone.stem_pool:
            x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        for s in range(len(self.backbone.stages)):
            x = self._stage(s, x, sample)
        if self.backbone.head_width:
            x = self.activation(self._conv(len(self.convs) - 1, x, sample))
        features = x.mean(dim=(2, 3))
        return F.linear(features, self.classifier.weight[:, : features.shape[1]], self.classifier.bias)

    def _conv(self, i: int, x: Tensor, sample: Sample) -> Tensor:
        return self.convs[i](x, sample.picks[i], sample.weights[i])

    def _stage(self, stage: int, x: Tensor, sample: Sample) -> Tensor:
        """All blocks; the outputs at the candidate depths aggregated as Equation 5 says."""
        depths = self.space.depths[stage]
        outputs = []
        for block in range(depths[-1]):
            x = self._block(stage, block, x, sample)
            if block + 1 in depths:
                outputs.append(x)
        if len(outputs) == 1:
            return x
        widest = max(out.shape[1] for out in outputs)
        weights = sample.depth_weights[stage, : len(outputs)]
        aligned = [q * channel_interpolation(out, widest) for q, out in zip(weights, outputs, strict=True)]
        return torch.stack(aligned).sum(0)

    def _block(self, stage: int, block: int, x: Tensor, sample: Sample) -> Tensor:
        """A block; where only sampled widths differ, its shortcut is padded with zeros."""
        out = x
        for p, step in enumerate(self.backbone.steps(stage, block)):
            out = self.activation(out, inplace=True) if p > 0 else out
            if step.row is None:
                out = self.depthwise[f"{stage}-{block}-{p}"](out)
            else:
                out = self._conv(step.row, out, sample)
        return self._end(stage, block, out, x, sample)

    def _end(self, stage: int, block: int, out: Tensor, x: Tensor, sample: Sample) -> Tensor:
        """Add the block's shortcut, if it has one; then the activation, if there is one."""
        linear = self.backbone.linear_blocks
        if self.backbone.has_shortcut(stage, block):
            x = self._shortcut(stage, block, self.backbone.conv_index(stage, block), x, sample)
            if self.activation is F.relu and not linear:
                return add_relu(out, x)
            out = padded_sum(out, x)
        return out if linear else self.activation(out, inplace=True)

    def _shortcut(self, stage: int, block: int, last: int, x: Tensor, sample: Sample) -> Tensor:
        """Identity, or the 1 x 1 convolution that shares the draw of the block's last convolution."""
        if f"{stage}-{block}" not in self.shortcuts:
            return x
        stride = self.backbone.stages[stage].stride
        pooled = F.avg_pool2d(x, stride, ceil_mode=True) if stride > 1 else x
        return self.shortcuts[f"{stage}-{block}"](pooled, sample.picks[last], sample.weights[last])
