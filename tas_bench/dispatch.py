"""Between plans and workers, without Ray: which job comes next, and what becomes of one that ended or died."""

from __future__ import annotations

import datetime
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tas_bench.attempts import Attempts
from tas_bench.errors import InputError, StoreDamagedError, StoreIOError, TasBenchError
from tas_bench.jobs import WEIGHTED, Context, Job, Outcome
from tas_bench.plans import Plans, Use
from tas_bench.progress import Progress
from tas_bench.resources import Resources
from tas_bench.store import Row, Store, outcome_of
from tas_bench.sweep import Sweep
from tas_bench.text import one_line
from tas_bench.worker import Labels, row_of

log = logging.getLogger("tas_bench")

FAULTS = {error.exit_code: error for error in (InputError, StoreDamagedError, StoreIOError)}
"""What a worker could not do with the store or for want of a latency table, by exit code."""

Death = Literal["process", "memory", "node", "silent", "overtime"]
"""How a worker died under its job: its process (killed or crashed), by Ray's memory monitor, with its node, or by
our hand, since it gave no sign of life or its job took too long."""

RETRIES: Mapping[Death, int] = {"process": 1, "memory": 2, "node": 20, "silent": 1, "overtime": 0}
"""How often a job is started again after each kind of death, from its last checkpoint. A death by memory may be
another job's fault: the next attempt has its node to itself, after all other jobs. One by node always is. Deaths
of these two kinds do not use up what is for the job's own."""

ENDS: Mapping[Death, tuple[str, str]] = {
    "process": ("failed", "the worker process died (killed or crashed)"),
    "memory": ("oom", "the node ran out of memory and this job's worker was killed"),
    "node": ("failed", "its node was lost"),
    "silent": ("timeout", "the worker gave no sign of life"),
    "overtime": ("timeout", "the job took longer than a job may"),
}
"""Status and error of the row after the last attempt."""


PATIENCE = 20.0
"""Seconds until a file that another node has just written must be seen on shared storage."""


@dataclass(frozen=True, repr=False)
class Task:
    """What a worker is given."""

    key: str
    job: Job
    labels: Labels
    context: Context


@dataclass(frozen=True)
class Running:
    """A job under way."""

    use: Use
    started: float
    slots: float
    """CPU cores (or GPUs) it holds."""

    @property
    def held_seconds(self) -> float:
        """Slot-seconds so far."""
        return (time.monotonic() - self.started) * self.slots


class Dispatch:
    """What workers are fed from: hands out jobs, takes their rows, tells the display.

    Attributes:
        fault: what ends the run: the store, or what a worker cannot do.
        held_seconds: slot-seconds of the jobs that have ended or died; see `Share.slots`.
    """

    def __init__(
        self,
        plans: Plans,
        sweep: Sweep,
        context: Context,
        display: Progress,
        resources: Resources,
        found_gpus: float = 0,
    ) -> None:
        self.plans, self.sweep, self.context, self.display = plans, sweep, context, display
        self.resources, self.found_gpus = resources, found_gpus
        self.store = Store(context.results)
        self.running: dict[str, Running] = {}
        self.deaths: dict[str, Counter[Death]] = defaultdict(Counter)
        self.reached: dict[str, int] = defaultdict(int)
        self.died_at: dict[str, int] = {}
        self.suspects: dict[str, Use] = {}
        self.best: dict[str, float] = {}
        self.held_seconds = 0.0
        self.failed: list[str] = []
        self.fault: TasBenchError | None = None

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to hand out, ever."""
        return self.fault is not None or self.plans.done

    @property
    def queued(self) -> Mapping[str, int]:
        """How many jobs of each kind wait to be started, the kind of the longest wait first."""
        return Counter(self.plans.queued) + Counter(use.job.kind for use in self.suspects.values())

    def next_task(self, kinds: Collection[str] | None = None, beside: Collection[str] = ()) -> Task | None:
        """The next job to run, of these kinds; None where none is to be started.

        Args:
            beside: the jobs under way on the same node.
        """
        if self.fault or any(self.deaths[key]["memory"] for key in beside if key in self.deaths):
            return None
        use = self.plans.next_job(kinds)
        if use is None and not beside:
            use = next((use for use in self.suspects.values() if kinds is None or use.job.kind in kinds), None)
        if use is None:
            return None
        self.suspects.pop(use.key, None)
        share = self.resources.share(use.job.kind, self.found_gpus)
        self.running[use.key] = Running(use, time.monotonic(), share.slots)
        self.display.job_started(use.key, _label(use))
        self._show()
        context = replace(self.context, cpus=share.cpus, gpus=share.gpus)
        return Task(use.key, use.job, _labels(self.sweep, use), context)

    def tick(self, key: str, epoch: int, epochs: int) -> None:
        """A sign of life. A job that has come further than at its last death may die as often again."""
        self.reached[key] = max(epoch, self.reached[key])
        if epoch > self.died_at.get(key, epoch) and not self.deaths[key]["memory"]:
            self.deaths.pop(key)
        if epochs:
            self.display.job_ticked(key, epoch, epochs)

    def complete(self, key: str, fault: tuple[int, str] | None = None) -> None:
        """A job came to its end: the plans that wait for it go on with what its row says.

        Args:
            fault: exit code and message of what the worker could not do.
        """
        running = self._take_back(key)
        try:
            if fault:
                raise FAULTS.get(fault[0], TasBenchError)(fault[1])
            row = self._row(key)
            if row is None:
                raise StoreDamagedError(f"job {key} ended without a row in {self.store.path}; run again")
            lost = Outcome(status="failed", error="its weights are missing")  # an old row, which stands
            self._finish(running, self.store.outcome(key) or (outcome_of(row) if row["status"] != "ok" else lost))
        except Exception as error:  # a plan's own code runs in here
            self._stop(error)

    def _row(self, key: str) -> Row | None:
        """A row that a worker says it wrote; shared storage may show it some time later."""
        deadline = time.monotonic() + PATIENCE
        while (row := self.store.row(key)) is None and time.monotonic() < deadline:
            time.sleep(0.2)
            next(iter((self.store.path / "rows").glob("*.parquet")), None)  # a listing makes NFS look again
        return row

    def died(self, key: str, how: Death, detail: str) -> bool:
        """A worker died under its job: it starts again from its checkpoint, or it has failed.

        Returns:
            Whether the job has come to its end.
        """
        running = self._take_back(key)
        log.warning("%s %s: %s (%s)", key, _label(running.use), ENDS[how][1], detail)
        try:
            if (outcome := self.store.outcome(key)) is not None:  # its last act
                self._finish(running, outcome)
                return True
            attempts = Attempts(self.store.path, key, self.store.row(key))
            if how != "memory" or attempts.under_way:  # else its worker had been killed while it was idle
                self.deaths[key][how] += 1
                self.died_at[key] = self.reached[key]
                attempts.end(how, running.held_seconds)
            if self.deaths[key][how] <= RETRIES[how]:
                if self.deaths[key]["memory"]:
                    self.suspects[key] = running.use
                else:
                    self.plans.again(key)
                self.display.job_stopped(key)
                return False
            self._finish(running, self._record_death(running.use, attempts, how))
        except Exception as error:  # a plan's own code runs in here
            self._stop(error)
        return self.fault is None

    def _take_back(self, key: str) -> Running:
        running = self.running.pop(key)
        self.held_seconds += running.held_seconds
        return running

    @property
    def busy_seconds(self) -> float:
        """Slot-seconds of all jobs, those under way included."""
        return self.held_seconds + sum(running.held_seconds for running in self.running.values())

    def _stop(self, error: Exception) -> None:
        """Nothing is handed out any more: the store or a plan failed, and would again."""
        if not isinstance(error, TasBenchError):
            log.error("a plan failed", exc_info=error)
            error = TasBenchError(f"internal fault in a plan: {type(error).__name__}: {one_line(error)[:300]}")
        self.fault = error

    def take_failed(self) -> tuple[str, ...]:
        """Jobs that have failed since this was last asked."""
        failed, self.failed = tuple(self.failed), []
        return failed

    def _finish(self, running: Running, outcome: Outcome) -> None:
        use, seconds = running.use, time.monotonic() - running.started
        for kept in (self.deaths, self.reached, self.died_at):
            kept.pop(use.key, None)
        if not outcome.ok:
            self.failed.append(use.key)
        self.plans.finish(use.key, outcome)
        log.info("%s %s %s in %.1f s", use.key, _label(use), outcome.status, seconds)
        self.display.job_finished(use.key, _label(use), outcome.status, seconds, use.job.kind)
        if outcome.val_accuracy is not None and outcome.val_accuracy > self.best.get(use.method, 0.0):
            self.best[use.method] = outcome.val_accuracy
            self.display.best(use.method, f"validation {outcome.val_accuracy:.2%}")
        self._show()

    def _record_death(self, use: Use, attempts: Attempts, how: Death) -> Outcome:
        """Commit the row that a dead worker could not write."""
        status, error = ENDS[how]
        dead = Outcome(status=status, error=error, device_seconds=attempts.seconds)
        began = attempts.all[-1].get("started")
        started = datetime.datetime.fromisoformat(began) if began else datetime.datetime.now(datetime.UTC)
        self.store.commit(row_of(use.job, _labels(self.sweep, use), dead, attempts.count, started))
        return dead

    def _show(self) -> None:
        left = sum(not plan.done for plan in self.plans.plans)
        queued = self.queued
        kinds = Counter(queued) + Counter(running.use.job.kind for running in self.running.values())
        self.display.update(len(self.plans.outcomes), len(self.running), sum(queued.values()), left, kinds)


def _label(use: Use) -> str:
    return f"{use.plan} {use.job.kind}" + (f" {use.transfer}" if use.job.kind == "final" else "")


def _labels(sweep: Sweep, use: Use) -> Labels:
    """What the row says of the budget; a size's cost is told here, so that a worker needs no latency table."""
    problem, size = use.problem, getattr(use.job, "size", None)
    for_all = use.job.kind in WEIGHTED and not hasattr(use.job, "problem")  # budgets
    budget = None if for_all else problem.budget
    return Labels(sweep.name, use.method, budget, problem.cost, size and problem.cost_of(size))
