"""What runs in a Ray actor: one job after the other, in a thread, so that it can say that it is alive."""

from __future__ import annotations

import gc
import platform
import socket
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tas_bench import measure
from tas_bench.dispatch import PATIENCE, Task
from tas_bench.errors import INTERNAL, TasBenchError
from tas_bench.text import one_line
from tas_bench.worker import execute, versions

HEARTBEAT = 2.0
"""Seconds between two signs of life of a running job."""


@dataclass(frozen=True)
class Hello:
    """What a worker finds where it is.

    Attributes:
        unfit: why no job of this run can run there, one line; None where all is well.
    """

    unfit: str | None


@dataclass(frozen=True)
class Report:
    """How a job goes.

    Attributes:
        status: of its row; "" while it runs, or where it has none.
        fault: exit code and message of what stands against the whole run.
    """

    done: bool
    status: str
    epoch: int
    epochs: int
    fault: tuple[int, str] | None


class Worker:
    """The actor."""

    def __init__(self) -> None:
        self.task: Task | None = None
        gc.freeze()  # what is imported stays: between jobs only theirs is looked at, 0.1 s less each

    def hello(self, marker: Path, token: str, data_root: Path | None, wanted: dict[str, str]) -> Hello:
        """Look around before the first job.

        Args:
            marker: a file of the results directory that holds `token`.
            wanted: versions that rows of this run must be made with.
        """
        unfit = _other_versions(wanted)
        if unfit is None and not _sees(marker, token):
            unfit = f"does not see {marker.parents[1]}: put results on storage that all nodes share"
        if unfit is None and data_root is not None and not data_root.exists():
            unfit = f"has no data folder {data_root}: put it where all nodes see it under this path"
        return Hello(unfit and f"node {socket.gethostname()} {unfit}")

    def work(self, task: Task) -> Report:
        """Begin a task, or look after it if it has begun; returns at its end, or as a sign of life."""
        if self.task is None or self.task.key != task.key:
            self.task, self.epoch, self.epochs = task, 0, 0
            self.fault: tuple[int, str] | None = None
            self.status = ""
            self.thread = threading.Thread(target=self._run, args=(task,), daemon=True)
            self.thread.start()
        self.thread.join(HEARTBEAT)
        return Report(not self.thread.is_alive(), self.status, self.epoch, self.epochs, self.fault)

    def _run(self, task: Task) -> None:
        try:
            row = execute(task.job, task.labels, replace(task.context, tick=self._tick))
            self.status = str(row["status"])
            if self.status == "ok":  # else the worker ends, and a GPU may have been lost
                measure.free_memory()  # which an idle worker would keep from others on its GPU
        except TasBenchError as error:
            self.fault = error.exit_code, str(error)
        except BaseException as error:
            self.fault = INTERNAL, one_line(f"{type(error).__name__}: {error}")

    def _tick(self, done: int, total: int) -> None:
        self.epoch, self.epochs = done, total


def deciding_versions() -> dict[str, str]:
    """Versions that must be the same on all nodes, builds for one device or another and extras aside."""
    found = {name: version.partition("+")[0] for name, version in versions().items() if name != "torch-pruning"}
    return found | {"python": ".".join(platform.python_version_tuple()[:2])}


def _other_versions(wanted: dict[str, str]) -> str | None:
    here = deciding_versions()
    for name, version in wanted.items():
        if here.get(name) != version:
            return (
                f"has {name} {here.get(name, 'not at all')}, the driver has {version}: install the same everywhere"
            )
    return None


def _sees(marker: Path, token: str) -> bool:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if marker.read_text() == token:
                return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
