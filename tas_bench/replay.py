"""Where a sweep stands, by running its plans again: every job that has its row answers at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from tas_bench.checkpoint import drop
from tas_bench.jobs import WEIGHTED, Job, Outcome, job_id
from tas_bench.plans import NamedPlan, Plans, Use, uses_rows
from tas_bench.store import Store
from tas_bench.sweep import Sweep, names_of
from tas_bench.uses import write_uses

log = logging.getLogger("tas_bench")

Lookup = Callable[[Job, str], Outcome | None]
"""The outcome of a job by its key, if it has ended."""


def plans_of(
    sweep: Sweep,
    store: Store,
    failed: Callable[[str], bool] = lambda _key: False,
    meanwhile: Callable[[], None] = lambda: None,
) -> Plans:
    """The sweep's plans, as far as the store's rows bring them; nothing is written.

    A job whose weights are lost is asked for again only where a plan that has not ended draws on it, or may yet:
    one that still searches, on all it asked for and on the teacher of its problem and seed.

    Args:
        failed: whether a row of a job that failed is an answer, too: it is not tried again.
        meanwhile: called again and again.

    Raises:
        StoreDamagedError: a row cannot be read back.
    """
    known = lookup_in(store, failed)
    plans = Plans(sweep.plans(), known, meanwhile)
    lost = _lost_weights(plans, known, store)
    if not lost:
        return plans
    gone = Outcome(status="failed", error="its weights are lost, and its training for others failed")

    def lookup(job: Job, key: str) -> Outcome | None:
        return (gone if failed(key) else None) if key in lost else known(job, key)

    return Plans(sweep.plans(), lookup, meanwhile)


def _lost_weights(plans: Plans, known: Lookup, store: Store) -> set[str]:
    """The jobs that ended well, whose weights are lost, and on which a plan that has not ended draws."""
    going = [plan for plan in plans.plans if not plan.done]
    ending = {plan.name for plan in going if all(plan.asked[key].job.kind == "final" for key in plan.awaited)}
    searching = {(plan.problem, plan.seed) for plan in going if plan.name not in ending}
    needed = [_source(plan.asked[key].job) for plan in going if plan.name in ending for key in plan.missing]
    needed += [
        use.job
        for plan in plans.plans
        for use in plan.uses
        if (not plan.done and plan.name not in ending)
        or (use.job.kind == "teacher" and (plan.problem, plan.seed) in searching)
    ]
    lost: set[str] = set()
    seen: set[str] = set()
    while needed:
        job = needed.pop()
        if job is None or job.kind not in WEIGHTED or (key := job_id(job)) in seen:
            continue
        seen.add(key)
        if (found := known(job, key)) and found.ok and store.outcome(key) is None:
            lost.add(key)
            needed.append(_source(job))  # of a pruning
    return lost


def _source(job: Job) -> Job | None:
    """The job whose weights another draws on; None where it draws on none."""
    return getattr(job, "teacher", None)


def lookup_in(store: Store, failed: Callable[[str], bool]) -> Lookup:
    """How plans find what has ended, among the rows as they are now, weights or no weights.

    Args:
        failed: see `plans_of`.

    Raises:
        StoreDamagedError: a row cannot be read back.
    """
    known = store.outcomes() if (store.path / "rows").is_dir() else {}

    def lookup(_job: Job, key: str) -> Outcome | None:
        found = known.get(key)
        return found if found is None or found.ok or failed(key) else None

    return lookup


def keep_uses(plans: Plans, sweep: Sweep, store: Store, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Write which plan asked for which job, and drop what no plan goes on from, now and after every step.

    Args:
        meanwhile: called with every plan.
    """

    def on_progress(plan: NamedPlan) -> None:
        meanwhile()
        asked, well = uses_rows(plan, sweep.name), plan.done and plan.error is None
        there = [use["transfer"] for use in asked if use["kind"] == "final"]
        write_uses(store.path, plan.name, asked, names_of(sweep.transfers) if well else there)
        if plan.error:
            log.warning("plan %s ended early: %s", plan.name, plan.error)
        if left := left_by(plan.uses):
            waiting = [p.asked[key] for p in plans.plans if not p.done for key in p.awaited]
            drop(store.path, left - left_by(waiting))

    plans.watch(on_progress)


def left_by(uses: Iterable[Use]) -> set[str]:
    """Keys of the checkpoints that jobs leave for others."""
    return {key for use in uses if (key := getattr(use.job, "checkpoint", None))}
