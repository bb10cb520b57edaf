"""One search as a job: run it, keep checkpoints, derive its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from tas_bench import measure
from tas_bench.checkpoint import Checkpoint
from tas_bench.jobs import Context, Outcome, Problem, job_id
from tas_bench.search.searcher import Searcher, expected_macs
from tas_bench.search.settings import SearchSettings
from tas_bench.train import booked

UNDECIDED = 0.05
"""Mean discrepancy below which the argmax is little more than a random size."""


@dataclass(frozen=True, kw_only=True)
class TasSearch:
    """One search. `problem.recipe` is that of the supernet's weights."""

    version: ClassVar[int] = 2

    problem: Problem
    settings: SearchSettings
    seed: int

    @property
    def kind(self) -> str:
        """A search."""
        return "search"

    @property
    def touches_test(self) -> bool:
        """It sees the training set's two halves only."""
        return False

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        return {
            "dataset": self.problem.data.name,
            "train_subset": self.problem.data.train_subset,
            "split": "search",
            "backbone": self.problem.backbone_name,
            "seed": self.seed,
            "budget": self.problem.budget,
        }

    def expected_macs(self, images: int) -> int:
        """Training macs of the job where the training part has so many images.

        Exact where every candidate is drawn; else the mean of some draws at even odds, since what it draws later
        depends on what it finds.
        """
        return expected_macs(self.problem, self.settings, images)

    def run(self, context: Context) -> Outcome:
        """Search."""
        return search(self, context)


def search(job: TasSearch, context: Context) -> Outcome:
    """Algorithm 1, lines 1 to 7; goes on from the last checkpoint where there is one, to bitwise the same end.

    Raises:
        DivergedError: a loss became NaN or infinite; the last checkpoint stays.
    """
    watch, settings = measure.Stopwatch(), job.settings
    with watch.on("startup"), torch.random.fork_rng():
        torch.manual_seed(job.seed)
        searcher = Searcher(job.problem, settings, job.seed, context)
        checkpoint = Checkpoint(context, job_id(job), searcher.parts, searcher.generator)
        kept = checkpoint.restore()
    watch.carry(kept.get("seconds", {}))
    curve, trajectory = kept.get("curve", []), kept.get("trajectory", [])
    searcher.images, searcher.macs = kept.get("spent", (0, 0))
    for epoch in range(len(curve), settings.search_epochs):
        with watch.on("train"):
            curve.append({"epoch": epoch + 1} | searcher.epoch(epoch, watch))
            trajectory.append({"epoch": epoch + 1} | searcher.trajectory(epoch))
        context.tick(epoch + 1, settings.search_epochs)
        spent = searcher.images, searcher.macs
        checkpoint.save(curve=curve, trajectory=trajectory, spent=spent, seconds=watch.seconds)
    with watch.on("eval"):
        derived = searcher.derive()
    return Outcome(
        **derived,
        discrepancy=trajectory[-1]["discrepancy"],
        arch_lr=searcher.arch_lr,
        warning=_warning(settings, trajectory[-1]["discrepancy"]) or checkpoint.warning,
        train_accuracy=curve[-1]["train_accuracy"],
        val_accuracy=curve[-1]["val_accuracy"],
        epochs=settings.search_epochs,
        train_macs=searcher.macs,
        curve=curve,
        trajectory=trajectory,
        **booked(watch, context, searcher.precision, searcher.images),
    )


def _warning(settings: SearchSettings, gap: float) -> str | None:
    if settings.warning:
        return settings.warning
    if gap < UNDECIDED:
        return f"the search decided little (mean discrepancy {gap:.3f}): its size is near a random one"
    return None
