"""What the pool knows of each of its actors, and of a task that one runs no more."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tas_bench.dispatch import Death, Task
from tas_bench.resources import Share
from tas_bench.runner.worker import Report


@dataclass(eq=False)
class Actor:
    """An actor of the pool.

    Attributes:
        node: where it is, by our choice.
        greeted: it has started, and found all it needs.
        pending: the call it is to answer; None while it is idle.
        asked: when that call was made; `began`: when its task was given to it.
        since: when what it holds was free last.
    """

    handle: Any
    share: Share
    node: str
    greeted: bool = False
    pending: Any = None
    task: Task | None = None
    asked: float = 0.0
    began: float = 0.0
    since: float = field(default_factory=time.monotonic)

    @property
    def idle(self) -> bool:
        """Whether it waits for a task."""
        return self.greeted and self.pending is None


@dataclass(frozen=True)
class Ended:
    """A task that is no longer run: by its own end (`report`) or by its worker's (`how`)."""

    task: Task
    report: Report | None = None
    how: Death = "process"
    detail: str = ""
