"""Warm Ray actors: started where there is room, given tasks, watched, and replaced when they die.

Packing: a job's share of a GPU is of one GPU (0.25: four jobs on it), and a node takes as many jobs as both its
CPUs and its GPUs allow. Kinds of job with different shares have actors of their own. Where the cluster is full an
idle actor that nothing waits for makes room; and if the job of the longest wait has no actor of its share at all,
the next ones that become idle do, so that a large job among many small ones gets its turn.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tas_bench.dispatch import Death, Task
from tas_bench.errors import InputError, TasBenchError
from tas_bench.resources import Share
from tas_bench.runner import cluster
from tas_bench.runner.worker import Hello, Report, Worker
from tas_bench.text import one_line

log = logging.getLogger("tas_bench")

LOOK_EVERY = 1.0
"""Seconds between two looks at the cluster's nodes."""

FALSE_STARTS = 5
"""Actors that may die in a row before their first sign of life, nodes lost aside."""


@dataclass(eq=False)
class Actor:
    """An actor of the pool.

    Attributes:
        hello: what it found when it started; None until then.
        pending: the call it is to answer; None while it is idle.
        asked: when that call was made; `began`: when its task was given to it.
    """

    handle: Any
    share: Share
    hello: Hello | None = None
    pending: Any = None
    task: Task | None = None
    asked: float = 0.0
    began: float = 0.0

    @property
    def node(self) -> str | None:
        """Where it is; None until it has said so."""
        return None if self.hello is None else self.hello.node

    @property
    def idle(self) -> bool:
        """Whether it waits for a task."""
        return self.hello is not None and self.hello.unfit is None and self.pending is None


@dataclass(frozen=True)
class Ended:
    """A task that is no longer run: by its own end (`report`) or by its worker's (`how`)."""

    task: Task
    report: Report | None = None
    how: Death = "process"
    detail: str = ""


class Pool:
    """The actors of one run.

    Args:
        shares: what jobs may hold.
        greet: the arguments of `Worker.hello` after the node.
        job_seconds, silent_seconds: see `Resources`.
        on_tick: told of every sign of life.
    """

    def __init__(
        self,
        shares: set[Share],
        greet: tuple[Path, str, Path | None, dict[str, str]],
        job_seconds: float,
        silent_seconds: float,
        on_tick: Callable[[Task, Report], None],
    ) -> None:
        self.shares, self.greet, self.on_tick = shares, greet, on_tick
        self.job_seconds, self.silent_seconds = job_seconds, silent_seconds
        self.actors: list[Actor] = []
        self.nodes: list[cluster.Node] = []
        self.looked, self.false_starts, self.greeted = 0.0, 0, False

    def check(self) -> None:
        """Refuse shares that no node has, on a cluster that will not grow by itself.

        Raises:
            InputError: says what there is.
        """
        self.nodes = cluster.nodes()
        for share in self.shares:
            if not any(share.fits(node.cpus, node.gpus) for node in self.nodes):
                most = max(self.nodes, key=lambda node: (node.gpus, node.cpus))
                have = f"the largest of {len(self.nodes)} nodes has {most.cpus:g} and {most.gpus:g}"
                raise InputError(f"a job asks for {share}; the cluster has no room ({have})")

    # ---- feeding

    def idle(self) -> list[Actor]:
        """Actors that can take a task now."""
        return [actor for actor in self.actors if actor.idle]

    def beside(self, actor: Actor) -> list[str]:
        """The jobs under way on an actor's node."""
        return [other.task.key for other in self.actors if other.task is not None and other.node == actor.node]

    def give(self, actor: Actor, task: Task) -> None:
        """Let an idle actor run a task."""
        actor.task, actor.began = task, time.monotonic()
        self._ask(actor)

    def _ask(self, actor: Actor) -> None:
        actor.pending, actor.asked = actor.handle.work.remote(actor.task), time.monotonic()

    # ---- growing

    def fit(self, waiting: Mapping[Share, int]) -> None:
        """Start actors for waiting jobs where there is room; make room where there is none.

        Args:
            waiting: jobs by share, that of the longest wait first.
        """
        if not waiting or time.monotonic() - self.looked < LOOK_EVERY:
            return
        self.nodes, self.looked = cluster.nodes(), time.monotonic()
        first = self.starved(waiting)
        for share, jobs in waiting.items() if first is None else [(first, waiting[first])]:
            free = sum(actor.share == share and (actor.idle or actor.hello is None) for actor in self.actors)
            wanted = min(jobs - free, self._room(share))
            for _ in range(wanted):
                self._start(share)
            if wanted <= 0 and free <= 0:
                self._make_room([other for other in waiting if first is None or other == first])

    def _room(self, share: Share) -> int:
        """How many more actors of a share the nodes take, by what we know of ours."""
        room, coming = 0, [actor for actor in self.actors if actor.hello is None]
        for node in self.nodes:
            here = [actor for actor in self.actors if actor.node == node.id]
            cpus = node.cpus - sum(actor.share.cpus for actor in here)
            gpus = node.gpus - sum(actor.share.gpus for actor in here)
            room += max(0, share.fits(cpus, gpus))
        return room - len(coming)

    def _make_room(self, needed: Collection[Share]) -> None:
        """Give up an idle actor of a share that is not needed now."""
        for actor in self.idle():
            if actor.share not in needed:
                self._kill(actor)
                return

    def starved(self, waiting: Mapping[Share, int]) -> Share | None:
        """The share of the longest wait, if it has no actor but could have: then no actor of others is fed."""
        first = next(iter(waiting), None)
        if first is None or any(actor.share == first for actor in self.actors):
            return None
        return first if any(first.fits(node.cpus, node.gpus) for node in self.nodes) else None

    def _start(self, share: Share) -> None:
        import ray

        remote = ray.remote(_Worker).options(
            num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0, max_task_retries=0
        )
        actor = Actor(remote.remote(), share)
        actor.pending, actor.asked = actor.handle.greet.remote(*self.greet), time.monotonic()
        self.actors.append(actor)

    def _kill(self, actor: Actor) -> None:
        import ray

        self.actors.remove(actor)
        ray.kill(actor.handle)

    # ---- listening

    def poll(self, seconds: float) -> list[Ended]:
        """What ended within so many seconds; returns early when something does.

        Raises:
            InputError: no worker can do this run's jobs where it is.
            TasBenchError: workers do not start.
        """
        import ray

        pending = {actor.pending: actor for actor in self.actors if actor.pending is not None}
        if not pending:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(pending), num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
        ended = [found for ref in ready for found in self._answer(pending[ref])]
        return ended + list(self._overdue())

    def _answer(self, actor: Actor) -> Iterator[Ended]:
        """Take in what an actor says, or that it can say nothing more."""
        import ray

        try:
            answer = ray.get(actor.pending)
        except ray.exceptions.ActorUnavailableError as error:
            if actor.task is None:
                yield from self._dead(actor, error)
            else:  # the line was cut: the next call finds it at work, or tells what has become of it
                asked = actor.asked
                self._ask(actor)
                actor.asked = asked  # no sign of life
        except ray.exceptions.RayError as error:
            yield from self._dead(actor, error)
        else:
            actor.pending = None
            yield from self._told(actor, answer)

    def _told(self, actor: Actor, answer: Hello | Report) -> Iterator[Ended]:
        if isinstance(answer, Hello):
            self._greeted(actor, answer)
            return
        assert actor.task is not None
        if answer.done:
            task, actor.task = actor.task, None
            yield Ended(task, answer)
        else:
            self.on_tick(actor.task, answer)
            self._ask(actor)

    def _greeted(self, actor: Actor, hello: Hello) -> None:
        actor.hello, self.false_starts = hello, 0
        if hello.unfit is None:
            self.greeted = True
        elif not self.greeted:
            raise InputError(hello.unfit)
        else:  # a late node: the others go on, and it keeps its unfit actor so that no other is started there
            log.warning("%s; it is left out", hello.unfit)

    def _dead(self, actor: Actor, error: Any) -> Iterator[Ended]:
        import ray

        self.actors.remove(actor)
        ray.kill(actor.handle)  # where only the call failed
        reason = one_line(error)[:300]
        lost = "node has died" in reason
        if actor.task is not None:
            memory = isinstance(error, ray.exceptions.OutOfMemoryError)
            how: Death = "memory" if memory else "node" if lost else "process"
            yield Ended(actor.task, how=how, detail=reason)
        elif actor.hello is None and not lost and not isinstance(error, ray.exceptions.OutOfMemoryError):
            log.warning("a worker did not start: %s", reason)
            self.false_starts += 1
            if "No module named" in reason:
                raise InputError(f"a node cannot run jobs: {_module(reason)}; install tas_bench on all nodes")
            if self.false_starts >= FALSE_STARTS:
                raise TasBenchError(f"workers do not start: {reason}")

    def _overdue(self) -> Iterator[Ended]:
        now = time.monotonic()
        for actor in [actor for actor in self.actors if actor.task is not None]:
            assert actor.task is not None
            if now - actor.asked > self.silent_seconds:
                yield self._end(actor, "silent", f"for {self.silent_seconds:g} s")
            elif now - actor.began > self.job_seconds:
                yield self._end(actor, "overtime", f"{self.job_seconds:g} s")

    def _end(self, actor: Actor, how: Death, detail: str) -> Ended:
        self._kill(actor)
        assert actor.task is not None
        return Ended(actor.task, how=how, detail=detail)


def _module(reason: str) -> str:
    start = reason.index("No module named")
    return reason[start : start + 60].split(" at ")[0]


class _Worker(Worker):
    """The actor's class, which knows its node."""

    def greet(self, marker: Path, token: str, data_root: Path | None, wanted: dict[str, str]) -> Hello:
        import ray

        return self.hello(ray.get_runtime_context().get_node_id(), marker, token, data_root, wanted)
