"""A sweep: which methods, transfers and seeds are compared on which problem, as one frozen value.

How its settings are changed by name, and how a minutes-long version is made of it: `tas_bench.settings`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tas_bench.backbones import find_backbone
from tas_bench.budget import Band
from tas_bench.costs import find_budget
from tas_bench.costs.latency import LATENCY
from tas_bench.costs.layer import noun
from tas_bench.data import dataset_info
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.jobs import DataSpec, Job, Method, Outcome, Plan, Problem, Recipe, to_plain
from tas_bench.plans import AnyPlan, NamedPlan
from tas_bench.space import Size
from tas_bench.train import final_job, teacher_job
from tas_bench.transfer import Transfer


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One comparison.

    Attributes:
        cost: what the budget counts: "macs", "params" or "latency:KEY"; "latency" stands for the table of the
            device that runs it.
        keep: the budget R as a fraction of the unpruned network's cost.
        t: tolerance of the budget, for the band of every method and for the cost loss of TAS.
        title: what it is for; `heading` adds what it runs on.
        shortened: what `settings.smoke` changes, written as for `--set`.
    """

    name: str
    title: str
    methods: tuple[Method, ...]
    transfers: tuple[Transfer, ...]
    dataset: str = "cifar100"
    backbone: str = "resnet32"
    cost: str = "macs"
    keep: float = 0.6
    t: float = 0.05
    seeds: tuple[int, ...] = (0, 1, 2)
    train_subset: int | None = None
    recipe: Recipe = Recipe()
    shortened: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dataset_info(self.dataset)
        find_backbone(self.backbone)
        if self.cost != LATENCY:  # which is settled before a run, see `tas_bench.latency`
            find_budget(self.cost)
        if not 0 < self.keep < math.inf:
            raise InputError(f"keep is {self.keep}; it must be a positive fraction of the unpruned cost")
        if not 0 <= self.t <= 1:
            raise InputError(f"t is {self.t}; it must be in [0, 1]")
        for what, names in (
            ("seeds", self.seeds),
            ("methods", names_of(self.methods)),
            ("transfers", names_of(self.transfers)),
        ):
            if not names or len(set(names)) < len(names):
                raise InputError(
                    f"{what} are {', '.join(map(str, names)) or 'empty'}; give at least one, each once"
                )
        if not all(0 <= seed < 2**31 for seed in self.seeds):
            raise InputError(f"seeds are {', '.join(map(str, self.seeds))}; each must be from 0 to 2^31 - 1")

    @property
    def heading(self) -> str:
        """Title, data set, backbone and budget in one line."""
        images = "" if self.train_subset is None else f" ({self.train_subset:,} training images)"
        pruned = {"macs": "MACs"}.get(self.cost, noun(self.cost))
        return f"{self.title}: {self.dataset}{images}, {self.backbone}, {1 - self.keep:.0%} of {pruned} pruned"

    @property
    def jobs(self) -> int:
        """How many jobs it asks for in all, as far as the methods can tell beforehand."""
        searches = sum(getattr(method, "jobs", 0) for method in self.methods)
        teacher = any(t.needs_teacher for t in self.transfers)
        return len(self.seeds) * (searches + len(self.methods) * len(self.transfers) + teacher)

    @property
    def problem(self) -> Problem:
        """What all methods share."""
        info = dataset_info(self.dataset)
        return Problem(
            data=DataSpec(name=self.dataset, train_subset=self.train_subset),
            backbone_name=self.backbone, classes=info.classes, image=info.image,
            keep=self.keep, t=self.t, recipe=self.recipe, cost=self.cost,
        )  # fmt: skip

    def check_budget(self) -> None:
        """Refuse a budget that no size can meet.

        Raises:
            InputError: says which range can be met.
        """
        Band.of(self.problem).check()

    def plans(self) -> list[NamedPlan]:
        """The teacher's plan for every seed, then one plan per method and seed."""
        needs_teacher = any(t.needs_teacher for t in self.transfers)
        teachers = [
            NamedPlan(f"teacher-s{seed}", "teacher", seed, _teacher_plan(self.problem, seed))
            for seed in (self.seeds if needs_teacher else ())
        ]
        return teachers + [
            NamedPlan(f"{m.name}-s{seed}", m.name, seed, cell_plan(self.problem, m, self.transfers, seed))
            for seed in self.seeds
            for m in self.methods
        ]

    def manifest(self, data: str = "") -> dict[str, Any]:
        """What the results directory says of the sweep; `fixed` must not change between runs in it.

        Args:
            data: fingerprint of the training data.
        """
        plugins: tuple[Any, ...] = (*self.methods, *self.transfers)
        settings = {f"{p.name}.{f.name}": to_plain(getattr(p, f.name)) for p in plugins for f in fields(p)}
        recipe = {f"recipe.{f.name}": getattr(self.recipe, f.name) for f in fields(self.recipe)}
        basics = {key: getattr(self, key) for key in ("dataset", "backbone", "cost", "keep", "t", "train_subset")}
        return {
            "name": self.name, "title": self.heading, **basics,
            "seeds": list(self.seeds),
            "methods": [{"name": m.name, "label": m.label} for m in self.methods],
            "transfers": list(names_of(self.transfers)),
            "fixed": basics | recipe | settings | {"data fingerprint": data},
        }  # fmt: skip


def names_of(things: Iterable[Any]) -> tuple[str, ...]:
    """The names of methods or transfers."""
    return tuple(thing.name for thing in things)


def _teacher_plan(problem: Problem, seed: int) -> AnyPlan:
    yield [teacher_job(problem, seed)]


def cell_plan(problem: Problem, method: Method, transfers: Sequence[Transfer], seed: int) -> AnyPlan:
    """Search a size, then train it from scratch and with the teacher's help: one method's cells of Table 1."""
    size = yield from without_test(method.plan(problem, seed))
    if any(t.needs_teacher for t in transfers):
        [teacher] = yield [teacher_job(problem, seed)]
        if not teacher.ok:
            raise PlanFailedError(f"the teacher of seed {seed} ended as {teacher.status}: {teacher.error}")
    yield [final_job(problem, size, seed, t) for t in transfers]


def without_test(plan: Plan) -> Generator[Sequence[Job], Sequence[Outcome], Size]:
    """A method's plan, kept from the test set: it may not ask for jobs that touch it, nor see what they found."""
    try:
        batch = next(plan)
        while True:
            for job in batch:
                if job.touches_test:
                    raise RuntimeError(f"a method asked for a {job.kind} job, which sees the test set")
            outcomes = yield batch
            batch = plan.send([replace(o, test_accuracy=None) for o in outcomes])
    except StopIteration as end:
        return end.value
