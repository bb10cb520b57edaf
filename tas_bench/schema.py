"""The columns of the store's tables, with their types and what they mean. `results/README.md` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tas_bench.costs.layer import Layer
from tas_bench.costs.macs import MACS
from tas_bench.costs.params import PARAMS
from tas_bench.space import Size

if TYPE_CHECKING:
    from tas_bench.jobs import DataSpec

SCHEMA_VERSION = 4

_ROW_COLUMNS: list[tuple[str, pa.DataType, str]] = [
    ("job_id", pa.string(), "hash of everything that decides the outcome; one row per job"),
    ("status", pa.string(), "ok, failed, oom, timeout or diverged"),
    ("attempts", pa.int32(), "attempts begun so far over all runs, stopped and failed ones included"),
    ("error", pa.string(), "one line, for jobs that are not ok"),
    ("sweep", pa.string(), "the sweep that asked for it first"),
    ("kind", pa.string(), "teacher, search, supernet, candidate, score, pruning or final"),
    ("method", pa.string(), "the method that asked for it first; see the table `uses` for all"),
    ("transfer", pa.string(), "transfer mode, for trainings"),
    ("dataset", pa.string(), "name of the data set"),
    ("train_subset", pa.int64(), "images of the stratified training subset; null for all"),
    ("split", pa.string(), "search (the training set's two halves) or full (training set, test set)"),
    ("backbone", pa.string(), "the unpruned network"),
    ("seed", pa.int64(), "seed of the job; of a score its supernet's"),
    ("widths", pa.list_(pa.int32()), "output channels of every convolution, stem first"),
    ("depths", pa.list_(pa.int32()), "blocks kept per stage"),
    ("macs", pa.int64(), "multiply-accumulates of the deployed size, one image"),
    ("params", pa.int64(), "trainable parameters of the deployed size"),
    ("budget", pa.float64(), "the target R; null for teachers and supernets"),
    ("budget_cost", pa.string(), "what R counts: macs, params or latency:KEY (ns per image, from that table)"),
    ("cost", pa.int64(), "the deployed size's cost in that"),
    ("train_accuracy", pa.float64(), "last epoch, augmented images, running average"),
    (
        "val_accuracy",
        pa.float64(),
        "last epoch, validation images: the other half, or the holdout; of a search the supernet's, on augmented "
        "images; of a pruning, on images that its teacher has seen",
    ),
    ("test_accuracy", pa.float64(), "last epoch; finals and teachers only"),
    ("test_top5", pa.float64(), "likewise, the class among the first five; null for ten classes or fewer"),
    ("best_epoch", pa.int32(), "the best epoch by validation, from 1; null without validation images"),
    ("best_train_accuracy", pa.float64(), "as train_accuracy, of that epoch"),
    ("best_val_accuracy", pa.float64(), "as val_accuracy, of that epoch"),
    ("best_test_accuracy", pa.float64(), "as test_accuracy, of that epoch"),
    ("epochs", pa.int32(), "epochs trained"),
    (
        "images",
        pa.int64(),
        "training images seen, forward; of a search both halves', of a score all that it passes",
    ),
    (
        "train_macs",
        pa.int64(),
        "multiply-accumulates of training (of a score, of its passes); a backward is two forwards (one without "
        "weight gradients)",
    ),
    ("micro_batch", pa.int32(), "images whose gradients are taken at once; below the batch where memory ran out"),
    ("seconds_startup", pa.float64(), "loading data, building networks"),
    ("seconds_data", pa.float64(), "waiting for batches while training; on a GPU, until they are under way"),
    ("seconds_train", pa.float64(), "training steps"),
    ("seconds_eval", pa.float64(), "evaluation"),
    ("images_per_second", pa.float64(), "images over seconds of data and training"),
    ("device_seconds", pa.float64(), "wall seconds x CPU cores (or GPUs) held, failed attempts included"),
    ("idle_seconds", pa.float64(), "likewise, that they stood idle before the job since their last one"),
    ("peak_memory", pa.int64(), "bytes: of the process on CPU, of the allocator on GPU"),
    ("device", pa.string(), "processor or GPU name"),
    ("precision", pa.string(), "float32 or bfloat16 autocast"),
    ("derived", pa.string(), "searches: argmax, or in-band where the argmax missed the band"),
    ("argmax_macs", pa.int64(), "searches: macs of the argmax size"),
    (
        "derivation_gap",
        pa.float64(),
        "searches: nats of log-probability by which an in-band size may exceed the derived one at most",
    ),
    ("discrepancy", pa.float64(), "searches: mean gap between the two most probable candidates"),
    ("arch_lr", pa.float64(), "searches: learning rate of the architecture parameters, as scaled"),
    ("warning", pa.string(), "one line a reader should know"),
    ("versions", pa.string(), "JSON: python, tas-bench, torch, ray ..."),
    (
        "commit",
        pa.string(),
        "git commit of the code, -dirty behind it where code was changed; null outside a clone",
    ),
    ("started", pa.timestamp("us", tz="UTC"), "start of the last attempt"),
    ("ended", pa.timestamp("us", tz="UTC"), "end of the last attempt"),
    ("job", pa.string(), "the job itself, canonical JSON"),
]

_USE_COLUMNS: list[tuple[str, pa.DataType, str]] = [
    ("job_id", pa.string(), "the job"),
    ("sweep", pa.string(), "the sweep"),
    ("plan", pa.string(), "the plan that asked for it"),
    ("dataset", pa.string(), "its data set"),
    ("backbone", pa.string(), "its backbone"),
    ("method", pa.string(), "its method; 'teacher' for the teacher's plan"),
    ("seed", pa.int64(), "its seed"),
    ("kind", pa.string(), "teacher, search, supernet, candidate, score, pruning or final"),
    ("transfer", pa.string(), "transfer mode, for trainings"),
]


_TRAJECTORY_COLUMNS: list[tuple[str, pa.DataType, str]] = [
    ("job_id", pa.string(), "the search"),
    ("epoch", pa.int32(), "from 1; the other columns are measured at its end"),
    ("tau", pa.float64(), "temperature of Equation 3"),
    ("arch_lr", pa.float64(), "rate of the architecture's last update"),
    ("f_cost", pa.float64(), "F_cost: cost of the argmax size, as the search counts it"),
    ("e_cost", pa.float64(), "E_cost: expected cost, likewise"),
    ("discrepancy", pa.float64(), "mean over searched rows of the gap between the two most probable candidates"),
    ("entropies", pa.list_(pa.float32()), "of every alpha, then of every beta, in nats"),
    ("discrepancies", pa.list_(pa.float32()), "the gaps, likewise; 1 where there is one candidate"),
    ("widths", pa.list_(pa.int32()), "the argmax size"),
    ("depths", pa.list_(pa.int32()), "likewise"),
]


def _schema(table: str, columns: list[tuple[str, pa.DataType, str]]) -> pa.Schema:
    fields = [pa.field(name, kind, metadata={"doc": doc}) for name, kind, doc in columns]
    return pa.schema(fields, metadata={"table": table, "schema_version": str(SCHEMA_VERSION)})


ROWS = _schema("rows", _ROW_COLUMNS)
"""One row per job that ended, never edited."""

USES = _schema("uses", _USE_COLUMNS)
"""Which plan asked for which job: two methods that find the same size share one row."""

TRAJECTORIES = _schema("trajectories", _TRAJECTORY_COLUMNS)
"""How the architecture parameters of a search went, one row per epoch (Figure 3)."""

CURVE_KEYS = pa.schema([pa.field("job_id", pa.string()), pa.field("epoch", pa.int32())])
"""Key columns of the learning curves; the measures beside them are float64."""

SWEEP_FILE, DATA_FILE = "_sweep.json", "_data.json"
"""A results directory's manifest, and the fingerprints of its data."""

MANIFEST: dict[str, Any] = {
    "name": str, "title": str, "t": (float, None), "cost?": str, "train_subset": (int, None),
    "problems": [{"dataset": str, "backbone": str, "keep": float}],
    "seeds": [int], "methods": [{"name": str, "label": str}], "transfers": [str], "fixed": {},
}  # fmt: skip
"""What `_sweep.json` must hold to be compared and reported: `cost` where it is there, one entry stands for all."""


def check_shape(value: Any, shape: Any, where: str = "it") -> None:
    """Refuse JSON that is not of that shape; entries beyond it are welcome.

    Raises:
        ValueError: says where.
    """
    if isinstance(shape, dict) and isinstance(value, dict):
        for key, inner in shape.items():
            name = key.removesuffix("?")
            if name in value:
                check_shape(value[name], inner, name)
            elif name == key:
                raise ValueError(f"{where} has no {key}")
    elif isinstance(shape, list) and isinstance(value, list):
        for entry in value:
            check_shape(entry, shape[0], f"an entry of {where}")
    elif not _is_one(value, shape):
        raise ValueError(f"{where} is {ascii(value)[:40]}")


def _is_one(value: Any, kinds: Any) -> bool:
    """Whether a plain value is of one of the kinds; numbers are of a size that arithmetic bears."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if value is None or isinstance(value, str):
        return (None if value is None else str) in kinds
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (float in kinds or (int in kinds and isinstance(value, int))) and -(2**63) <= value < 2**63


def job_columns(data: DataSpec, backbone: str, seed: int) -> dict[str, Any]:
    """On what a job runs: both halves of the training set, unless it says otherwise."""
    here = {"dataset": data.name, "train_subset": data.train_subset, "split": "search"}
    return here | {"backbone": backbone, "seed": seed}


def size_columns(layers: Sequence[Layer], size: Size) -> dict[str, Any]:
    """What a size is."""
    costs = {"macs": MACS.of(layers, size), "params": PARAMS.of(layers, size)}
    return {"widths": list(size.widths), "depths": list(size.depths)} | costs
