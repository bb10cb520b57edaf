"""Looks after the driver: starts it, starts it again when it dies or hangs, stops it when a signal comes.

Nothing depends on how a driver ended: what has been done, and so the exit code, is read from the store.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from tas_bench.attempts import close_left
from tas_bench.dispatch import FAULTS
from tas_bench.errors import BAD_INPUT, INTERNAL, TasBenchError
from tas_bench.files import identities, log_folder, private
from tas_bench.jobs import Context
from tas_bench.lock import Lock
from tas_bench.plans import Plans
from tas_bench.preflight import check_run
from tas_bench.replay import keep_uses, plans_of
from tas_bench.resources import Resources
from tas_bench.runner import driver
from tas_bench.runner.cluster import private_folder
from tas_bench.runner.driver import Beat, End, Order, Replaying
from tas_bench.signals import Interrupted, Signals
from tas_bench.store import Store
from tas_bench.sweep import Sweep
from tas_bench.text import duration

log = logging.getLogger("tas_bench")

STARTS = 8
"""Drivers that may die one after the other without one ended job between them."""

START_SECONDS = 180.0
"""How long a driver may take to start, Ray included; a busy machine takes half a minute."""

BACKOFF = (1.0, 60.0)
"""Seconds before the first new start, doubled each time; the most."""

COMPACT_AFTER = 500
"""Ended jobs, and a tenth of those before, after which their rows are put into one file."""

GRACE = 8.0
"""Seconds that a driver may take to stop."""


@dataclass(frozen=True)
class Finished:
    """A sweep whose plans have all ended.

    Attributes:
        ran, found: jobs that ended in this run, and those that had ended well before.
    """

    plans: Plans
    ran: int
    found: int


@dataclass(frozen=True)
class Talk:
    """How a run talks.

    Attributes:
        begin: called once nothing stands against the run and there is something to do.
        tell: takes a line.
        ended: called now and then when more jobs have ended.
        quiet: no progress display.
        track: who is told of every job as it ends; see `tas_bench.track`.
    """

    begin: Callable[[], None] = lambda: None
    tell: Callable[[str], None] = lambda _line: None
    ended: Callable[[], None] = lambda: None
    quiet: bool = True
    track: tuple[str, ...] = ()


def run_sweep(
    sweep: Sweep,
    results: Path,
    data_root: Path | None,
    resources: Resources,
    talk: Talk = Talk(),
    break_lock: bool = False,
) -> Finished:
    """Run what is missing of a sweep; every finished job's row is in `results` when this returns or raises.

    Args:
        break_lock: take the directory from a run that has given no sign of life for a minute.

    Raises:
        InputError: before any compute: a budget out of reach, a directory of another sweep, too few GPUs ...
        Interrupted: SIGINT or SIGTERM came; the same command goes on from here.
    """
    store = Store(results)
    fingerprints = check_run(sweep, results, data_root, resources)
    ours = private() if resources.address is None else nullcontext()  # a cluster's nodes may have other users
    with ours, store.lock(break_lock) as lock:
        driver.log_to_files(results)
        store.claim(sweep.manifest(), fingerprints)
        close_left(results)
        store.compact()  # so that all that is to be read is read once
        plans = plans_of(sweep, store)
        keep_uses(plans, sweep, store)
        if plans.done:
            return Finished(plans, 0, plans.replayed)
        before = identities(results / "rows", ".parquet")
        talk.begin()
        root = data_root.absolute() if data_root else None
        run_jobs(sweep, Context(results=results.absolute(), data_root=root), resources, talk, lock, store.compact)
        store.compact()
        after = plans_of(sweep, store, lambda _key: True)
        if not after.done:
            raise TasBenchError("the run ended before its plans; the same command goes on from here")
        now = identities(results / "rows", ".parquet")
        ran = sum(now.get(name) != before.get(name) for name in (f"{key}.parquet" for key in after.outcomes))
        return Finished(after, ran, len(after.outcomes) - ran)


def run_jobs(
    sweep: Sweep, context: Context, resources: Resources, talk: Talk, lock: Lock, compact: Callable[[], None]
) -> None:
    """Keep a driver going until every plan has ended.

    Args:
        compact: called now and then, so that few rows have to be read one by one when a run goes on.

    Raises:
        Interrupted: by SIGINT or SIGTERM.
        InputError: another run took the directory.
        TasBenchError: what stands against the run; or drivers died again and again.
    """
    died = 0
    with Signals() as signals, private_folder() as folder:
        order = Order(sweep, context, resources, folder, talk.quiet, talk.track)
        while True:
            driving = _Driving(order)
            try:
                end = driving.watch(signals, lock, compact, talk.ended, resources.silent_seconds)
            finally:
                driving.stop()
            if end.signal is not None:
                raise Interrupted(end.signal)
            if end.code is None:
                return
            died = 1 if driving.ended else died + 1
            first, failed = order.first and not driving.began, order.failed | driving.failed
            order = replace(order, first=first, gpus=max(order.gpus, driving.gpus), failed=failed)
            if not end.passing or (end.code == BAD_INPUT and first):
                raise FAULTS.get(end.code, TasBenchError)(end.message)
            if died >= STARTS:
                details = log_folder(context.results)
                raise TasBenchError(
                    f"{end.message}, {died} times without an ended job between; details in {details}"
                )
            pause = min(BACKOFF[0] * 2 ** (died - 1), BACKOFF[1])
            line = f"{end.message}: it starts again in {duration(pause)}; finished jobs are kept"
            log.warning("%s", line)
            talk.tell(line)
            _sleep(pause, signals)


class _Driving:
    """One driver process.

    Attributes:
        began: it has given a sign of life.
        ended: jobs that have ended under it; `failed`: those that failed.
        gpus: how many it found.
        word: its last, if it has said it.
    """

    def __init__(self, order: Order) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = spawn.Pipe()
        self.process: SpawnProcess = spawn.Process(target=driver.main, args=(order, theirs), name="driver")
        resource_tracker.ensure_running()  # or it would be started now, and lift the mask
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it inherits this until it can listen
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()
        self.began, self.ended, self.gpus, self.failed = False, 0, 0.0, frozenset[str]()
        self.word: End | None = None

    def watch(
        self,
        signals: Signals,
        lock: Lock,
        compact: Callable[[], None],
        ended: Callable[[], None],
        silent_seconds: float,
    ) -> End:
        """Wait for the driver's end.

        Raises:
            Interrupted: a signal came.
        """
        heard, compacted = time.monotonic(), 0
        while True:
            signals.check()
            if lock.lost:
                return End(BAD_INPUT, f"{lock.root} was taken by another run, with --break-lock")
            try:
                word = self.pipe.recv() if self.pipe.poll(0.2) else None
            except (EOFError, OSError):
                self.process.join(GRACE)
                signals.check()
                return _died(self.process.exitcode)
            if isinstance(word, End):
                self.word = word
                return word
            if isinstance(word, Replaying):
                heard = time.monotonic()
            elif isinstance(word, Beat):
                more = word.ended > self.ended
                heard, self.began, self.ended, self.gpus = time.monotonic(), True, word.ended, word.gpus
                if more:
                    ended()
                self.failed |= set(word.failed)
                if word.ended > COMPACT_AFTER + 1.1 * compacted:
                    compacted = word.ended
                    compact()
            else:
                limit = silent_seconds if self.began else max(silent_seconds, START_SECONDS)
                if time.monotonic() - heard > limit:
                    return End(INTERNAL, f"the driver gave no sign of life for {limit:g} s", passing=True)

    def stop(self) -> None:
        """End it, gently if it listens; its Ray ends with it."""
        if self.word is not None:
            self.process.join(GRACE)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(GRACE)
        with suppress(OSError):  # what it started goes with it
            assert self.process.pid is not None
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _died(code: int | None) -> End:
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    return End(INTERNAL, f"the driver {how}", passing=True)


def _sleep(seconds: float, signals: Signals) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        signals.check()
        time.sleep(0.1)
