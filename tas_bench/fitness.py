"""How methods that try sizes out have them judged: each trained, or all scored inside one trained supernet."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from tas_bench.errors import InputError, PlanFailedError, check_least
from tas_bench.jobs import Job, Outcome, Problem
from tas_bench.oneshot import OneShot, Score
from tas_bench.space import Size
from tas_bench.train import candidate_job

MODES = ("train", "shared")

Judging = Generator[Sequence[Job], Sequence[Outcome], Sequence[Outcome]]
"""A part of a plan: `outcomes = yield from method.judge(problem, sizes, seed)`."""


@dataclass(frozen=True, kw_only=True)
class Fitness:
    """Settings of a method that has sizes judged.

    Attributes:
        fitness: "train" trains each size on one half of the training set and judges it on the other; "shared"
            scores it inside a supernet that was trained on that half.
        proxy_epochs: epochs of each training; None takes the recipe's.
        supernet_epochs: epochs of the supernet; None takes the recipe's.
        supernet_seed: one supernet for all seeds; None trains one per seed, so that seeds differ in that as well.
    """

    name: ClassVar[str]

    fitness: str = "train"
    proxy_epochs: int | None = None
    supernet_epochs: int | None = None
    supernet_seed: int | None = None

    def __post_init__(self) -> None:
        if self.fitness not in MODES:
            raise InputError(f"{self.name}.fitness is '{self.fitness}'; choose {' or '.join(MODES)}")
        self.at_least(1, "proxy_epochs", "supernet_epochs")
        self.at_least(0, "supernet_seed")

    def at_least(self, least: int, *settings: str) -> None:
        """Refuse settings below `least`; those that are None are left out.

        Raises:
            InputError: names the setting.
        """
        check_least(self, self.name, least, *settings)

    @property
    def supernets(self) -> int:
        """How many supernets a plan asks for."""
        return int(self.fitness == "shared")

    def judge(self, problem: Problem, sizes: Sequence[Size], seed: int) -> Judging:
        """Outcomes of these sizes, in order.

        Raises:
            PlanFailedError: the supernet's training failed.
        """
        if self.fitness == "train":
            return (yield [candidate_job(problem, size, seed, self.proxy_epochs) for size in sizes])
        supernet = self._supernet(problem, seed)
        [trained] = yield [supernet]
        if not trained.ok:
            raise PlanFailedError(f"the supernet ended as {trained.status}: {trained.error}")
        canonical = problem.backbone.canonical
        return (yield [Score(supernet=supernet, size=canonical(size)) for size in sizes])

    def _supernet(self, problem: Problem, seed: int) -> OneShot:
        epochs = self.supernet_epochs or problem.recipe.epochs
        return OneShot(
            data=problem.data, backbone_name=problem.backbone_name,
            recipe=replace(problem.recipe, epochs=epochs, holdout=0.0),  # the other half is it
            seed=seed if self.supernet_seed is None else self.supernet_seed,
        )  # fmt: skip


def best_of(outcomes: Sequence[Outcome]) -> int | None:
    """Index of the highest validation accuracy, the first of equals; None if all failed."""
    fitness = [fitness_of(outcome) for outcome in outcomes]
    return fitness.index(max(fitness)) if max(fitness) >= 0 else None


def fitness_of(outcome: Outcome) -> float:
    """Validation accuracy; -1, worse than any, where there is none."""
    accuracy = outcome.val_accuracy
    return accuracy if outcome.ok and accuracy is not None and not math.isnan(accuracy) else -1.0
