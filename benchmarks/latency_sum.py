"""The latency that a table adds up to against that of the whole network, for unpruned and random sizes.

Network and layers are run in turn, so that both meet the same machine: the median of interleaved repetitions
says whether layers add up. The table's own sum (the least of many rounds, at another moment) stands beside the
network's least repetition.
"""

from __future__ import annotations

import os
import statistics
import tempfile

import numpy as np
import torch
from rich.console import Console

from tas_bench import measure
from tas_bench.backbones import find_backbone
from tas_bench.backbones.backbone import CIFAR
from tas_bench.costs.latency import Config, config
from tas_bench.costs.layer import Cost, Layer
from tas_bench.latency import BATCH, Bench, configs_of_sizes, measured
from tas_bench.network import Network
from tas_bench.space import IntArray, Size

CLASSES, RANDOM, REPETITIONS = 100, 5, 25
BACKBONE = find_backbone("resnet32")
LAYERS = BACKBONE.layers(CLASSES)


def main() -> None:
    """Print one line per size."""
    bench = Bench.at_hand()
    print(f"{measure.device_name(bench.device)}, {bench.setting}")
    rng = np.random.default_rng(0)
    sizes = [BACKBONE.full, *(BACKBONE.space().sample(rng) for _ in range(RANDOM))]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        cost = measured(configs_of_sizes(LAYERS, sizes), bench, Console()).cost
    with bench.ready():
        for size in sizes:
            network, layers = interleaved(bench, size)
            table = cost.of(LAYERS, size) / 1e3
            print(
                f"depths {size.depths}  network {statistics.median(network):6.1f} µs, layers/network "
                f"{statistics.median(a / b for a, b in zip(layers, network, strict=True)):.2f}   "
                f"least {min(network):6.1f} µs, table {table:6.1f} µs, table/least {table / min(network):.2f}"
            )


@torch.inference_mode()
def interleaved(bench: Bench, size: Size) -> tuple[list[float], list[float]]:
    """Microseconds per image of the network and of its layers one after another, every repetition."""
    network = bench.deployed(Network(BACKBONE, size, CLASSES))
    images = bench.images(CIFAR.channels, CIFAR.side**2)
    calls = [bench.call(entry) for entry in layers_of(size)]
    found: tuple[list[float], list[float]] = [], []
    for _ in range(REPETITIONS + 1):
        found[0].append(bench.timed(lambda: network(images)))
        found[1].append(sum(bench.timed(call) for call in calls))
    whole, parts = ([1e6 * seconds / BATCH[bench.device] for seconds in part[1:]] for part in found)
    return whole, parts


def layers_of(size: Size) -> list[Config]:
    """The network's layers, as often as they are in it."""
    found: list[Config] = []

    def note(layer: Layer, c_in: IntArray, c_out: IntArray) -> int:
        found.extend(config(layer, int(i), int(o)) for i, o in zip(c_in, c_out, strict=True))
        return 0

    Cost("noted", note).of(LAYERS, size)
    return found


if __name__ == "__main__":
    main()
