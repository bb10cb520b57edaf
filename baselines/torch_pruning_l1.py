"""Torch-Pruning (Fang et al., CVPR 2023): channels of the least L1 norm pruned from the trained teacher.

The rival of practice: no search, one pruning of the network that is at hand. Its own weights, trained on, are what
the transfer mode Init starts from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tas_bench.costs.latency import LATENCY
from tas_bench.errors import InputError, PlanFailedError, check_least
from tas_bench.jobs import Plan, Problem
from tas_bench.pruned import Pruning, missing, uniform_sizes
from tas_bench.train import teacher_job

SCOPES = ("global", "uniform")


@dataclass(frozen=True, kw_only=True)
class TorchPruningL1:
    """Filter pruning by L1 norm.

    Attributes:
        scope: "global" ranks the channels of all layers together, "uniform" takes the same share of each layer.
        finetune_epochs: epochs on the training half after the pruning, by the recipe; Li et al. (2017) take 40.
    """

    name: ClassVar[str] = "torch_pruning_l1"
    label: ClassVar[str] = "Torch-Pruning L1"

    scope: str = "global"
    finetune_epochs: int = 40

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise InputError(f"{self.name}.scope is '{self.scope}'; choose {' or '.join(SCOPES)}")
        check_least(self, self.name, 1, "finetune_epochs")

    @property
    def jobs(self) -> int:
        """The teacher, which others may share, and the pruning."""
        return 2

    @staticmethod
    def missing() -> str | None:
        """Why it cannot run here; None where it can."""
        return missing()

    def own_weights(self, problem: Problem, seed: int) -> Pruning:
        """The job whose weights Init starts from."""
        recipe = replace(problem.recipe, epochs=self.finetune_epochs, holdout=0.0)  # the other half is it
        return Pruning(
            problem=replace(problem, recipe=recipe, teacher_epochs=None), teacher=teacher_job(problem, seed),
            scope=self.scope, seed=seed,
        )  # fmt: skip

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Prune the teacher."""
        self._check(problem)
        [teacher] = yield [teacher_job(problem, seed)]
        if not teacher.ok:
            raise PlanFailedError(f"the teacher of seed {seed} ended as {teacher.status}: {teacher.error}")
        [found] = yield [self.own_weights(problem, seed)]
        if not found.ok or found.size is None:
            raise PlanFailedError(f"the pruning of seed {seed} ended as {found.status}: {found.error}")
        return found.size

    def _check(self, problem: Problem) -> None:
        """Refuse what cannot end well.

        Raises:
            InputError: says why.
        """
        if why := missing():
            raise InputError(f"{self.name} {why}, or leave the method out")
        if problem.cost.startswith(LATENCY):
            raise InputError(
                f"{self.name}: latency is known of candidate widths only, and pruning finds others; "
                "use cost=macs or cost=params, or leave the method out"
            )
        if self.scope == "uniform" and not any(map(problem.meets, uniform_sizes(problem))):
            raise InputError(
                f"{self.name}: no step of uniform pruning meets the budget; widen t or leave the method out"
            )
