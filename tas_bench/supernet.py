"""The supernet: a backbone whose every convolution runs at sampled widths and every stage at all its depths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tas_bench.backbones.backbone import Backbone, ImageShape
from tas_bench.fused import add_relu
from tas_bench.layers import DepthwiseConv, ElasticConv, interpolation_matrix, padded_sum, sample_candidates
from tas_bench.space import SizeSpace


class Sampling(Protocol):
    """How candidates are drawn: the settings of a search have these."""

    @property
    def samples(self) -> int:
        """|I| of Equation 4: candidates drawn of every width."""
        ...

    @property
    def depth_samples(self) -> int | None:
        """Candidates drawn of every depth (Equation 5); None takes all of them."""
        ...

    @property
    def selection(self) -> str:
        """How they are weighed: "gumbel" by Equation 3, "mixture" by Equation 2."""
        ...


@dataclass(frozen=True)
class Sample:
    """One draw of a supernet.

    Attributes:
        picks: candidate indices of every convolution.
        weights: their weights (convolutions, I).
        depth_picks: candidate indices of every stage's depth.
        depth_weights: their weights (stages, I_d).
    """

    picks: list[list[int]]
    weights: Tensor
    depth_picks: list[list[int]]
    depth_weights: Tensor

    @classmethod
    def of(cls, indices: Sequence[int], convs: int, device: str = "cpu") -> Sample:
        """A single size, as candidate indices of every row, widths first."""
        one = torch.ones(len(indices), 1, device=device)
        picks = [[int(i)] for i in indices]
        return cls(picks[:convs], one[:convs], picks[convs:], one[convs:])


class Architecture(nn.Module):
    """The architecture parameters A: alpha for every width, beta for every depth (rows of one table)."""

    missing: Tensor
    last: Tensor

    def __init__(self, space: SizeSpace) -> None:
        super().__init__()
        self.space = space
        most = space.padded.shape[1]
        counts = torch.from_numpy(space.counts)[:, None]
        self.logits = nn.Parameter(torch.empty(len(space.rows), most).normal_(0, 0.01))
        self.register_buffer("missing", torch.arange(most) >= counts, persistent=False)
        self.register_buffer("last", counts - 1, persistent=False)

    def log_p(self) -> Tensor:
        """Log-probabilities (rows, candidates) of Equation 2; -inf past a row's candidates."""
        return torch.log_softmax(self.logits.masked_fill(self.missing, -torch.inf), dim=1)

    def sample(self, how: Sampling, tau: float, generator: torch.Generator | None = None) -> Sample:
        """Draw widths (Equations 3 and 4) and depths (Equation 5)."""
        convs, log_p = len(self.space.widths), self.log_p()
        alpha, beta = log_p[:convs], log_p[convs:]
        mixture, deepest = how.selection == "mixture", max(map(len, self.space.depths))
        picks, weights = sample_candidates(alpha, tau, min(how.samples, alpha.shape[1]), generator, mixture)
        depths = min(how.depth_samples or deepest, deepest)
        depth_picks, depth_weights = sample_candidates(beta, tau, depths, generator, mixture)
        # where a row has fewer candidates than samples, what is drawn past its end has weight zero
        both = torch.cat([picks.minimum(self.last[:convs]).flatten(), depth_picks.flatten()]).tolist()
        width_picks, depth_picks_ = (
            [part[i : i + n] for i in range(0, len(part), n)]
            for part, n in ((both[: picks.numel()], picks.shape[1]), (both[picks.numel() :], depths))
        )
        return Sample(width_picks, weights, depth_picks_, depth_weights)


def discrepancies(p: Tensor) -> Tensor:
    """Gap (rows,) between the two most probable of p (rows, candidates): Figure 3, b and d."""
    if p.shape[1] == 1:
        return p[:, 0]
    top = p.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def entropies(p: Tensor) -> Tensor:
    """Entropy (rows,) of every row's distribution, in nats."""
    return torch.special.entr(p).sum(dim=1)


class Supernet(nn.Module):
    """Interprets a backbone's stages over sampled widths and depths, from images to logits."""

    def __init__(
        self, backbone: Backbone, space: SizeSpace, classes: int, image: ImageShape, alignment: str = "cwi"
    ) -> None:
        """Build it with random weights.

        Args:
            alignment: how widths are matched, see `interpolation_matrix`.
        """
        super().__init__()
        self.backbone, self.space, self.alignment = backbone, space, alignment
        self.macs = 0
        self.convs = nn.ModuleList()
        self.shortcuts = nn.ModuleDict()
        self.depthwise = nn.ModuleDict()
        self.activation = F.relu if backbone.activation == "relu" else F.relu6
        c_in = image.channels
        for i, conv in enumerate(backbone.convs):
            self.convs.append(ElasticConv(c_in, space.widths[i], conv.kernel, conv.stride, alignment))
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
                    self.shortcuts[f"{s}-{b}"] = ElasticConv(before, candidates, 1, 1, alignment)
        self.classifier = nn.Linear(c_in, classes)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor, sample: Sample) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes), at the sampled widths and the mixture of depths.

        `macs` is set to the multiply-accumulates this took per image.
        """
        self.macs = 0
        x = self.activation(self._conv(0, x, sample))
        if self.backbone.stem_pool:
            x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        for s in range(len(self.backbone.stages)):
            x = self._stage(s, x, sample)
        if self.backbone.head_width:
            x = self.activation(self._conv(len(self.convs) - 1, x, sample))
        features = x.mean(dim=(2, 3))
        self.macs += features.shape[1] * self.classifier.out_features
        return F.linear(features, self.classifier.weight[:, : features.shape[1]], self.classifier.bias)

    def _conv(self, i: int, x: Tensor, sample: Sample) -> Tensor:
        return self._counted(self.convs[i], x, sample.picks[i], sample.weights[i])

    def _counted(self, module: Any, *inputs: Any) -> Tensor:
        """The module's output, its multiply-accumulates booked."""
        out: Tensor = module(*inputs)
        self.macs += module.macs
        return out

    def _stage(self, stage: int, x: Tensor, sample: Sample) -> Tensor:
        """The blocks up to the deepest pick; the outputs at the picked depths aggregated as Equation 5 says."""
        depths, weights = self.space.depths[stage], sample.depth_weights[stage]
        # a stage with fewer candidates than samples: what is drawn past their end has weight zero
        wanted = {depths[j]: i for i, j in enumerate(sample.depth_picks[stage]) if j < len(depths)}
        outputs = {}
        for block in range(max(wanted)):
            x = self._block(stage, block, x, sample)
            if block + 1 in wanted:
                outputs[wanted[block + 1]] = x
        if len(outputs) == 1:
            return x
        widest = max(out.shape[1] for out in outputs.values())
        aligned = []
        for i, out in outputs.items():
            matrix = weights[i] * interpolation_matrix(widest, out.shape[1], self.alignment, str(out.device))
            aligned.append(F.conv2d(out, matrix[:, :, None, None]))  # one pass, equal widths or not
            self.macs += out.shape[1] * widest * out.shape[2] * out.shape[3]
        return reduce(Tensor.add_, aligned)

    def _block(self, stage: int, block: int, x: Tensor, sample: Sample) -> Tensor:
        """A block; where only sampled widths differ, its shortcut is padded with zeros."""
        out = x
        for p, step in enumerate(self.backbone.steps(stage, block)):
            out = self.activation(out, inplace=True) if p > 0 else out
            if step.row is None:
                out = self._counted(self.depthwise[f"{stage}-{block}-{p}"], out)
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
        return self._counted(self.shortcuts[f"{stage}-{block}"], pooled, sample.picks[last], sample.weights[last])
