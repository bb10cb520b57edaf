"""Meeting a budget at half the macs: seconds for 10,000 in-band sizes, milliseconds of a candidate's repair."""

from __future__ import annotations

import statistics
import time

import numpy as np

from tas_bench import measure
from tas_bench.backbones import find_backbone
from tas_bench.budget import Band, most_probable, nearest
from tas_bench.costs.macs import MACS

SIZES, ROUNDS = 10_000, 15


def main() -> None:
    """Print both for ResNet-56 and ResNet-110."""
    print(f"{measure.device_name('cpu')}, keep 0.5, t 0.05")
    for name in ("resnet56", "resnet110"):
        backbone = find_backbone(name)
        layers = backbone.layers(100)
        full = MACS.of(layers, backbone.full)
        band = Band(layers, backbone.space(), MACS, 0.475 * full, 0.525 * full)
        start = time.perf_counter()
        band.sample(np.random.default_rng(0), 1)
        first = time.perf_counter()
        band.sample(np.random.default_rng(0), SIZES)
        print(f"{name}: counted in {first - start:.2f} s, {SIZES:,} sizes in {time.perf_counter() - first:.2f} s")
        seconds: dict[str, list[float]] = {"most_probable": [], "nearest": []}
        for seed in range(ROUNDS):
            rng = np.random.default_rng(seed)
            logits, size = rng.normal(size=band.space.padded.shape), band.space.sample_indices(rng, 1)[0]
            start = time.perf_counter()
            most_probable(logits, band)
            between = time.perf_counter()
            nearest(size, band, rng)
            seconds["most_probable"].append(between - start)
            seconds["nearest"].append(time.perf_counter() - between)
        for way, found in seconds.items():
            print(f"  {way}: {1e3 * statistics.median(found):.0f} ms, at most {1e3 * max(found):.0f} ms")


if __name__ == "__main__":
    main()
