"""The driver: a process of its own that starts Ray, hands out jobs until every plan has ended, and is gone.

It keeps nothing: what it knows comes from the store, so its supervisor may kill it and start another.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console

from tas_bench.dispatch import Dispatch, Task
from tas_bench.errors import INTERNAL, TasBenchError
from tas_bench.files import log_folder, write_whole
from tas_bench.jobs import Context
from tas_bench.progress import Progress
from tas_bench.replay import keep_uses, plans_of
from tas_bench.resources import Resources, Share
from tas_bench.runner import cluster
from tas_bench.runner.pool import Pool
from tas_bench.runner.worker import Report, deciding_versions
from tas_bench.signals import Interrupted, Signals
from tas_bench.store import Store
from tas_bench.sweep import Sweep
from tas_bench.text import one_line
from tas_bench.track import Tracking
from tas_bench.usage import Usage

log = logging.getLogger("tas_bench")

POLL = 0.2
"""Seconds that the driver waits for a job's end before it looks around."""

BEAT = 1.0
"""Seconds between two signs of life of the driver."""


@dataclass(frozen=True)
class Order:
    """What a driver is told to do.

    Attributes:
        folder: private, for a local Ray; the supervisor drops it.
        quiet: no progress display.
        track: who is told of every job as it ends.
        first: no driver of this run has given a sign of life before.
        gpus: found by an earlier driver of this run.
        failed: jobs that have failed in this run: the next run tries them again.
    """

    sweep: Sweep
    context: Context
    resources: Resources
    folder: Path
    quiet: bool
    track: tuple[str, ...] = ()
    first: bool = True
    gpus: float = 0
    failed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Beat:
    """A sign of life.

    Attributes:
        ended: jobs that have ended under this driver.
        failed: those of them that have failed since its last beat.
        gpus: the most that were found.
    """

    ended: int
    failed: tuple[str, ...]
    gpus: float


@dataclass(frozen=True)
class Replaying:
    """A sign of life before there is a Ray: plans are run again, which thousands of rows answer."""


@dataclass(frozen=True)
class End:
    """A driver's last word.

    Attributes:
        code, message: of what stands against the run; None where every plan has ended.
        signal: that stopped it.
        passing: it may be otherwise the next time.
    """

    code: int | None = None
    message: str = ""
    signal: int | None = None
    passing: bool = False


def main(order: Order, pipe: Connection) -> None:
    """Entry point of the process.

    Args:
        pipe: takes a `Beat` now and then and an `End`; when its other end closes, this process ends.
    """
    os.setsid()  # Ctrl-C is the supervisor's, which has kept it from us so far
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_supervisor, args=(pipe, order.folder), daemon=True).start()
    log_to_files(order.context.results)
    end: End | None = None
    try:
        _drive(order, pipe)
    except Interrupted as stop:
        end = End(signal=stop.signum)
    except TasBenchError as error:
        passing = isinstance(error, cluster.NoClusterError | cluster.RayLostError)
        end = End(error.exit_code, str(error), passing=passing)
    except BaseException as error:
        log.exception("the driver failed")
        end = End(INTERNAL, f"{type(error).__name__}: {one_line(error)[:300]}", passing=True)
    if end is not None:
        pipe.send(end)


def _end_with_supervisor(pipe: Connection, folder: Path) -> None:
    try:
        pipe.recv()
    except (EOFError, OSError):
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def _drive(order: Order, pipe: Connection) -> None:
    """Let workers run all that the plans ask for."""
    sweep, resources, store = order.sweep, order.resources, Store(order.context.results)
    plans = plans_of(sweep, store, order.failed.__contains__, _replaying(pipe))
    keep_uses(plans, sweep, store, _replaying(pipe))
    if plans.done:
        pipe.send(End())
        return
    tracking = Tracking(order.track, store, sweep.name)
    display, usage = Progress(Console(stderr=True), sweep.jobs, order.quiet), Usage(store.path)
    with Signals() as signals, cluster.ray_for(resources, order.folder), display:
        signals.take()  # again, since ray.init took SIGTERM for itself
        gpus = max(order.gpus, sum(node.gpus for node in cluster.nodes()))
        dispatch = Dispatch(plans, sweep, order.context, display, resources, gpus)
        pool = _pool(order, dispatch, gpus)
        if order.first:
            pool.check()
        else:
            pool.strict = False
            pool.look()
        beat = 0.0

        def sign_of_life() -> None:
            nonlocal beat
            signals.check()
            if time.monotonic() - beat > BEAT:
                beat = time.monotonic()
                pipe.send(Beat(len(plans.outcomes) - plans.replayed, dispatch.take_failed(), gpus))
                usage.write(pool.slots, dispatch.busy_seconds)

        try:
            while not dispatch.finished:
                sign_of_life()
                _step(pool, dispatch, resources, tracking)
            if dispatch.fault is None:
                tracking.close(sign_of_life)
        finally:
            usage.write(pool.slots, dispatch.busy_seconds, last=True)
        if dispatch.fault is not None:
            raise dispatch.fault
        pipe.send(End())  # before Ray is shut down, which may take its time


def _replaying(pipe: Connection) -> Callable[[], None]:
    """What plans call while they are run again."""
    told = 0.0

    def sign_of_life() -> None:
        nonlocal told
        if time.monotonic() - told > BEAT:
            told = time.monotonic()
            pipe.send(Replaying())

    return sign_of_life


def _step(pool: Pool, dispatch: Dispatch, resources: Resources, tracking: Tracking) -> None:
    """Feed who is idle, and take in what has ended."""
    feed(pool, dispatch)
    if not pool.nodes and resources.address is None:
        raise cluster.RayLostError("the driver lost its Ray")
    for ended in pool.poll(POLL):
        if ended.report is not None:
            dispatch.complete(ended.task.key, ended.report.fault)
            tracking.ended(ended.task.key)
        else:
            if dispatch.died(ended.task.key, ended.how, ended.detail):
                tracking.ended(ended.task.key)


def _pool(order: Order, dispatch: Dispatch, gpus: float) -> Pool:
    """A pool whose workers see this run's directories and have its versions."""

    def tick(task: Task, report: Report) -> None:
        dispatch.tick(task.key, report.epoch, report.epochs)

    context, resources, token = order.context, order.resources, uuid.uuid4().hex
    marker = context.results / "_log" / "driver"
    write_whole(marker, token.encode())
    return Pool(
        resources.shares(gpus), (marker, token, context.data_root, deciding_versions()),
        resources.job_seconds, resources.silent_seconds, tick,
    )  # fmt: skip


def feed(pool: Pool, dispatch: Dispatch) -> None:
    """Give the idle actors what waits, those whose share a waiting kind of job has."""
    waiting: Counter[Share] = Counter()
    kinds: dict[Share, list[str]] = {}
    for kind, jobs in dispatch.queued.items():
        share = dispatch.resources.share(kind, dispatch.found_gpus)
        waiting[share] += jobs
        kinds.setdefault(share, []).append(kind)
    first = pool.starved(waiting)
    for actor in pool.idle():
        if actor.share in kinds and (first is None or not pool.in_the_way(actor, first)):
            task = dispatch.next_task(kinds[actor.share], pool.beside(actor))
            if task is not None:
                pool.give(actor, task)
                waiting[actor.share] -= 1
    pool.fit({share: jobs for share, jobs in waiting.items() if jobs})


def log_to_files(results: Path) -> None:
    """Keep the terminal quiet: the details go to files beside the rows."""
    ours = (("tas_bench", "run.log", logging.INFO), ("ray", "ray.log", logging.WARNING))
    for name, file, level in ours:
        logger = logging.getLogger(name)
        for old in logger.handlers:
            old.close()
        handler = logging.FileHandler(log_folder(results) / file, delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
