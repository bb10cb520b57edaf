"""Whether `torch.compile` pays: a compiled training step against an eager one, and what compiling costs.

ResNet-32, 100 classes, batch 256, on the GPU if there is one. `measure.compile_pays` decides by such figures.
"""

from __future__ import annotations

import math
import statistics
import time

import torch

from tas_bench import measure
from tas_bench.backbones import find_backbone
from tas_bench.backbones.backbone import CIFAR
from tas_bench.jobs import Recipe
from tas_bench.loop import Loop
from tas_bench.network import Network
from tas_bench.transfer.scratch import Scratch

BATCH, CLASSES, STEPS, ROUNDS = 256, 100, 4, 5
BACKBONE = find_backbone("resnet32")


def main() -> None:
    """Print seconds of a step in both forms, in turn, and after how many steps compiling has paid."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    measure.keep_memory()
    x = torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    passes = [(x, torch.randint(CLASSES, (BATCH,), device=device))] * STEPS
    precision = measure.precision(device, CIFAR)
    eager, compiled = (loop(device, precision, form) for form in (False, True))
    seconds(eager, passes)  # warms up what both use
    cost = seconds(compiled, passes) - seconds(eager, passes)
    times = [(seconds(eager, passes) / STEPS, seconds(compiled, passes) / STEPS) for _ in range(ROUNDS)]
    step, short = (statistics.median(form) for form in zip(*times, strict=True))
    pays = cost / (step - short) if short < 0.98 * step else math.inf
    print(f"{measure.device_name(device)}, {precision}: step {1e3 * step:.1f} ms, compiled {1e3 * short:.1f} ms")
    print(f"compiled / eager {short / step:.2f}; compiling takes {cost:.0f} s and pays after {pays:,.0f} steps")


def loop(device: str, precision: str, compiled: bool) -> Loop:
    """A training from scratch."""
    network = measure.channels_last(Network(BACKBONE, BACKBONE.full, CLASSES), device)
    return Loop(Recipe(batch=BATCH), Scratch(), network, None, precision, BATCH, compiled)


def seconds(training: Loop, passes: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Seconds of a pass; its end waits for the device."""
    start = time.perf_counter()
    training.epoch(0, passes, measure.Stopwatch())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
