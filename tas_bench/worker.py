"""Runs one job where it is told to and commits its row, whatever becomes of it."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import platform
import subprocess
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tas_bench import measure, oneshot
from tas_bench.attempts import Attempts
from tas_bench.errors import DivergedError
from tas_bench.jobs import Context, Job, Outcome, job_id, job_json
from tas_bench.oneshot import Score
from tas_bench.schema import ROWS, size_columns
from tas_bench.store import Row, Store
from tas_bench.text import reason


@dataclass(frozen=True)
class Labels:
    """What the row says of who asked for the job first, under which budget, and what its size costs there.

    Attributes:
        idle_seconds: slot-seconds that what it runs on stood idle before it.
    """

    sweep: str
    method: str
    budget: float | None
    budget_cost: str | None = None
    cost: int | None = None
    idle_seconds: float | None = None


def execute(job: Job, labels: Labels, context: Context) -> Row:
    """Run a job and commit its row.

    A job that raises becomes a row too: its status and a one-line error.

    Raises:
        StoreIOError: the row could not be written.
        StoreDamagedError: an earlier row of this job cannot be read.
    """
    store, key = Store(context.results), job_id(job)
    standing = store.row(key)
    if standing is not None and store.outcome(key, context.keep_weights) is not None:
        return standing  # of a killed run's last worker, since this one began
    attempts = Attempts(context.results, key, standing)
    lost = attempts.seconds
    attempts.begin()
    started, clock = _now(), time.perf_counter()
    try:
        torch.set_num_threads(max(1, int(context.cpus)))
        torch.backends.cudnn.deterministic = True  # or a GPU's sums depend on chance
        if not isinstance(job, Score):
            oneshot.forget()
        measure.free_memory()
        measure.keep_memory()
        measure.reset_peak_memory(context.device)
        outcome = job.run(context)
    except DivergedError as error:
        outcome = Outcome(status="diverged", error=reason(error))
    except (Exception, SystemExit) as error:
        if measure.out_of_memory(error):
            outcome = Outcome(status="oom", error=f"out of memory: {reason(error)}")
        else:
            outcome = Outcome(status="failed", error=f"{type(error).__name__}: {reason(error)}")
        with contextlib.suppress(OSError):  # the row is what matters
            log_path(context.results, key).write_text(traceback.format_exc(), errors="replace")
    seconds = (time.perf_counter() - clock) * (context.gpus or context.cpus)
    if outcome.ok:  # checkpoints and what else it does not time itself
        whole = max(outcome.device_seconds or 0, outcome.carried_seconds + seconds)
        outcome = replace(outcome, device_seconds=whole)
    else:  # what failed has cost as well
        outcome = replace(outcome, device_seconds=seconds)
        attempts.end(outcome.status, seconds)
    if lost:  # of which the checkpoint may have carried a part over
        whole = outcome.device_seconds or 0
        outcome = replace(outcome, device_seconds=max(whole, whole - outcome.carried_seconds + lost))
    row = row_of(job, labels, outcome, attempts=attempts.count, started=started)
    try:
        store.commit(row, outcome)
    except MemoryError as error:  # its weights are copied to be written
        spent, told = outcome.device_seconds, f"out of memory: {reason(error)}"
        outcome = Outcome(status="oom", error=told, device_seconds=spent)
        row = row_of(job, labels, outcome, attempts=attempts.count, started=started)
        store.commit(row, outcome)
    if outcome.ok:
        attempts.drop()
    return row


def log_path(results: Path, key: str) -> Path:
    """Where the traceback of a job that failed lies."""
    return results / "_log" / f"{key}.txt"


def row_of(job: Job, labels: Labels, outcome: Outcome, attempts: int, started: datetime.datetime) -> Row:
    """The row of an ended job."""
    row: Row = dict.fromkeys(ROWS.names)
    row |= {f.name: getattr(outcome, f.name) for f in fields(outcome) if f.name in row} | job.describe()
    row |= {
        "job_id": job_id(job), "attempts": attempts, "sweep": labels.sweep, "kind": job.kind,
        "method": labels.method, "budget": labels.budget, "budget_cost": labels.budget_cost, "cost": labels.cost,
        "idle_seconds": labels.idle_seconds,
        "versions": json.dumps(versions()), "commit": commit_of(Path(__file__).parents[1]),
        "started": started, "ended": _now(), "job": job_json(job),
    }  # fmt: skip
    if outcome.size is not None and row["widths"] is None:
        row |= _found(job, outcome)
    return row


def _found(job: Any, outcome: Outcome) -> Mapping[str, Any]:
    """Columns of a size that a search found."""
    assert outcome.size is not None
    return size_columns(job.problem.layers, outcome.size) | {"cost": job.problem.cost_of(outcome.size)}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@functools.cache
def versions() -> Mapping[str, str]:
    """Versions of what decides a result."""
    found = {"python": platform.python_version()}
    for name in ("tas-bench", "torch", "ray", "cma", "numpy", "optuna", "torch-pruning"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


CODE = ("tas_bench", "baselines", "sweeps")
"""What decides a result, of all that lies in a clone."""


@functools.cache
def commit_of(clone: Path) -> str | None:
    """The git commit of the code, with -dirty behind it where code was changed or added; None outside a clone."""
    if not (clone / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(clone), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 (words are ours)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", *CODE) else "")
    except (OSError, subprocess.SubprocessError):
        return None
