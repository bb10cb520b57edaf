"""A sweep: which methods, transfers and seeds are compared on which problem, as one frozen value.

Its settings can be changed by name (`--set key=value`), and `smoke()` derives a minutes-long version from the
sweep itself.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tas_bench.backbones import find_backbone
from tas_bench.budget import Band
from tas_bench.data import dataset_info
from tas_bench.errors import InputError, PlanFailedError, unknown
from tas_bench.jobs import DataSpec, Job, Method, Outcome, Plan, Problem, Recipe, to_plain
from tas_bench.plans import AnyPlan, NamedPlan
from tas_bench.space import Size
from tas_bench.train import final_job, teacher_job
from tas_bench.transfer import Transfer


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One comparison.

    Attributes:
        keep: the budget R as a fraction of the unpruned network's macs.
        t: tolerance of the budget, for the band of every method and for the cost loss of TAS.
        shortened: what `smoke()` changes, written as for `--set`.
    """

    name: str
    title: str
    methods: tuple[Method, ...]
    transfers: tuple[Transfer, ...]
    dataset: str = "cifar100"
    backbone: str = "resnet32"
    keep: float = 0.6
    t: float = 0.05
    seeds: tuple[int, ...] = (0, 1, 2)
    train_subset: int | None = None
    recipe: Recipe = Recipe()
    shortened: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dataset_info(self.dataset)
        find_backbone(self.backbone)
        if not 0 < self.keep < math.inf:
            raise InputError(f"keep is {self.keep}; it must be a positive fraction of the unpruned macs")
        if not 0 <= self.t <= 1:
            raise InputError(f"t is {self.t}; it must be in [0, 1]")
        for what, names in (
            ("seeds", self.seeds),
            ("methods", _names(self.methods)),
            ("transfers", _names(self.transfers)),
        ):
            if not names or len(set(names)) < len(names):
                raise InputError(
                    f"{what} are {', '.join(map(str, names)) or 'empty'}; give at least one, each once"
                )
        if min(self.seeds) < 0:
            raise InputError(f"seeds are {self.seeds}; they must not be negative")

    def smoke(self) -> Sweep:
        """The sweep's own short version, under a name of its own so that rows never mix."""
        short = with_settings(self, self.shortened)
        return replace(short, name=f"{self.name}-smoke", title=f"{self.title} (smoke: shortened, no evidence)")

    @property
    def problem(self) -> Problem:
        """What all methods share."""
        info = dataset_info(self.dataset)
        return Problem(
            data=DataSpec(name=self.dataset, train_subset=self.train_subset),
            backbone_name=self.backbone, classes=info.classes, image=info.image,
            keep=self.keep, t=self.t, recipe=self.recipe,
        )  # fmt: skip

    def check_budget(self) -> None:
        """Refuse a budget that no size can meet.

        Raises:
            InputError: says which range can be met.
        """
        problem = self.problem
        Band(problem.layers, problem.space, *problem.band).check()

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

    def manifest(self) -> dict[str, Any]:
        """What the results directory says of the sweep; `fixed` must not change between runs in it."""
        plugins: tuple[Any, ...] = (*self.methods, *self.transfers)
        settings = {f"{p.name}.{f.name}": to_plain(getattr(p, f.name)) for p in plugins for f in fields(p)}
        recipe = {f"recipe.{f.name}": getattr(self.recipe, f.name) for f in fields(self.recipe)}
        basics = {key: getattr(self, key) for key in ("dataset", "backbone", "keep", "t", "train_subset")}
        return {
            "name": self.name, "title": self.title, **basics,
            "seeds": list(self.seeds),
            "methods": [{"name": m.name, "label": m.label} for m in self.methods],
            "transfers": list(_names(self.transfers)),
            "fixed": basics | recipe | settings,
        }  # fmt: skip


def _names(things: Iterable[Any]) -> tuple[str, ...]:
    return tuple(thing.name for thing in things)


def _teacher_plan(problem: Problem, seed: int) -> AnyPlan:
    yield [teacher_job(problem, seed)]


def cell_plan(problem: Problem, method: Method, transfers: Sequence[Transfer], seed: int) -> AnyPlan:
    """Search a size, then train it from scratch and with the teacher's help: one method's cells of Table 1."""
    size = yield from without_test(method.plan(problem, seed))
    alone = [final_job(problem, size, seed, t) for t in transfers if not t.needs_teacher]
    taught = [t for t in transfers if t.needs_teacher]
    if not taught:
        yield alone
        return
    [teacher, *_] = yield [teacher_job(problem, seed), *alone]
    if not teacher.ok:
        raise PlanFailedError(f"the teacher of seed {seed} ended as {teacher.status}: {teacher.error}")
    yield [final_job(problem, size, seed, t) for t in taught]


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


# ---- settings by name


def with_settings(
    sweep: Sweep, settings: Mapping[str, str], known: Mapping[str, Mapping[str, Any]] | None = None
) -> Sweep:
    """The sweep with settings changed, each given as text.

    A key is a field of the sweep ("t"), of the recipe, or of a method or transfer ("tas.lambda_cost"); the last
    part is enough where it names one thing. A method's or transfer's name takes a preset ("tas" = "released").

    Args:
        known: all methods and transfers by name, {"methods": {...}, "transfers": {...}}, for these two keys.

    Raises:
        InputError: unknown key, wrong type, value out of range.
    """
    for key in ("methods", "transfers"):  # first, so that their own settings find them
        if key in settings:
            sweep = _choose(sweep, key, settings[key], (known or {}).get(key, {}))
    for key, text in settings.items():
        if key not in ("methods", "transfers"):
            sweep = _set(sweep, key, text)
    return sweep


def _parts(sweep: Sweep) -> dict[str, Any]:
    """The settable values of a sweep by prefix."""
    plugins: tuple[Any, ...] = (*sweep.methods, *sweep.transfers)
    return {"": sweep, "recipe": sweep.recipe} | {plugin.name: plugin for plugin in plugins}


def _keys(sweep: Sweep) -> dict[str, tuple[str, str]]:
    """Full key to (prefix, field)."""
    hidden = ("name", "title", "methods", "transfers", "recipe", "shortened")
    return {
        f"{prefix}.{f.name}".lstrip("."): (prefix, f.name)
        for prefix, part in _parts(sweep).items()
        for f in fields(part)
        if prefix or f.name not in hidden
    }


def setting_names(sweep: Sweep) -> dict[str, Any]:
    """Every key `--set` takes for this sweep, with its present value."""
    parts = _parts(sweep)
    lists = {"methods": ",".join(_names(sweep.methods)), "transfers": ",".join(_names(sweep.transfers))}
    return lists | {key: getattr(parts[prefix], name) for key, (prefix, name) in _keys(sweep).items()}


def _set(sweep: Sweep, key: str, text: str) -> Sweep:
    parts, keys = _parts(sweep), _keys(sweep)
    if key and key in parts:
        return _put(sweep, key, _preset(parts[key], key, text))
    matches = [full for full in keys if full == key] or [full for full in keys if full.endswith(f".{key}")]
    if not matches:
        raise unknown("setting", key, [*keys, *(k.rsplit(".", 1)[-1] for k in keys), "methods", "transfers"])
    if len(matches) > 1:
        raise InputError(f"setting '{key}' could be {' or '.join(matches)}; give it in full")
    prefix, name = keys[matches[0]]
    value = _parse(matches[0], typing.get_type_hints(type(parts[prefix]))[name], text)
    return _put(sweep, prefix, replace(parts[prefix], **{name: value}))


def _put(sweep: Sweep, prefix: str, part: Any) -> Sweep:
    """The sweep with one of its parts exchanged."""
    if not prefix:
        return typing.cast("Sweep", part)
    if prefix == "recipe":
        return replace(sweep, recipe=part)
    return replace(
        sweep,
        methods=tuple(part if m.name == prefix else m for m in sweep.methods),
        transfers=tuple(part if t.name == prefix else t for t in sweep.transfers),
    )


def _preset(part: Any, key: str, text: str) -> Any:
    presets = part.presets() if hasattr(part, "presets") else {}
    if text not in presets:
        raise unknown(f"preset of {key}", text, presets) if presets else InputError(f"{key} has no presets")
    return presets[text]


def _choose(sweep: Sweep, key: str, text: str, known: Mapping[str, Any]) -> Sweep:
    """Pick methods or transfers by name: the sweep's own with their settings, others with their defaults."""
    own = {x.name: x for x in getattr(sweep, key)}
    chosen: list[Any] = []
    for name in (n.strip() for n in text.split(",")):
        if name not in own and name not in known:
            raise unknown(key.rstrip("s"), name, {*own, *known})
        chosen.append(own[name] if name in own else known[name]())
    return replace(sweep, **typing.cast("dict[str, Any]", {key: tuple(chosen)}))


def _parse(key: str, kind: Any, text: str) -> Any:
    """Text to a value of the annotated type."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind == int | None:
            return None if text.lower() == "none" else int(text)
        if kind == tuple[int, ...]:
            return tuple(int(part) for part in text.split(","))
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError(text)
    except (KeyError, ValueError) as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        listed = {int | None: "a whole number or none", tuple[int, ...]: "whole numbers with commas between"}
        raise InputError(f"{key} must be {(wanted | listed)[kind]}, not '{text}'") from error
    else:
        return value
