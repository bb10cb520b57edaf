"""Tells other programs of every job as it ends: TensorBoard, MLflow, Weights & Biases.

The rows are the truth; a tracker that fails is told of in the log and left alone, and never harms a run.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from tas_bench.errors import InputError, unknown
from tas_bench.files import log_folder, remote
from tas_bench.store import Row, Store
from tas_bench.tables import read_table
from tas_bench.text import file_name, reason

log = logging.getLogger("tas_bench")

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""What each tracker needs; the extra that brings it has the tracker's name."""

PATIENCE = 120.0
"""Seconds that trackers have after the last job."""

WORDS = ("job_id", "sweep", "method", "kind", "transfer", "dataset", "backbone", "status")

Scalars = Sequence[tuple[str, float, int]]
"""(name, value, epoch)."""


class Tracker(Protocol):
    """Whoever wants to know of jobs."""

    def tell(self, name: str, row: Row, points: Scalars) -> None:
        """A job has ended: its name, its row, and its curves."""
        ...


def check(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed.

    Raises:
        InputError: names the package and how to install it.
    """
    for name in names:
        if name not in PACKAGES:
            raise unknown("tracker", name, PACKAGES)
        if find_spec(PACKAGES[name]) is None:
            raise InputError(f"--track {name} needs {PACKAGES[name]}: pip install 'tas-bench[{name}]'")


class Tracking:
    """All trackers of a run, in a thread of their own: one that is slow holds nobody up."""

    def __init__(self, names: Sequence[str], store: Store, sweep: str) -> None:
        self.store, self.sweep = store, sweep
        self.trackers: dict[str, Tracker] = {}
        self.keys: SimpleQueue[str | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._work, args=(names,), daemon=True)
        if names:
            self.thread.start()

    def ended(self, key: str) -> None:
        """Tell all of them of a job that has its row."""
        self.keys.put(key)

    def close(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until they have been told of all, but not for ever.

        Args:
            meanwhile: called again and again.
        """
        self.keys.put(None)
        deadline = time.monotonic() + PATIENCE
        while self.thread.is_alive() and time.monotonic() < deadline:
            meanwhile()
            self.thread.join(0.2)
        if self.thread.is_alive():
            log.warning("trackers took too long, and were not told of every job")

    def _work(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                self.trackers[name] = MAKERS[name](self.store.path, self.sweep)
            except Exception as error:  # a server that does not answer
                log.warning("tracker %s cannot start: %s", name, reason(error))
        for key in iter(self.keys.get, None):
            self._tell(key)

    def _tell(self, key: str) -> None:
        for name in list(self.trackers):
            try:
                row = self.store.row(key)
                if row is not None:
                    self.trackers[name].tell(name_of(row), row, scalars_of(self.store.path, key))
            except Exception as error:  # other people's code, servers and networks
                log.warning("tracker %s failed, and is told no more: %s", name, reason(error))
                del self.trackers[name]


def name_of(row: Row) -> str:
    """What a job is called elsewhere: who asked first, and its key."""
    transfer = f"-{row['transfer']}" if row["transfer"] else ""
    return f"{row['method']}-{row['kind']}{transfer}-s{row['seed']}-{row['job_id']}"


def scalars_of(results: Path, key: str) -> Scalars:
    """Every number of a job's learning curve, and of how its search went."""
    paths = [results / folder / f"{key}.parquet" for folder in ("_curves", "_trajectories")]
    return scalars(point for path in paths if path.exists() for point in read_table(path, None).to_pylist())


def scalars(points: Iterable[Row]) -> Scalars:
    """The numbers of lines that tell of an epoch each."""
    return [
        (name, x, point["epoch"]) for point in points for name, x in numbers_of(point).items() if name != "epoch"
    ]


def by_epoch(points: Scalars) -> dict[int, dict[str, float]]:
    """What each epoch tells, in their order."""
    found: dict[int, dict[str, float]] = {}
    for name, value, epoch in sorted(points, key=lambda point: point[2]):
        found.setdefault(epoch, {})[name] = value
    return found


def numbers_of(row: Row) -> dict[str, float]:
    """The row's measures."""
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def words_of(row: Row) -> dict[str, str]:
    """What else the row says, its size as JSON."""
    found = {name: row[name] for name in WORDS}
    found |= {name: json.dumps(row[name]) for name in ("widths", "depths") if row[name]}
    return {name: str(value) for name, value in found.items() if value is not None}


class TensorBoard:
    """A folder of events per job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tell(self, name: str, row: Row, points: Scalars) -> None:
        """Curves by epoch; measures at step 0."""
        from tensorboardX import SummaryWriter

        with SummaryWriter(str(self.folder / file_name(name))) as writer:
            for scalar, value, epoch in points:
                writer.add_scalar(scalar, value, epoch)
            for scalar, value in numbers_of(row).items():
                writer.add_scalar(f"row/{scalar}", value, 0)


class MLflow:
    """A run per job, in an experiment named after the sweep; where to, MLflow's own environment says."""

    def __init__(self, _results: Path, sweep: str) -> None:
        import mlflow

        self.experiment = mlflow.set_experiment(f"tas_bench {sweep}").experiment_id

    def tell(self, name: str, row: Row, points: Scalars) -> None:
        """Words as parameters, measures and curves as metrics."""
        import mlflow

        with mlflow.start_run(experiment_id=self.experiment, run_name=name):
            mlflow.log_params(words_of(row))
            mlflow.log_metrics(numbers_of(row))
            for epoch, scalars in by_epoch(points).items():
                mlflow.log_metrics({f"curve_{name}": value for name, value in scalars.items()}, step=epoch)


class WandB:
    """A run per job, in a project of its own; offline, and where to, W&B's own environment says."""

    def __init__(self, results: Path, sweep: str) -> None:
        self.folder, self.sweep = (results if remote(results) is None else log_folder(results)), sweep

    def tell(self, name: str, row: Row, points: Scalars) -> None:
        """Words as configuration, measures as the summary, curves by epoch."""
        import wandb

        run = wandb.init(
            project="tas_bench", group=self.sweep, name=name, config=words_of(row), dir=str(self.folder),
            settings=wandb.Settings(silent=True), reinit="finish_previous",
        )  # fmt: skip
        for epoch, scalars in by_epoch(points).items():
            run.log(scalars, step=epoch)
        run.summary.update(numbers_of(row))
        run.finish()


MAKERS: Mapping[str, Callable[[Path, str], Tracker]] = {
    "tensorboard": lambda results, _sweep: TensorBoard(results / "_tensorboard"), "mlflow": MLflow, "wandb": WandB,
}  # fmt: skip
