"""A sweep: which methods, transfers and seeds are compared on which problem, as one frozen value.

How its settings are changed by name, and how a minutes-long version is made of it: `tas_bench.settings`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from tas_bench.backbones import find_backbone
from tas_bench.budget import Band
from tas_bench.costs import find_budget
from tas_bench.costs.latency import LATENCY
from tas_bench.costs.layer import noun
from tas_bench.data import dataset_info
from tas_bench.errors import InputError, PlanFailedError, check_name
from tas_bench.jobs import DataSpec, Job, Method, Outcome, Plan, Problem, Recipe, to_plain
from tas_bench.plans import AnyPlan, NamedPlan
from tas_bench.space import Size
from tas_bench.train import final_job, teacher_job
from tas_bench.transfer import Transfer
from tas_bench.variant import Variant, inner_methods, parts_of, settings_of


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One comparison, on every data set with every backbone.

    Attributes:
        cost: what the budget counts: "macs", "params" or "latency:KEY"; "latency" stands for the table of the
            device that runs it.
        keep: the budget R as a fraction of the unpruned network's cost; `keeps` of single backbones.
        t: tolerance of the budget, for the band of every method and for the cost loss of TAS.
        title: what it is for; `heading` adds what it runs on.
        transfers: how found sizes are trained; none for a sweep that only searches.
        teacher_epochs: of the unpruned network, which all transfers draw on; None takes the recipe's.
        shortened: what `settings.smoke` changes, written as for `--set`.
    """

    name: str
    title: str
    methods: tuple[Method | Variant, ...]
    transfers: tuple[Transfer, ...]
    datasets: tuple[str, ...] = ("cifar100",)
    backbones: tuple[str, ...] = ("resnet32",)
    cost: str = "macs"
    keep: float = 0.6
    keeps: Mapping[str, float] = field(default_factory=dict)
    t: float = 0.05
    seeds: tuple[int, ...] = (0, 1, 2)
    train_subset: int | None = None
    recipe: Recipe = Recipe()
    teacher_epochs: int | None = None
    shortened: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_names()
        if self.cost != LATENCY:  # which is settled before a run, see `tas_bench.latency`
            find_budget(self.cost)
        for keep in (self.keep, *self.keeps.values()):
            if not 0 < keep < math.inf:
                raise InputError(f"keep is {keep}; it must be a positive fraction of the unpruned cost")
        if not 0 <= self.t <= 1:
            raise InputError(f"t is {self.t}; it must be in [0, 1]")
        if self.teacher_epochs is not None and self.teacher_epochs < 1:
            raise InputError(f"teacher_epochs is {self.teacher_epochs}; it must be at least 1, or none")
        lists = {
            "seeds": self.seeds, "datasets": self.datasets, "backbones": self.backbones,
            "methods": names_of(self.methods), "transfers": names_of(self.transfers),
        }  # fmt: skip
        for what, names in lists.items():
            if (not names and what != "transfers") or len(set(names)) < len(names):
                raise InputError(
                    f"{what} are {', '.join(map(str, names)) or 'empty'}; give at least one, each once"
                )
        if not all(0 <= seed < 2**31 for seed in self.seeds):
            raise InputError(f"seeds are {', '.join(map(str, self.seeds))}; each must be from 0 to 2^31 - 1")

    def _check_names(self) -> None:
        """Refuse what is not known, and names that are none."""
        for plugin in (self, *self.methods, *self.transfers):
            check_name(f"a {type(plugin).__name__}", plugin.name)
        for name in (*self.datasets, *self.backbones):
            check_name("a data set or backbone", name)
        for name in self.datasets:
            dataset_info(name)
        for name in self.backbones:
            find_backbone(name)

    @property
    def heading(self) -> str:
        """Title, data sets, backbones and budget in one line."""
        images = "" if self.train_subset is None else f" ({self.train_subset:,} training images)"
        keeps = [self.keeps.get(backbone, self.keep) for backbone in self.backbones]
        share = " to ".join(f"{1 - keep:.0%}" for keep in sorted({max(keeps), min(keeps)}, reverse=True))
        datasets, backbones = ", ".join(self.datasets), ", ".join(self.backbones)
        return f"{self.title}: {datasets}{images}, {backbones}, {share} of {noun(self.cost)} pruned"

    @property
    def jobs(self) -> int:
        """How many jobs it asks for in all, as far as the methods can tell beforehand."""
        searches = sum(getattr(method, "jobs", 0) for method in self.methods)
        each = searches + len(self.methods) * len(self.transfers) + self._needs_teacher
        return len(self.seeds) * len(self.datasets) * len(self.backbones) * each

    @property
    def problems(self) -> list[Problem]:
        """What all methods share, for every data set and backbone."""
        return [self._problem(dataset, backbone) for dataset in self.datasets for backbone in self.backbones]

    def _problem(self, dataset: str, backbone: str) -> Problem:
        info = dataset_info(dataset)
        return Problem(
            data=DataSpec(name=dataset, train_subset=self.train_subset),
            backbone_name=backbone, classes=info.classes, image=info.image,
            keep=self.keeps.get(backbone, self.keep), t=self.t, recipe=self.recipe, cost=self.cost,
            teacher_epochs=self.teacher_epochs,
        )  # fmt: skip

    @property
    def _needs_teacher(self) -> bool:
        return any(t.needs_teacher for t in self.transfers)

    def check_budget(self) -> None:
        """Refuse a budget that no size can meet.

        Raises:
            InputError: says which range can be met.
        """
        for problem in self.problems:
            Band.of(problem).check()

    def plans(self) -> list[NamedPlan]:
        """The teachers' plans, then one plan per problem, method and seed."""
        return [*self._teacher_plans(), *self._method_plans()]

    def _teacher_plans(self) -> Iterator[NamedPlan]:
        for problem in self.problems if self._needs_teacher else ():
            for seed in self.seeds:
                name = f"{self._prefix(problem)}teacher-s{seed}"
                yield NamedPlan(name, "teacher", seed, problem, _teacher_plan(problem, seed))

    def _method_plans(self) -> Iterator[NamedPlan]:
        for problem in self.problems:
            for seed in self.seeds:
                for m in self.methods:
                    steps = cell_plan(problem, m, self.transfers, seed)
                    yield NamedPlan(f"{self._prefix(problem)}{m.name}-s{seed}", m.name, seed, problem, steps)

    def _prefix(self, problem: Problem) -> str:
        """Tells plans of several problems apart."""
        alone = len(self.datasets) * len(self.backbones) == 1
        return "" if alone else f"{problem.data.name}-{problem.backbone_name}-"

    def manifest(self) -> dict[str, Any]:
        """What the results directory says of the sweep; `fixed` must not change between runs in it."""
        plugins: tuple[Any, ...] = (*self.methods, *self.transfers)
        settings = {
            f"{p.name if i == 0 else f'{p.name}.{part.name}'}.{f.name}": to_plain(getattr(part, f.name))
            for p in plugins
            for i, part in enumerate(parts_of(p))
            for f in fields(part)
            if f.name not in inner_methods(part) and not f.metadata.get("grows")
        }
        recipe = {f"recipe.{f.name}": getattr(self.recipe, f.name) for f in fields(self.recipe)}
        recipe["teacher_epochs"] = self.teacher_epochs
        basics = {"cost": self.cost, "t": self.t, "train_subset": self.train_subset}
        keeps = {f"keep of {p.data.name} {p.backbone_name}": p.keep for p in self.problems}
        problems = [{"dataset": p.data.name, "backbone": p.backbone_name, "keep": p.keep} for p in self.problems]
        return {
            "name": self.name, "title": self.title, **basics,
            "problems": problems,
            "seeds": list(self.seeds),
            "methods": [{"name": m.name, "label": m.label} for m in self.methods],
            "transfers": list(names_of(self.transfers)),
            "fixed": basics | keeps | recipe | settings,
        }  # fmt: skip


def names_of(things: Iterable[Any]) -> tuple[str, ...]:
    """The names of methods or transfers."""
    return tuple(thing.name for thing in things)


def _teacher_plan(problem: Problem, seed: int) -> AnyPlan:
    yield [teacher_job(problem, seed)]


def cell_plan(problem: Problem, method: Method | Variant, transfers: Sequence[Transfer], seed: int) -> AnyPlan:
    """Search a size, then train it from scratch and with the teacher's help: one method's cells of Table 1."""
    size = yield from without_test(method.plan(problem, seed), teacher_job(problem, seed))
    if any(t.needs_teacher for t in transfers):
        [teacher] = yield [teacher_job(problem, seed)]
        if not teacher.ok:
            raise PlanFailedError(f"the teacher of seed {seed} ended as {teacher.status}: {teacher.error}")
    if transfers:
        own_weights = getattr(settings_of(method), "own_weights", None)
        own = own_weights(problem, seed) if own_weights else None
        yield [final_job(problem, size, seed, t, own) for t in transfers]


def without_test(plan: Plan, teacher: Job | None = None) -> Generator[Sequence[Job], Sequence[Outcome], Size]:
    """A method's plan, kept from the test set: it may not ask for jobs that touch it, nor see what they found.

    Args:
        teacher: the one such job it may ask for: its weights are no secret.
    """
    try:
        batch = next(plan)
        while True:
            for job in batch:
                if job.touches_test and job != teacher:
                    raise RuntimeError(f"a method asked for a {job.kind} job, which sees the test set")
            outcomes = yield batch
            batch = plan.send([outcome.without_test() for outcome in outcomes])
    except StopIteration as end:
        return end.value
