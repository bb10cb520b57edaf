"""Made-up results in the layout of Table 1, to test and measure reports with; no figure in them means anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tas_bench.backbones import find_backbone
from tas_bench.digest import sealed
from tas_bench.files import write_whole
from tas_bench.schema import SWEEP_FILE, TRAJECTORIES, USES
from tas_bench.store import FOLDERS
from tas_bench.tables import curve_table, row_bytes, table_bytes

METHODS = {"ratio": "Pre-defined", "random_search": "Random Search", "cma_es": "CMA-ES", "tas": "TAS"}
SEARCHING = ("random_search", "cma_es")
TRANSFERS = ("scratch", "init", "kd")
UNPRUNED, KEEP, T = 69_130_596, 0.6, 0.05
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def write_example(
    root: Path, seeds: int = 3, candidates: int = 8, epochs: int = 300, labels: dict[str, str] | None = None
) -> int:
    """Write a results directory of a finished sweep, CIFAR-100 and ResNet-32.

    Args:
        candidates: of random search and of CMA-ES, per seed.
        epochs: of teacher and finals; searches take twice as many, candidates a third.
        labels: methods by name; the usual ones by default.

    Returns:
        How many jobs it has.
    """
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    labels = METHODS if labels is None else labels
    manifest = {
        "name": "table1", "title": "Table 1", "cost": "macs", "t": T, "train_subset": None,
        "problems": [{"dataset": "cifar100", "backbone": "resnet32", "keep": KEEP}], "seeds": list(range(seeds)),
        "methods": [{"name": name, "label": label} for name, label in labels.items()],
        "transfers": list(TRANSFERS), "fixed": {"recipe.epochs": epochs, "tas.samples": 2, "tas.lambda_cost": 2.0},
    }  # fmt: skip
    write_whole(root / SWEEP_FILE, sealed(manifest))
    rng, count = np.random.default_rng(0), 0
    for seed in range(seeds):
        teacher = _job(rng, "teacher", "teacher", seed, "scratch", epochs)
        for method in labels:
            plan = [*_search(rng, method, seed, candidates, epochs), teacher]
            plan += [_job(rng, "final", method, seed, transfer, epochs) for transfer in TRANSFERS]
            for row in plan:
                _write(root, rng, row)
            uses = [{key: row.get(key) for key in USES.names} | {"plan": f"{method}-s{seed}"} for row in plan]
            table = pa.Table.from_pylist([use | {"method": method} for use in uses], schema=USES)
            write_whole(root / "_uses" / f"{method}-s{seed}.parquet", table_bytes(table))
            count += len(plan) - 1
    return count + seeds


def _search(
    rng: np.random.Generator, method: str, seed: int, candidates: int, epochs: int
) -> Iterator[dict[str, Any]]:
    if method in SEARCHING:
        for i in range(candidates):
            yield _job(rng, "candidate", method, seed, "scratch", max(epochs // 3, 1), i)
    elif method == "tas":
        yield _job(rng, "search", method, seed, None, 2 * epochs)


def _job(
    rng: np.random.Generator, kind: str, method: str, seed: int, transfer: str | None, epochs: int, i: int = 0
) -> dict[str, Any]:
    """A row, and its accuracy."""
    full = find_backbone("resnet32").full
    share = 1.0 if kind == "teacher" else float(rng.uniform(0.5, 0.95))
    widths = full.widths if kind == "teacher" else [max(1, int(w * rng.uniform(0.3, 1.0))) for w in full.widths]
    macs = UNPRUNED if kind == "teacher" else int(UNPRUNED * KEEP * (1 + T * (2 * share - 1.45)))
    rank = list(METHODS).index(method) if method in METHODS else 0
    gain = {None: 0.0, "scratch": 0.0, "init": 0.01, "kd": 0.03}[transfer]
    accuracy = 0.67 + 0.004 * rank + gain + float(rng.normal(0, 0.004)) + 0.02 * (kind == "teacher")
    seconds = epochs * float(rng.uniform(8, 10)) * (2 if kind == "search" else 1)
    began = BEGAN + timedelta(seconds=3600 * seed + 60 * i)
    measured = "val_accuracy" if kind in ("search", "candidate") else "test_accuracy"
    return {
        "job_id": f"{kind}-{method}-{seed}-{transfer}-{i}", "status": "ok", "attempts": 1, "sweep": "table1",
        "kind": kind, "method": method, "transfer": transfer, "dataset": "cifar100", "backbone": "resnet32",
        "split": "full" if measured == "test_accuracy" else "search", "seed": seed, "widths": list(widths),
        "depths": list(full.depths), "macs": macs, "cost": macs, "params": macs // 150,
        "budget": None if kind == "teacher" else KEEP * UNPRUNED, "budget_cost": "macs", measured: accuracy,
        "epochs": epochs, "images": epochs * 50_000, "train_macs": epochs * 50_000 * macs * 3,
        "device_seconds": seconds, "peak_memory": 2**31, "device": "example", "precision": "float32",
        "derived": "argmax" if kind == "search" else None, "argmax_macs": macs if kind == "search" else None,
        "discrepancy": 0.4 if kind == "search" else None, "versions": json.dumps({"torch": "0", "tas-bench": "0"}),
        "commit": "0" * 40, "started": began, "ended": began + timedelta(seconds=seconds), "job": "{}",
    }  # fmt: skip


def _write(root: Path, rng: np.random.Generator, row: dict[str, Any]) -> None:
    """The row, its curve and, for a search, its trajectory."""
    key, epochs = row["job_id"], row["epochs"]
    (root / "rows" / f"{key}.parquet").write_bytes(row_bytes(row))
    last = row.get("test_accuracy") or row["val_accuracy"]
    share = 1 - np.exp(-5 * np.arange(1, epochs + 1) / epochs)
    noise = rng.normal(0, 0.01, epochs)
    curve = [{"epoch": e + 1, "train_accuracy": float(last * share[e] + noise[e])} for e in range(epochs)]
    if row["kind"] in ("search", "candidate"):
        curve = [point | {"val_accuracy": 0.95 * point["train_accuracy"]} for point in curve]
    (root / "_curves" / f"{key}.parquet").write_bytes(table_bytes(curve_table(key, curve)))
    if row["kind"] == "search":
        points = _trajectory(key, row["budget"], share.tolist(), row["widths"], row["depths"])
        table = table_bytes(pa.Table.from_pylist(points, schema=TRAJECTORIES))
        (root / "_trajectories" / f"{key}.parquet").write_bytes(table)


def _trajectory(
    key: str, budget: float, share: Sequence[float], widths: list[int], depths: list[int]
) -> list[dict[str, Any]]:
    return [
        {
            "job_id": key, "epoch": epoch, "tau": 10 - 9.9 * s, "arch_lr": 0.001,
            "f_cost": budget * (1.4 - 0.4 * s), "e_cost": budget * (1.2 - 0.2 * s), "discrepancy": 0.4 * s,
            "entropies": [2.0 - s], "discrepancies": [0.4 * s], "widths": widths, "depths": depths,
        }
        for epoch, s in enumerate(share, 1)
    ]  # fmt: skip
