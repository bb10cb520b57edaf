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


def _statistics(flat: Tensor, batch: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) over the pixels of a matrix (pixels, C), without a square of its size."""
    sums, squares = torch.zeros(2, flat.shape[1], dtype=dtype, device=flat.device).unbind()
    megabytes = flat.numel() * flat.element_size() >> 20  # a CPU works in parts that fit in its cache
    parts = 1 if flat.is_cuda else math.gcd(batch, 1 << max(0, megabytes.bit_length() - 1))
    for part in flat.chunk(parts):
        sums += _channel_sums(part, batch // parts, dtype)
        squares += _channel_sums(part.square(), batch // parts, dtype)
    mean = sums / len(flat)
    return mean, (squares / len(flat) - mean.square()).clamp_min(0)


def _outer(g: Tensor, o: Tensor) -> Tensor:
    """Sum over pixels of g o^T (C_g, C_o): the weights' gradient of a 1 x 1 convolution from o to g."""
    if g.is_cuda:
        return pixels(g).t() @ pixels(o)
    weight = o.new_empty(g.shape[1], o.shape[1], 1, 1)
    _, gradient, _ = torch.ops.aten.convolution_backward(
        g, o, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False]
    )
    return gradient[:, :, 0, 0]


class _NormalisedMix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, o: Tensor, mix: Tensor, shift: Tensor) -> Tensor:
        flat = pixels(o)
        mean, var = _statistics(flat, len(o), mix.dtype)
        rstd = torch.rsqrt(var + EPS)
        weight = mix * rstd
        ctx.save_for_backward(o, mix, mean, rstd)
        return F.conv2d(o, weight.to(o.dtype)[:, :, None, None], (shift - weight @ mean).to(o.dtype))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        o, mix, mean, rstd = ctx.saved_tensors
        g = g.contiguous(memory_format=torch.channels_last)
        n = g.numel() // g.shape[1]
        sum_g = _channel_sums(pixels(g), len(g), mix.dtype)
        d_mix = (_outer(g, o).to(mix.dtype) - sum_g[:, None] * mean) * rstd
        m1 = sum_g @ mix / n
        m2 = (mix * d_mix).sum(0) / n
        c1 = -rstd.square() * m2
        c0 = -rstd * m1 - c1 * mean
        weight = (mix * rstd).t().to(g.dtype)
        d_o = F.conv2d(g, weight[:, :, None, None], c0.to(g.dtype))
        c1 = c1.to(g.dtype)
        if g.dtype == torch.bfloat16 and not g.is_cuda:  # a CPU multiplies it channel by channel too slowly
            d_o += F.conv2d(o, c1.diag()[:, :, None, None])
        else:
            d_o.addcmul_(o, c1[:, None, None])
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
        if a.shape[1] >= b.shape[1]:
            ctx.mark_dirty(a)
            y = a
            y[:, : b.shape[1]] += b
        else:
            y = b.clone()
            y[:, : a.shape[1]] += a
        y.relu_()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        (y,) = ctx.saved_tensors
        g = torch.ops.aten.threshold_backward(g, y, 0)
        c_a, c_b = ctx.channels
        return g[:, :c_a], g[:, :c_b]


def add_relu(a: Tensor, b: Tensor) -> Tensor:
    """ReLU of the sum of two feature maps (B, C, H, W); the narrower counts as padded with zero channels.

    `a` may be overwritten.
    """
    y: Tensor = _AddRelu.apply(a, b)
    return y
