"""A search that is given up where it is hopeless, by a rule that is part of the job and so of its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tas_bench.jobs import Context, Outcome, Problem, job_id
from tas_bench.search.job import TasSearch, search

LAST = 3
"""Epochs of which the nearest counts: F_cost jumps about."""

NEAR_THE_END = 6
"""Epochs before the end of a search, at least, in which it is not asked any more: most is decided there."""


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When a search is hopeless. A constrained one is not asked in its last tenth, or last six epochs.

    Attributes:
        after: epochs that every search has.
        off: F_cost further than that outside the band, as a share of R, after each of the last epochs.
        loss: or a validation loss above that, likewise; None looks at F_cost alone.
    """

    after: int
    off: float
    loss: float | None = None

    def why(
        self, search: TasSearch, curve: Sequence[Mapping[str, float]], trajectory: Sequence[Mapping[str, Any]]
    ) -> str | None:
        """What a row says of a search that is given up; None where it goes on."""
        done, settings, problem = len(curve), search.settings, search.problem
        near = settings.search_epochs - done <= max(NEAR_THE_END, settings.search_epochs // 10)
        if done < max(self.after, LAST) or (near and settings.lambda_cost > 0):
            return None
        low, high = problem.band
        off = min(max(low - point["f_cost"], point["f_cost"] - high) for point in trajectory[-LAST:])
        loss = min(point["val_loss"] for point in curve[-LAST:])
        head = f"given up after epoch {done} of {settings.search_epochs}"
        if off > self.off * problem.budget:
            return f"{head}: F_cost stayed {off / problem.budget:.0%} of R outside the band, or further"
        if self.loss is not None and loss > self.loss:
            return f"{head}: the validation loss stayed above {self.loss:g}"
        return None


@dataclass(frozen=True, kw_only=True)
class StoppableSearch:
    """A search under a rule: a job of its own, since the same search without it may end otherwise."""

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "search"
    touches_test: ClassVar[bool] = False

    search: TasSearch
    rule: StopRule

    @property
    def problem(self) -> Problem:
        """The search's."""
        return self.search.problem

    @property
    def seed(self) -> int:
        """The search's."""
        return self.search.seed

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        return self.search.describe()

    def expected_macs(self, images: int) -> int:
        """Of the whole search: at most."""
        return self.search.expected_macs(images)

    def run(self, context: Context) -> Outcome:
        """Search, as far as there is hope."""
        return search(self.search, context, job_id(self), lambda *so_far: self.rule.why(self.search, *so_far))
