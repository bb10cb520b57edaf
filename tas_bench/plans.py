"""Keeps all plans of a sweep going at once, and hands out each job once.

No Ray in here: a runner asks `next_job`, runs it wherever it likes, and reports with `finish`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tas_bench.errors import PlanFailedError, TasBenchError, check_name
from tas_bench.jobs import Job, Outcome, Problem, job_id

AnyPlan = Generator[Sequence[Job], Sequence[Outcome], Any]


@dataclass(frozen=True, slots=True)
class Use:
    """One plan's asking for one job.

    Attributes:
        transfer: a training's transfer mode, by name.
    """

    plan: str
    method: str
    seed: int
    problem: Problem
    job: Job
    key: str
    transfer: str | None


@dataclass(eq=False)
class NamedPlan:
    """A plan with the labels its jobs' rows get, and where it stands.

    Attributes:
        awaited: keys of the batch it waits for, in the order it yielded them.
        missing: those of them that have not ended.
        error: why it ended early, one line.
    """

    name: str
    method: str
    seed: int
    problem: Problem
    steps: AnyPlan
    awaited: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    asked: dict[str, Use] = field(default_factory=dict)
    done: bool = False
    error: str | None = None

    def __post_init__(self) -> None:
        check_name("a plan", self.name)  # which names a file

    @property
    def uses(self) -> list[Use]:
        """What it has asked for so far, each job once."""
        return list(self.asked.values())


class Plans:
    """Drives plans over a store of outcomes.

    Args:
        lookup: the outcome of a job that ended well before, or None.
        meanwhile: called after every step of a plan: thousands of them may be answered at the start.
    """

    def __init__(
        self,
        plans: Sequence[NamedPlan],
        lookup: Callable[[Job, str], Outcome | None],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.plans, self._lookup, self._meanwhile = list(plans), lookup, meanwhile
        self._on_progress: Callable[[NamedPlan], None] = lambda _plan: None
        self.outcomes: dict[str, Outcome] = {}
        self.replayed = 0
        self.first_use: dict[str, Use] = {}
        self._queues: dict[str, deque[tuple[int, str]]] = defaultdict(deque)
        self._waiting: dict[str, list[NamedPlan]] = {}
        for plan in self.plans:
            self._advance(plan, None)

    def watch(self, on_progress: Callable[[NamedPlan], None]) -> None:
        """Call `on_progress` with every plan as it stands, and after each of its steps from now on."""
        self._on_progress = on_progress
        for plan in self.plans:
            on_progress(plan)

    @property
    def done(self) -> bool:
        """Whether every plan has ended."""
        return all(plan.done for plan in self.plans)

    @property
    def queued(self) -> Mapping[str, int]:
        """How many jobs of each kind could be started now, the kind of the longest wait first."""
        queues = sorted((queue[0], kind) for kind, queue in self._queues.items() if queue)
        return {kind: len(self._queues[kind]) for _, kind in queues}

    def next_job(self, kinds: Collection[str] | None = None) -> Use | None:
        """The job asked for longest ago, with the first plan that asked for it.

        Args:
            kinds: only of these.

        Returns:
            None where none is to be started: every plan waits, or has ended.
        """
        ready = [q for kind, q in self._queues.items() if q and (kinds is None or kind in kinds)]
        if not ready:
            return None
        _, key = min(ready, key=lambda q: q[0]).popleft()
        return self.first_use[key]

    def again(self, key: str) -> None:
        """Start a job again before all others: its attempt died."""
        use = self.first_use[key]
        self._queues[use.job.kind].appendleft((-1, key))

    def finish(self, key: str, outcome: Outcome) -> None:
        """Report a job's end, good or bad; plans that waited for it go on."""
        self.outcomes[key] = outcome
        for plan in self._waiting.pop(key, []):
            plan.missing.discard(key)
            if not plan.done and not plan.missing:
                self._advance(plan, [self.outcomes[key] for key in plan.awaited])

    def _advance(self, plan: NamedPlan, outcomes: Sequence[Outcome] | None) -> None:
        """Let a plan take steps until it waits for a job that has not ended."""
        while not plan.done:
            try:
                batch = next(plan.steps) if outcomes is None else plan.steps.send(outcomes)
            except StopIteration:
                plan.done = True
            except TasBenchError as error:
                if outcomes is None and not isinstance(error, PlanFailedError):
                    raise  # bad input, found before any compute
                plan.done, plan.error = True, str(error)
            else:
                self._ask(plan, batch)
            self._on_progress(plan)
            self._meanwhile()
            if plan.done or plan.missing:
                return
            outcomes = [self.outcomes[key] for key in plan.awaited]

    def _ask(self, plan: NamedPlan, batch: Sequence[Job]) -> None:
        """Answer a batch from the store, or queue its jobs."""
        plan.awaited, plan.missing = [job_id(job) for job in batch], set()
        for job, key in zip(batch, plan.awaited, strict=True):
            first = self.first_use.get(key)
            transfer = first.transfer if first else _transfer_of(job)
            use = Use(plan.name, plan.method, plan.seed, plan.problem, job, key, transfer)
            plan.asked.setdefault(key, use)
            if key in self.outcomes:
                continue
            if key not in self.first_use:
                self.first_use[key] = use
                known = self._lookup(job, key)
                if known is not None:
                    self.outcomes[key] = known
                    self.replayed += 1
                    continue
                self._queues[job.kind].append((len(self.first_use), key))
            plan.missing.add(key)
            if plan not in self._waiting.setdefault(key, []):
                self._waiting[key].append(plan)


def _transfer_of(job: Job) -> str | None:
    """By the attribute where there is one: describing a job counts its macs."""
    if (mode := getattr(job, "transfer", None)) is not None:
        return str(mode.name)
    return job.describe().get("transfer") if job.kind in ("teacher", "candidate", "final") else None


def uses_rows(plan: NamedPlan, sweep: str) -> list[dict[str, Any]]:
    """A plan's uses as rows of the table `uses`."""
    return [
        {
            "job_id": u.key, "sweep": sweep, "plan": plan.name,
            "dataset": plan.problem.data.name, "backbone": plan.problem.backbone_name,
            "method": plan.method, "seed": plan.seed,
            "kind": u.job.kind, "transfer": u.transfer,
        }
        for u in plan.uses
    ]  # fmt: skip
