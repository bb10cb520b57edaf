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
from dataclasses import replace
from pathlib import Path
from typing import Any

from tas_bench.dispatch import Death, Task
from tas_bench.errors import InputError, TasBenchError
from tas_bench.resources import Share
from tas_bench.runner import cluster
from tas_bench.runner.actor import Actor, Ended
from tas_bench.runner.worker import Hello, Report, Worker
from tas_bench.text import one_line

log = logging.getLogger("tas_bench")

LOOK_EVERY = 1.0
"""Seconds between two looks at the cluster's nodes."""

FALSE_STARTS = 5
"""Actors that may die in a row before their first sign of life, nodes lost aside."""

FULL_STARTS = 50
"""Likewise, for want of memory: another program may have it, and give it back."""

FULL = "running low on memory"
"""What Ray says of it where it has no exception for it."""

PROMPT_SECONDS = 30.0
"""How long an actor takes to start where there is room."""

FAILURES = 8
"""Jobs that may fail in a row on a node while others end well elsewhere."""

BALK_SECONDS = 600.0
"""Seconds for which a share whose worker did not start keeps no others waiting."""

GREETING_SECONDS = 180.0
"""How long an actor may take to start; then its node is stuck, or taken by others, and it is tried anew."""


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
        self.unfit: dict[str, str] = {}
        self.balked: dict[Share, float] = {}
        self.failures: dict[str, int] = {}
        self.looked, self.strict = 0.0, True
        self.false_starts = 0.0

    def check(self) -> None:
        """Refuse shares that no node has.

        Raises:
            InputError: says what there is.
        """
        self.nodes = cluster.nodes()
        for share in self.shares:
            if not any(share.fits(node.cpus, node.gpus) for node in self.nodes):
                have = ", ".join(sorted({f"{node.cpus:g} and {node.gpus:g}" for node in self.nodes})) or "none"
                raise InputError(f"a job asks for {share}; the cluster has no room (its nodes have {have})")

    def look(self) -> None:
        """See which nodes there are; those where no job can run do not count.

        Raises:
            NoClusterError: there are no others, and nothing runs.
        """
        living = cluster.nodes()
        self.nodes = [node for node in living if node.id not in self.unfit]
        if living and not self.nodes and not any(actor.task for actor in self.actors):
            raise cluster.NoClusterError(f"no node of the cluster can run jobs: {self.unfit[living[0].id]}")
        self.looked = time.monotonic()
        here = {node.id for node in self.nodes}
        for actor in [actor for actor in self.actors if actor.idle and actor.node not in here]:
            self._kill(actor)

    @property
    def slots(self) -> float:
        """What the nodes offer, in what jobs' seconds are counted in."""
        gpus = any(share.gpus for share in self.shares)
        return sum(node.gpus if gpus else node.cpus for node in self.nodes)

    # ---- feeding

    def idle(self) -> list[Actor]:
        """Actors that can take a task now, on nodes that are not left out."""
        return [actor for actor in self.actors if actor.idle and actor.node not in self.unfit]

    def beside(self, actor: Actor) -> list[str]:
        """The jobs under way on an actor's node."""
        return [other.task.key for other in self.actors if other.task is not None and other.node == actor.node]

    def give(self, actor: Actor, task: Task) -> None:
        """Let an idle actor run a task."""
        actor.began = time.monotonic()
        idle = (actor.began - actor.since) * actor.share.slots
        actor.task = replace(task, labels=replace(task.labels, idle_seconds=idle))
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
        self.look()
        first = self.starved(waiting)
        if first is not None and any(actor.share == first for actor in self.actors):
            self._make_room([first])  # what is left may be halves of two GPUs
        for share, jobs in waiting.items():
            ours = [actor for actor in self.actors if actor.share == share]
            free = sum(actor.idle or not actor.greeted for actor in ours)
            for _ in range(jobs - free):
                node = self._room(share, None if share == first else first)
                if node is None:
                    if not free and first in (None, share):
                        self._make_room([*waiting] if first is None else [first])
                    break
                self._start(share, node)
                free += 1

    def _room(self, share: Share, starved: Share | None = None) -> cluster.Node | None:
        """The node with most room for one more actor of a share; None where there is none.

        Args:
            starved: another share, which nodes that could hold it are kept for.
        """
        best, most = None, 0
        for node in self.nodes:
            if starved is not None and starved.fits(node.cpus, node.gpus):
                continue
            here = [actor.share for actor in self.actors if actor.node == node.id]
            room = share.fits(node.cpus - sum(s.cpus for s in here), node.gpus - sum(s.gpus for s in here))
            if room > most:
                best, most = node, room
        return best

    def _make_room(self, needed: Collection[Share]) -> None:
        """Give up an idle actor of a share that is not needed now, on a node that could hold one that is."""
        for actor in self.idle():
            if actor.share not in needed and any(self.in_the_way(actor, share) for share in needed):
                self._kill(actor)
                return

    def in_the_way(self, actor: Actor, share: Share) -> bool:
        """Whether an actor's node could hold another share."""
        return any(node.id == actor.node and share.fits(node.cpus, node.gpus) for node in self.nodes)

    def starved(self, waiting: Mapping[Share, int]) -> Share | None:
        """The share of the longest wait, if it has no actor but could have: then others in its way are not fed.

        One that does not come may have been promised halves of two GPUs. If it does not even so, another program
        holds what Ray says is free: others go on for a while.
        """
        first, now = next(iter(waiting), None), time.monotonic()
        ours = [actor for actor in self.actors if actor.share == first]
        if first is None or any(actor.greeted or now - actor.asked < PROMPT_SECONDS for actor in ours):
            return None
        if now < self.balked.get(first, 0.0):
            return None
        return first if any(first.fits(node.cpus, node.gpus) for node in self.nodes) else None

    def _start(self, share: Share, node: cluster.Node) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        remote = ray.remote(Worker).options(
            num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0, scheduling_strategy=there
        )
        actor = Actor(remote.remote(), share, node.id)
        actor.pending, actor.asked = actor.handle.hello.remote(*self.greet), time.monotonic()
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
            if answer.unfit is not None:
                self._leave_out(actor, answer.unfit)
            actor.greeted, self.false_starts = True, 0
            return
        assert actor.task is not None
        if answer.done:
            self.strict = False
            task, actor.task, actor.since = actor.task, None, time.monotonic()
            if answer.status != "ok":  # what made it fail may be its process's: a GPU's context that is lost, say
                self._kill(actor)
            self._judge(actor, answer.status)
            yield Ended(task, answer)
        else:
            self.on_tick(actor.task, answer)
            self._ask(actor)

    def _judge(self, actor: Actor, status: str) -> None:
        """Leave out a node where job after job fails, while they end well elsewhere: it would swallow them all."""
        self.failures[actor.node] = self.failures.get(actor.node, 0) + 1 if status == "failed" else 0
        others = (count for node, count in self.failures.items() if node != actor.node)
        if self.failures[actor.node] >= FAILURES and 0 in others:
            self._leave_out(actor, f"{FAILURES} jobs in a row failed on node {actor.node}, and others ended well")

    def _leave_out(self, actor: Actor, why: str) -> None:
        """Use a node no more; before the first job has ended, tell the user instead.

        Raises:
            InputError: see above.
        """
        if self.strict:
            raise InputError(why)
        log.warning("%s; it is left out", why)
        self.unfit[actor.node] = why
        if actor in self.actors:
            self._kill(actor)

    def _dead(self, actor: Actor, error: Any) -> Iterator[Ended]:
        import ray

        self._kill(actor)  # where only the call failed
        reason = one_line(error)[:300]
        lost = "node has died" in reason
        memory = isinstance(error, ray.exceptions.OutOfMemoryError)
        if actor.task is not None:
            how: Death = "memory" if memory else "node" if lost else "process"
            yield Ended(actor.task, how=how, detail=reason)
        elif not actor.greeted and not lost:
            log.warning("a worker did not start: %s", reason)
            if "No module named" in reason:
                self._leave_out(
                    actor, f"a node cannot run jobs: {_module(reason)}; install tas_bench on all nodes"
                )
            self.false_starts += 1 / FULL_STARTS if memory or FULL in reason else 1 / FALSE_STARTS
            if self.false_starts > 1 - 1e-9 and not any(other.greeted for other in self.actors):
                raise TasBenchError(f"workers do not start: {reason}")

    def _overdue(self) -> Iterator[Ended]:
        now = time.monotonic()
        for actor in [actor for actor in self.actors if not actor.greeted]:
            if now - actor.asked > GREETING_SECONDS:
                log.warning("a worker on node %s did not start within %g s", actor.node, GREETING_SECONDS)
                self.balked[actor.share] = now + BALK_SECONDS
                self._kill(actor)
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
