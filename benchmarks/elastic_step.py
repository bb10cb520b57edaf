"""One search step (forward, backward, SGD step) against one plain training step, ResNet-32, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from tas_bench import measure
from tas_bench.backbones import find_backbone
from tas_bench.backbones.backbone import CIFAR
from tas_bench.jobs import Recipe
from tas_bench.network import Network
from tas_bench.supernet import Architecture, Supernet
from tas_bench.train import sgd

BATCH, CLASSES, ROUNDS = 256, 100, 5


def main() -> None:
    """Median seconds of interleaved repetitions, and the ratio to the plain step."""
    torch.manual_seed(0)
    precision = measure.precision("cpu", CIFAR)
    print(f"{measure.device_name('cpu')}, {torch.get_num_threads()} threads, batch {BATCH}")
    backbone = find_backbone("resnet32")
    x = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(CLASSES, (BATCH,))
    for dtype in dict.fromkeys(("float32", precision)):
        steps = {"plain": _plain(backbone, x, y, dtype)}
        steps |= {f"|I| = {samples}": _search(backbone, x, y, dtype, samples) for samples in (1, 2, 8)}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(ROUNDS):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
        plain = statistics.median(seconds["plain"][1:])
        for name, measured in seconds.items():
            median = statistics.median(measured[1:])
            print(f"{dtype:9} {name:8} {median:.3f} s  {median / plain:.2f} x plain")


def _plain(backbone, x, y, dtype) -> Callable[[], None]:
    network = Network(backbone, backbone.full, CLASSES).to(memory_format=torch.channels_last)
    optimizer = sgd(network.parameters(), Recipe())

    def step() -> None:
        with measure.autocast("cpu", dtype):
            logits = network(x).float()
        optimizer.zero_grad()
        F.cross_entropy(logits, y).backward()
        optimizer.step()

    return step


def _search(backbone, x, y, dtype, samples) -> Callable[[], None]:
    space = backbone.space()
    supernet = Supernet(backbone, space, CLASSES, CIFAR).to(memory_format=torch.channels_last)
    architecture = Architecture(space)
    optimizer = sgd(supernet.parameters(), Recipe())

    def step() -> None:
        with torch.no_grad():
            sample = architecture.sample(1.0, samples)
        with measure.autocast("cpu", dtype):
            logits = supernet(x, sample).float()
        optimizer.zero_grad()
        F.cross_entropy(logits, y).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
