"""One search as a job: run it, keep checkpoints, derive its size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from tas_bench import measure
from tas_bench.checkpoint import Checkpoint
from tas_bench.jobs import Context, Outcome, Problem, job_id
from tas_bench.schema import job_columns
from tas_bench.search.searcher import Searcher, expected_macs
from tas_bench.search.settings import SearchSettings
from tas_bench.train import booked

GiveUp = Callable[[Sequence[Mapping[str, float]], Sequence[Mapping[str, Any]]], str | None]
"""From the curve and the trajectory so far: why to go no further, in one line, or None."""

UNDECIDED = 0.05
"""Mean discrepancy below which the argmax is little more than a random size."""


@dataclass(frozen=True, kw_only=True)
class TasSearch:
    """One search. `problem.recipe` is that of the supernet's weights."""

    kind: ClassVar[str] = "search"
    touches_test: ClassVar[bool] = False

    problem: Problem
    settings: SearchSettings
    seed: int

    @property
    def version(self) -> int:
        """4: a single candidate is not mixed; nothing else has changed since 3."""
        return 4 if self.settings.samples == 1 else 3

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        budget = self.problem.budget  # where a latency table is missing this ends the run, not one job
        return job_columns(self.problem.data, self.problem.backbone_name, self.seed) | {"budget": budget}

    def expected_macs(self, images: int) -> int:
        """Training macs of the job where the training part has so many images.

        Exact where every candidate is drawn; else the mean of some draws at even odds, since what it draws later
        depends on what it finds.
        """
        return expected_macs(self.problem, self.settings, images)

    def run(self, context: Context) -> Outcome:
        """Search."""
        return search(self, context)


def search(
    job: TasSearch, context: Context, key: str | None = None, give_up: GiveUp = lambda _curve, _trajectory: None
) -> Outcome:
    """Algorithm 1, lines 1 to 7; goes on from the last checkpoint where there is one, to bitwise the same end.

    Args:
        key: of the job that this search is a part of, for its checkpoint; its own by default.
        give_up: asked before every epoch, of those before it, for a reason to leave it at them.

    Raises:
        DivergedError: a loss became NaN or infinite; the last checkpoint stays.
    """
    watch, settings = measure.Stopwatch(), job.settings
    with watch.on("startup"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        searcher = Searcher(job.problem, settings, job.seed, context)
        checkpoint = Checkpoint(
            context, key or job_id(job), searcher.parts, searcher.generator, searcher.precision
        )
        kept = checkpoint.restore()
    watch.carry(kept.get("seconds", {}))
    curve, trajectory = kept.get("curve", []), kept.get("trajectory", [])
    searcher.images, searcher.macs = kept.get("spent", (0, 0))
    given_up: str | None = None
    for epoch in range(len(curve), settings.search_epochs):
        given_up = give_up(curve, trajectory)
        if given_up:
            break
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
        warning=given_up or _warning(settings, trajectory[-1]["discrepancy"]) or checkpoint.warning,
        train_accuracy=curve[-1]["train_accuracy"],
        val_accuracy=curve[-1]["val_accuracy"],
        epochs=len(curve),
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
