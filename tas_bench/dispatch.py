"""Between plans and Tune, without Ray: which job comes next, and what becomes of an ended one."""

from __future__ import annotations

import datetime
import logging
import time
from dataclasses import dataclass
from typing import Any

from tas_bench.errors import InputError, StoreDamagedError, StoreIOError, TasBenchError
from tas_bench.jobs import Context, Job, Outcome
from tas_bench.plans import Plans, Use
from tas_bench.progress import Progress
from tas_bench.store import Store, outcome_of
from tas_bench.sweep import Sweep
from tas_bench.worker import Labels, row_of

log = logging.getLogger("tas_bench")

FAULTS = {error.exit_code: error for error in (InputError, StoreDamagedError, StoreIOError)}
"""What a worker could not do with the store or for want of a latency table, by exit code."""

JOB_RETRIES = 1
"""How often a job is started again after its worker process died."""


@dataclass(frozen=True, repr=False)
class Task:
    """What a trial's config carries; its repr names Tune's trial."""

    key: str
    job: Job
    labels: Labels
    context: Context

    def __repr__(self) -> str:
        return self.key


class Dispatch:
    """What a searcher is asked and told: hands out jobs, takes their rows, tells the display."""

    def __init__(self, plans: Plans, sweep: Sweep, context: Context, display: Progress) -> None:
        self.plans, self.sweep, self.context, self.display = plans, sweep, context, display
        self.store = Store(context.results)
        self.running: dict[str, tuple[Use, float]] = {}
        self.best: dict[str, float] = {}
        self.fault: TasBenchError | None = None

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to suggest, ever."""
        return self.fault is not None or self.plans.done

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The config of the next trial; None while every plan waits."""
        use = None if self.fault else self.plans.next_job()
        if use is None:
            return None
        self.running[trial_id] = use, time.monotonic()
        self.display.job_started(use.key, _label(use))
        self._show()
        return {"task": Task(use.key, use.job, _labels(self.sweep, use), self.context)}

    def tick(self, trial_id: str, result: dict[str, Any]) -> None:
        """A sign of life."""
        if trial_id in self.running and result.get("epochs"):
            self.display.job_ticked(self.running[trial_id][0].key, result["epoch"], result["epochs"])

    def complete(self, trial_id: str, result: dict[str, Any] | None, died: bool) -> None:
        """A trial ended: its plan goes on with what the row says."""
        use, started = self.running.pop(trial_id)
        try:
            outcome = self._outcome(use, (result or {}).get("fault"), died)
            self.plans.finish(use.key, outcome)
        except TasBenchError as fault:
            self.fault = fault
            return
        seconds = time.monotonic() - started
        log.info("%s %s %s in %.1f s", use.key, _label(use), outcome.status, seconds)
        self.display.job_finished(use.key, _label(use), outcome.status, seconds)
        if outcome.val_accuracy is not None and outcome.val_accuracy > self.best.get(use.method, 0.0):
            self.best[use.method] = outcome.val_accuracy
            self.display.best(use.method, f"validation {outcome.val_accuracy:.2%}")
        self._show()

    def _outcome(self, use: Use, fault: tuple[int, str] | None, died: bool) -> Outcome:
        if fault:
            raise FAULTS.get(fault[0], TasBenchError)(fault[1])
        row = self.store.row(use.key)
        if died and (row is None or row["status"] != "ok"):
            row = self._record_death(use, row)
        if row is None:
            raise StoreDamagedError(f"job {use.key} ended without a row in {self.store.path}; run again")
        return outcome_of(row)

    def _record_death(self, use: Use, earlier: dict[str, Any] | None) -> dict[str, Any]:
        """Commit the failed row that a killed worker could not write."""
        dead = Outcome(status="failed", error="the worker process died (killed, crashed or out of memory)")
        attempts = 1 + JOB_RETRIES + (earlier["attempts"] if earlier else 0)
        now = datetime.datetime.now(datetime.UTC)
        row = row_of(use.job, _labels(self.sweep, use), dead, attempts, now)
        self.store.commit(row)
        return row

    def _show(self) -> None:
        left = sum(not plan.done for plan in self.plans.plans)
        self.display.update(len(self.plans.outcomes), len(self.running), self.plans.queued, left)


def _label(use: Use) -> str:
    transfer = use.job.describe().get("transfer")
    return f"{use.plan} {use.job.kind}" + (f" {transfer}" if use.job.kind == "final" else "")


def _labels(sweep: Sweep, use: Use) -> Labels:
    """What the row says of the budget; a size's cost is told here, so that a worker needs no latency table."""
    problem, size = use.problem, getattr(use.job, "size", None)
    budget = None if use.job.kind == "teacher" else problem.budget
    return Labels(sweep.name, use.method, budget, problem.cost, size and problem.cost_of(size))
