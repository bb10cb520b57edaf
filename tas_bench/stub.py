"""A job that costs nothing, or fails to order: for measuring the runner and for tests of faults."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tas_bench.errors import DivergedError
from tas_bench.jobs import Context, Outcome, Plan, Problem
from tas_bench.space import Size


@dataclass(frozen=True, kw_only=True)
class Stub:
    """Sleeps, then answers with a validation accuracy made from its seed, or misbehaves.

    Attributes:
        meet: wait until that many stubs of this results directory are under way side by side.
        fault: "" (none), "raise", "diverge", "kill" (SIGKILL to itself) or "kill once".
    """

    version: ClassVar[int] = 1

    seed: int
    seconds: float = 0.0
    meet: int = 0
    fault: str = ""

    @property
    def kind(self) -> str:
        """It stands in for a candidate."""
        return "candidate"

    @property
    def touches_test(self) -> bool:
        """It touches nothing."""
        return False

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        return {"seed": self.seed, "transfer": "scratch", "split": "search"}

    def run(self, context: Context) -> Outcome:
        """Sleep and answer, or misbehave."""
        if self.meet:
            self._meet(context.results / "_log")
        time.sleep(self.seconds)
        if self.fault == "raise":
            raise ValueError("told to fail\nin two lines")
        if self.fault == "diverge":
            raise DivergedError("told to diverge")
        marker = context.results / "_log" / f"killed-{self.seed}"
        if self.fault == "kill" or (self.fault == "kill once" and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
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
        return Size(problem.backbone.full.widths, problem.backbone.full.depths)
