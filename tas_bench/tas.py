"""TAS as a method: one search of a supernet, and the size it derives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tas_bench.budget import Band
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.jobs import Plan, Problem
from tas_bench.search import SearchSettings, TasSearch


@dataclass(frozen=True, kw_only=True)
class Tas(SearchSettings):
    """The TAS method. Defaults are the paper's; `presets()["released"]` is the released code's."""

    name: ClassVar[str] = "tas"
    label: ClassVar[str] = "TAS"

    @classmethod
    def presets(cls) -> dict[str, Tas]:
        """Named settings: `--set tas=released`."""
        released = cls(
            tau_start=5.0, tau_shape="cosine", arch_beta1=0.5,
            zone="released", rule="released", exact_expectation=False,
        )  # fmt: skip
        return {"paper": cls(), "released": released}

    @property
    def jobs(self) -> int:
        """One search."""
        return 1

    def plan(self, problem: Problem, seed: int) -> Plan:
        """One supernet search."""
        [outcome] = yield [self.job(problem, seed)]
        if outcome.size is None:
            raise PlanFailedError(f"the search ended as {outcome.status}: {outcome.error}")
        return outcome.size

    def job(self, problem: Problem, seed: int) -> TasSearch:
        """The search.

        Raises:
            InputError: these settings do not go with the problem.
        """
        self._check(problem)
        recipe = replace(problem.recipe, epochs=self.search_epochs, holdout=0.0)  # it has the halves
        settings = SearchSettings(**vars(self))
        problem = replace(problem, recipe=recipe, teacher_epochs=None)  # which decides nothing in it
        return TasSearch(problem=problem, settings=settings, seed=seed)

    def _check(self, problem: Problem) -> None:
        """Refuse what cannot be searched.

        Raises:
            InputError: more samples than candidates, more draws than images in a batch, or a budget out of reach.
        """
        space = problem.backbone.space(self.search)
        most = max(len(row) for row in space.widths) if "W" in self.search else self.samples
        if self.samples > most:
            raise InputError(f"tas.samples (|I|) is {self.samples}; {problem.backbone_name} has {most} candidates")
        deepest = max(len(row) for row in space.depths)
        if self.depth_samples is not None and self.depth_samples > deepest:
            raise InputError(
                f"tas.depth_samples is {self.depth_samples}; {problem.backbone_name} has {deepest} candidates"
            )
        if 2 * self.draws > problem.recipe.batch:
            raise InputError(f"tas.draws is {self.draws}; a batch of {problem.recipe.batch} images is too small")
        if self.rule == "released" and problem.cost != "macs":
            raise InputError(f"tas.rule is released, which counts macs; the budget is in {problem.counted.noun}")
        Band.of(problem, space).check()
