"""Matching the widths of two feature maps, forward and backward: the paper's ways of doing it, and one matrix.

The paper takes adaptive average pooling over channels (CWI) and finds bilinear and trilinear interpolation much
slower (section 3.1). As a matrix over channels each costs one 1 x 1 convolution, which the engine folds into the
one it needs anyway. Shapes of ResNet-32 on CIFAR, batch 256, a candidate of 70 % to the full width.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tas_bench import measure
from tas_bench.layers import interpolation_matrix

BATCH, ROUNDS = 256, 15
SHAPES = ((11, 16, 32), (22, 32, 16), (44, 64, 8))
"""Channels in, channels out, side."""


def adaptive_pooling(x: Tensor, channels: int) -> Tensor:
    """CWI as the paper writes it."""
    return F.adaptive_avg_pool3d(x, (channels, *x.shape[2:]))


def trilinear(x: Tensor, channels: int) -> Tensor:
    """Channels as depth."""
    return F.interpolate(x[:, None], (channels, *x.shape[2:]), mode="trilinear")[:, 0]


def bilinear(x: Tensor, channels: int) -> Tensor:
    """Channels as height, pixels as width."""
    pixels = x.shape[2] * x.shape[3]
    flat = x.reshape(len(x), 1, x.shape[1], pixels)
    return F.interpolate(flat, (channels, pixels), mode="bilinear").reshape(len(x), channels, *x.shape[2:])


def matrix(x: Tensor, channels: int) -> Tensor:
    """Any of them as one matrix."""
    return F.conv2d(x, interpolation_matrix(channels, x.shape[1])[:, :, None, None])


WAYS = (matrix, adaptive_pooling, bilinear, trilinear)


def main() -> None:
    """Print medians of interleaved repetitions and their ratios to the matrix's."""
    print(f"{measure.device_name('cpu')}, {torch.get_num_threads()} threads, batch {BATCH}, float32")
    for c_in, c_out, side in SHAPES:
        x = torch.randn(BATCH, c_in, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
        g = torch.randn(BATCH, c_out, side, side).contiguous(memory_format=torch.channels_last)
        seconds: dict[str, list[float]] = {way.__name__: [] for way in WAYS}
        for _ in range(ROUNDS + 1):
            for way in WAYS:
                seconds[way.__name__].append(timed(way, x, g))
        medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
        for name, median in medians.items():
            ratio = median / medians["matrix"]
            print(
                f"{c_in} to {c_out} at {side} x {side}: {name:17} {1e3 * median:7.2f} ms = {ratio:5.1f} x matrix"
            )


def timed(way: Callable[[Tensor, int], Tensor], x: Tensor, g: Tensor) -> float:
    """Seconds of forward and backward."""
    start = time.perf_counter()
    torch.autograd.grad(way(x, g.shape[1]), x, g)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
