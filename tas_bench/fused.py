"""Two steps of the supernet that take fewer passes over a feature map than autograd's parts would.

`add_relu` ends a residual block. `normalised_mix` is batch normalisation and channel mixing in one:

    y = A x_hat + b        x_hat = (o - mean) / sqrt(var + eps), batch statistics per channel

The normalisation folds into the mixing matrix, y = W o + (b - W mean) with W = A diag(rstd), so x_hat is never
stored: kept for backward are `o` and a few vectors. With N pixels per channel and g the gradient of y,

    dA = (g o^T - (sum g) mean^T) diag(rstd)
    do = W^T g + c1 o + c0        c1 = -rstd^2 m2,  c0 = -rstd m1 - c1 mean
    m1 = A^T (sum g) / N,         m2 = diag(A^T dA) / N

where m1 and m2 are the means of x_hat's gradient and of its product with x_hat.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-5


def pixels(x_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) as a matrix (pixels, C); a view where the layout is channels-last."""
    return x_BCHW.permute(0, 2, 3, 1).reshape(-1, x_BCHW.shape[1])


def _channel_sums(flat: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    """Sums (C,) over the pixels of a matrix (pixels, C): over images first, in long rows that vectorise."""
    return flat.view(batch, -1).sum(0, dtype=dtype).view(-1, flat.shape[1]).sum(0)


def _outer(a: Tensor, b: Tensor) -> Tensor:
    """a^T b (C_a, C_b) of matrices (pixels, C): the sum over pixels is shared out among the threads of a CPU."""
    parts = 1 if a.is_cuda else math.gcd(len(a), torch.get_num_threads())
    if parts == 1:
        return a.t() @ b
    shape = (parts, len(a) // parts)
    return torch.bmm(a.view(*shape, -1).transpose(1, 2), b.view(*shape, -1)).sum(0)


class _NormalisedMix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, o: Tensor, mix: Tensor, shift: Tensor) -> Tensor:
        flat = pixels(o)
        mean = _channel_sums(flat, len(o), mix.dtype) / len(flat)
        var = _channel_sums(flat.square(), len(o), mix.dtype) / len(flat) - mean.square()
        rstd = torch.rsqrt(var.clamp_min(0) + EPS)
        weight = mix * rstd
        ctx.save_for_backward(o, mix, mean, rstd)
        return F.conv2d(o, weight.to(o.dtype)[:, :, None, None], (shift - weight @ mean).to(o.dtype))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        o, mix, mean, rstd = ctx.saved_tensors
        g = g.contiguous(memory_format=torch.channels_last)
        flat_g, flat_o = pixels(g), pixels(o)
        sum_g = _channel_sums(flat_g, len(g), mix.dtype)
        d_mix = (_outer(flat_g, flat_o).to(mix.dtype) - sum_g[:, None] * mean) * rstd
        m1 = sum_g @ mix / len(flat_g)
        m2 = (mix * d_mix).sum(0) / len(flat_g)
        c1 = -rstd.square() * m2
        c0 = -rstd * m1 - c1 * mean
        weight = (mix * rstd).t().to(g.dtype)
        d_o = F.conv2d(g, weight[:, :, None, None], c0.to(g.dtype))
        scaled = c1.to(g.dtype)[:, None, None]
        # on a CPU the fused form is faster in float32 only
        d_o = d_o.add_(o * scaled) if g.dtype == torch.bfloat16 else d_o.addcmul_(o, scaled)
        return d_o, d_mix, sum_g


def normalised_mix(o: Tensor, mix: Tensor, shift: Tensor) -> Tensor:
    """Batch-normalise `o` (B, C, H, W) without affine parameters, then mix channels.

    Args:
        mix: A (C_out, C).
        shift: b (C_out,).

    Returns:
        (B, C_out, H, W), in the type of `o`.
    """
    y: Tensor = _NormalisedMix.apply(o, mix, shift)
    return y


class _AddRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.channels = a.shape[1], b.shape[1]
        wide, narrow = (a, b) if a.shape[1] >= b.shape[1] else (b, a)
        if wide.shape == narrow.shape:
            y = wide + narrow
        else:
            y = wide.clone()
            y[:, : narrow.shape[1]] += narrow
        y = y.relu_()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        (y,) = ctx.saved_tensors
        g = torch.ops.aten.threshold_backward(g, y, 0)
        c_a, c_b = ctx.channels
        return g[:, :c_a], g[:, :c_b]


def add_relu(a: Tensor, b: Tensor) -> Tensor:
    """ReLU of the sum of two feature maps (B, C, H, W); the narrower counts as padded with zero channels."""
    y: Tensor = _AddRelu.apply(a, b)
    return y
