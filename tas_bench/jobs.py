"""Jobs, their outcomes, and methods as generators of job batches.

A method yields batches of jobs, receives their outcomes in order, and returns a size:

    sizes = Band.of(problem).sample(rng, self.trials)
    outcomes = yield [candidate_job(problem, size, seed) for size in sizes]
    return sizes[best_of(outcomes)]

A job is a frozen dataclass, and `job_id` a hash of everything that decides its outcome, so resume is replay:
run the plan again, and every job whose row exists answers at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tas_bench.backbones import find_backbone
from tas_bench.backbones.backbone import Backbone, ImageShape
from tas_bench.costs import find_budget
from tas_bench.costs.layer import Cost, Layer
from tas_bench.costs.macs import MACS
from tas_bench.errors import InputError
from tas_bench.space import Size, SizeSpace

if TYPE_CHECKING:
    from torch import Tensor


KINDS = ("teacher", "search", "supernet", "candidate", "score", "pruning", "final")
"""The kinds of job there are."""

WEIGHTED = ("teacher", "supernet", "pruning")
"""The kinds whose weights other jobs need: without them a row is no answer to these."""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which images: decides a job's outcome, so it holds no path.

    Attributes:
        train_subset: train on a fixed stratified part of that many images; None takes all.
        split_seed: seed of the stratified halves of the training set.
    """

    name: str = "cifar100"
    train_subset: int | None = None
    split_seed: int = 111


def _untold(_done: int, _total: int) -> None:
    """Nobody wants to know how far a job is."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where and with what a job runs: nothing in it decides the outcome.

    Attributes:
        results: the results directory, where teachers' weights lie.
        data_root: folder of the data sets; None for those that ship with a package.
        cpus: CPU cores of this job; also its number of threads.
        gpus: share of a GPU; 0 trains on the CPU.
        checkpoint_seconds: least time between two checkpoints of a job.
        keep_weights: keep the trained weights of every training, not of teachers alone.
        tick: called with (epochs done, epochs in all) as the job goes on.
    """

    results: Path
    data_root: Path | None = None
    cpus: float = 1
    gpus: float = 0
    checkpoint_seconds: float = 30
    keep_weights: bool = False
    tick: Callable[[int, int], None] = _untold

    @property
    def device(self) -> str:
        """The torch device of this job."""
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a job measured. Metrics are None where they do not apply; `status` tells the rest.

    Accuracies are fractions. Test accuracy is set by teachers and final trainings, which no method ever sees.

    Attributes:
        status: ok, failed, oom, timeout or diverged.
        size: the size that was trained, or that the search derived.
        val_accuracy: on the validation images, after the last epoch. `best_*` are of the best epoch by it.
        micro_batch: images whose gradients were taken at once; fewer than a batch where memory ran out.
        images: images seen, forward; a search counts both its halves.
        train_macs: multiply-accumulates of all training steps (a backward pass counts as two forwards,
            the teacher's forward passes included).
        derived: for a search, "argmax" or "in-band" (the argmax missed the band).
        argmax_macs: for a search, macs of the argmax size.
        derivation_gap: for a search, how much more log-probability an in-band size may have at most.
        discrepancy: mean gap between the two most probable candidates (paper, Figure 3).
        carried_seconds: device-seconds of an earlier attempt, from whose checkpoint this one went on.
        curve: one mapping per epoch; kept in a table of its own. So is a search's `trajectory`.
        weights: tensors to keep beside the row; None keeps nothing.
    """

    status: str = "ok"
    error: str | None = None
    size: Size | None = None
    train_accuracy: float | None = None
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    test_top5: float | None = None
    best_epoch: int | None = None
    best_train_accuracy: float | None = None
    best_val_accuracy: float | None = None
    best_test_accuracy: float | None = None
    epochs: int | None = None
    images: int | None = None
    train_macs: int | None = None
    micro_batch: int | None = None
    seconds_startup: float | None = None
    seconds_data: float | None = None
    seconds_train: float | None = None
    seconds_eval: float | None = None
    images_per_second: float | None = None
    device_seconds: float | None = None
    peak_memory: int | None = None
    device: str | None = None
    precision: str | None = None
    derived: str | None = None
    argmax_macs: int | None = None
    derivation_gap: float | None = None
    discrepancy: float | None = None
    arch_lr: float | None = None
    warning: str | None = None
    carried_seconds: float = field(default=0.0, compare=False)
    curve: Sequence[Mapping[str, float]] = field(default=(), compare=False)
    trajectory: Sequence[Mapping[str, Any]] = field(default=(), compare=False)
    weights: Mapping[str, Tensor] | None = field(default=None, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the job ended as it should."""
        return self.status == "ok"

    def without_test(self) -> Outcome:
        """What a method may see of it."""
        return replace(self, test_accuracy=None, test_top5=None, best_test_accuracy=None)


class Job(Protocol):
    """Anything that can be run, keyed and stored: a frozen dataclass with these members.

    A job may have a method `expected_macs(images)` (those of all its steps, given how many training images there
    are), by which its seconds are foretold, and a property `checkpoint`: the key of one that it leaves when it
    ends well, for jobs to come; it is dropped once no plan waits for a job that has the same.
    """

    @property
    def version(self) -> int:
        """Raise it when the code changes what the job computes, so that old rows are not reused."""
        ...

    @property
    def kind(self) -> str:
        """One of `KINDS`: the `kind` column of the row."""
        ...

    @property
    def touches_test(self) -> bool:
        """Whether the outcome holds test accuracy; methods may not yield such jobs."""
        ...

    @property
    def seed(self) -> int:
        """What the job's randomness comes from."""
        ...

    def describe(self) -> dict[str, Any]:
        """Columns of the row that are known before the job runs."""
        ...

    def run(self, context: Context) -> Outcome:
        """Do the work. Raises on failure; the caller turns that into a row."""
        ...


def to_plain(value: Any) -> Any:
    """A dataclass tree as plain JSON values, each dataclass tagged with its qualified name and version."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tag = {"type": f"{type(value).__module__}.{type(value).__qualname__}"}
        if hasattr(value, "version"):
            tag["version"] = value.version
        return tag | {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    return value


def job_json(job: Job) -> str:
    """Everything that decides the job's outcome, as canonical JSON."""
    return json.dumps(to_plain(job), sort_keys=True, separators=(",", ":"), allow_nan=False)


def job_id(job: Job) -> str:
    """The job's key in the store: 20 hexadecimal digits of a hash of `job_json`."""
    return hashlib.sha256(job_json(job).encode()).hexdigest()[:20]


def weights_path(results: Path, key: str) -> Path:
    """Where a job's weights lie beside the rows."""
    return results / "_weights" / f"{key}.safetensors"


def checkpoint_path(results: Path, key: str) -> Path:
    """Where a job's checkpoint lies until it has ended well."""
    return results / "_checkpoints" / f"{key}.pt"


Plan = Generator[Sequence[Job], Sequence[Outcome], Size]
"""What a method is while it runs: yields batches of jobs, receives their outcomes, returns a size."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training recipe every network goes through (paper section 4.1).

    SGD with Nesterov momentum, cosine learning rate from `lr` to zero, one step of the schedule per epoch.

    Attributes:
        holdout: share of the training images that teachers and finals keep aside to tell their best epoch by;
            candidates have the other half for it.
    """

    epochs: int = 300
    batch: int = 256
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    holdout: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise InputError(f"epochs is {self.epochs} and batch {self.batch}; they must be at least 1 and 2")
        if not (0 < self.lr < float("inf") and 0 < self.momentum < 1 and 0 <= self.weight_decay < float("inf")):
            raise InputError("lr must be positive, momentum in (0, 1), weight_decay not negative")
        if not 0 <= self.holdout < 1:
            raise InputError(f"holdout is {self.holdout}; it must be in [0, 1), as a share of the training images")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What all methods of a comparison share: network, data, budget, recipe.

    Attributes:
        cost: what the budget counts, of the deployed network: "macs", "params" or "latency:KEY".
        keep: the budget R as a fraction of the unpruned network's cost.
        t: tolerance; a size meets the budget inside [(1 - t) R, (1 + t) R].
        teacher_epochs: of the unpruned network's training; None takes the recipe's.
    """

    data: DataSpec
    backbone_name: str
    classes: int
    image: ImageShape
    keep: float
    t: float
    recipe: Recipe
    cost: str = "macs"
    teacher_epochs: int | None = None

    @property
    def backbone(self) -> Backbone:
        """The backbone itself."""
        return find_backbone(self.backbone_name)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The backbone's layers for this problem's images and classes."""
        return self.backbone.layers(self.classes, self.image)

    @property
    def space(self) -> SizeSpace:
        """The space every method searches: width and depth."""
        return self.backbone.space()

    def macs(self, size: Size) -> int:
        """Deployed macs of a size."""
        return MACS.of(self.layers, size)

    @property
    def counted(self) -> Cost:
        """The cost that the budget counts."""
        return find_budget(self.cost)

    def cost_of(self, size: Size) -> int:
        """Cost of a size, as the budget counts it."""
        return self.counted.of(self.layers, size)

    @property
    def budget(self) -> float:
        """R, in what `cost` counts."""
        return self.keep * self.cost_of(self.backbone.full)

    @property
    def band(self) -> tuple[float, float]:
        """Lowest and highest cost that meets the budget."""
        return (1 - self.t) * self.budget, (1 + self.t) * self.budget

    def meets(self, size: Size) -> bool:
        """Whether a size is in the band."""
        low, high = self.band
        return low <= self.cost_of(size) <= high


class Method(Protocol):
    """A way of choosing a size: a frozen dataclass whose fields are its settings.

    Attributes:
        name: its name in rows, on the command line and in reports.
        label: its name in the tables, as the paper writes it where it has one.

    A method may have a property `warning` (one line to be told before a run starts), a property `jobs` (how many
    it will ask for, for the time left), a class method `presets` (named settings), a method `outside(problem)`
    (sizes not in the space whose cost it wants to know, for a latency to be measured), a method `for_slots(slots)`
    (itself, with settings that follow how many jobs run side by side), a static method `missing()` (why it cannot
    run here, and what to do; None where it can) and a method `own_weights(problem, seed)` (its job that trained
    weights of the size it returns: Init starts from these instead of the teacher's).
    """

    name: ClassVar[str]
    label: ClassVar[str]

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Choose a size. Randomness comes from `seed` only, so that replay takes the same path."""
        ...
