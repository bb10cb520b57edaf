"""A job that costs nothing, or fails to order: for measuring the runner and for tests of faults."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from tas_bench.errors import DivergedError
from tas_bench.jobs import Context, Outcome, Plan, Problem

HOG = 8 * 2**30
"""The most that a hog takes."""


def _raise() -> NoReturn:
    raise ValueError("told to fail\nin two lines")


def _diverge() -> NoReturn:
    raise DivergedError("told to diverge")


def _memory_error() -> NoReturn:
    raise MemoryError("told to want too much")


def _signal_itself(signum: int) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(60)


def _hog() -> NoReturn:
    """Take an eighth of a gibibyte every tenth of a second until somebody minds, but no more than `HOG` bytes."""
    taken = []
    for _ in range(HOG >> 27):
        taken.append(bytearray(os.urandom(1024)) * 2**17)
        time.sleep(0.1)
    raise RuntimeError(f"nobody minded {len(taken)} eighths of a gibibyte")


FAULTS: Mapping[str, Callable[[], None]] = {
    "raise": _raise,
    "diverge": _diverge,
    "memory": _memory_error,
    "kill": partial(_signal_itself, signal.SIGKILL),
    "segv": partial(_signal_itself, signal.SIGSEGV),
    "freeze": partial(_signal_itself, signal.SIGSTOP),
    "exit": partial(os._exit, 7),
    "hang": partial(time.sleep, 3600),
    "hog": _hog,
}
"""What can go wrong with a job."""


@dataclass(frozen=True, kw_only=True)
class Stub:
    """Sleeps, then answers with a validation accuracy made from its seed, or misbehaves.

    Attributes:
        meet: wait until that many stubs of this results directory are under way side by side.
        fault: "" (none) or one of `FAULTS`; with " once" behind it, at its first attempt only.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "candidate"
    touches_test: ClassVar[bool] = False

    seed: int
    seconds: float = 0.0
    meet: int = 0
    fault: str = ""

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        return {"seed": self.seed, "transfer": "scratch", "split": "search"}

    def run(self, context: Context) -> Outcome:
        """Sleep and answer, or misbehave."""
        if self.meet:
            self._meet(context.results / "_log")
        time.sleep(self.seconds)
        what, _, once = self.fault.partition(" ")
        marker = context.results / "_log" / f"{what}-{self.seed}"
        if what and not (once and marker.exists()):
            marker.touch()
            FAULTS[what]()
        return Outcome(val_accuracy=(self.seed * 7919 % 1000) / 1000, device_seconds=self.seconds)

    def _meet(self, folder: Path) -> None:
        (folder / f"met-{self.seed}").touch()
        for _ in range(2 * 60):
            if len(list(folder.glob("met-*"))) >= self.meet:
                return
            time.sleep(0.5)
        raise TimeoutError(f"waited a minute for {self.meet} stubs side by side")


@dataclass(frozen=True, kw_only=True)
class StubMethod:
    """Asks for batches of stubs and returns the unpruned size.

    Attributes:
        fault: given to the first stub of every batch.
    """

    name: ClassVar[str] = "stub"
    label: ClassVar[str] = "Stub"

    batches: int = 1
    jobs: int = 4
    seconds: float = 0.0
    meet: int = 0
    fault: str = ""

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Batch after batch."""
        for batch in range(self.batches):
            first = 1_000_000 * seed + 1000 * batch
            yield [
                Stub(seed=first + i, seconds=self.seconds, meet=self.meet, fault="" if i else self.fault)
                for i in range(self.jobs)
            ]
        return problem.backbone.full
