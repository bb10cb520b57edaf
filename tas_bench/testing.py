"""Contracts every plug-in keeps, as plain functions for a test to call on what discovery finds.

@pytest.mark.parametrize("backbone", all_backbones().values(), ids=lambda b: b.name)
def test_contract(backbone):
    check_backbone(backbone)

They hold for the sizes drawn here by a fixed seed, and raise `AssertionError` where one does not.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import pickle
import pkgutil
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tas_bench.backbones import all_backbones
from tas_bench.backbones.backbone import Backbone, ImageShape
from tas_bench.backbones.tiny import TINY
from tas_bench.costs.macs import MACS
from tas_bench.costs.params import PARAMS
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.estimate import made_up
from tas_bench.jobs import DataSpec, Outcome, Problem, Recipe, job_id
from tas_bench.network import Network
from tas_bench.space import RATIOS, IntArray, Size
from tas_bench.store import outcome_of
from tas_bench.sweep import without_test
from tas_bench.train import teacher_job
from tas_bench.worker import Labels, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tas_bench.costs.layer import Cost, Layer
    from tas_bench.jobs import Job, Method
    from tas_bench.transfer import Transfer

CLASSES = 10

PROBLEM = Problem(
    data=DataSpec(name="digits"), backbone_name="tiny", classes=10, image=ImageShape(1, 8),
    keep=0.6, t=0.05, recipe=Recipe(epochs=2, batch=64),
)  # fmt: skip
"""A small problem for methods to solve."""


def check_names(package: str, kind: type) -> None:
    """No two plug-ins of `package` share a name: discovery would silently keep one of them."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for value in vars(importlib.import_module(f"{package}.{module.name}")).values():
            if isinstance(value, kind):
                name: str = value.name  # type: ignore[attr-defined]
                assert name, f"a {kind.__name__} of {package} has no name"
                assert found.setdefault(name, value) is value, f"two {kind.__name__}s are called '{name}'"


def check_cost(cost: Cost) -> None:
    """A cost counts, is one formula for every kind of number, and is the same one by one and by the thousand.

    Not claimed: that a wider size costs more. It need not, where it needs fewer 1 x 1 mismatch shortcuts.
    """
    for backbone in all_backbones().values():
        rng = np.random.default_rng(0)
        layers = backbone.layers(CLASSES)
        for layer in layers[:: max(1, len(layers) // 20)] + layers[-2:]:
            _check_formula(cost, layer, rng)
        _check_sums(cost, backbone, rng)
        _check_monotone(cost, backbone, rng)


def _check_formula(cost: Cost, layer: Layer, rng: np.random.Generator) -> None:
    """The layer's cost: non-negative integers, no less for more channels, alike for arrays and tensors."""
    c_in, c_out = rng.integers(1, 257, size=(2, 8))
    scalars = [cost.of_layer(layer, int(i), int(o)) for i, o in zip(c_in, c_out, strict=True)]
    assert all(type(v) is int and v >= 0 for v in scalars), f"{cost.name}: not counts: {scalars}"

    arrays = np.broadcast_to(cost.of_layer(layer, c_in, c_out), 8)
    tensors = cost.of_layer(layer, torch.tensor(c_in).double(), torch.tensor(c_out).double())
    assert arrays.tolist() == scalars, f"{cost.name}: arrays and integers differ"
    assert np.broadcast_to(tensors, 8).tolist() == scalars, f"{cost.name}: tensors and integers differ"

    for more in (cost.of_layer(layer, c_in + 1, c_out), cost.of_layer(layer, c_in, c_out + 1)):
        assert np.all(more >= arrays), f"{cost.name}: a layer costs less with more channels"


def _check_sums(cost: Cost, backbone: Backbone, rng: np.random.Generator) -> None:
    """`many` is `of` one by one; dropped blocks do not matter (rule S reads a stage's last)."""
    layers, sizes = backbone.layers(CLASSES), some_sizes(backbone, rng)
    one_by_one = [cost.of(layers, size) for size in sizes]
    assert all(type(v) is int and v >= 0 for v in one_by_one)
    assert _many(cost, layers, sizes).tolist() == one_by_one, f"{cost.name}: `many` is not `of` one by one"

    outputs = {backbone.stage_output(s).convs[-1] for s in range(len(backbone.stages))}
    scrambled = [_scramble(backbone, size, rng, spare=outputs if cost.by_index else set()) for size in sizes]
    assert _many(cost, layers, scrambled).tolist() == one_by_one, f"{cost.name}: counts dropped blocks"
    if not cost.by_index:
        canonical = [backbone.canonical(size) for size in sizes]
        assert _many(cost, layers, canonical).tolist() == one_by_one, f"{cost.name}: changed by canonical()"


def _check_monotone(cost: Cost, backbone: Backbone, rng: np.random.Generator) -> None:
    """What cannot change a mismatch never costs less: an inner width more, or a block more at full widths."""
    layers = backbone.layers(CLASSES)
    joined = {i for la in layers if la.repairs_mismatch for i in (*la.source.convs, *la.target.convs)}
    inner = [i for i in range(len(backbone.convs)) if i not in joined]
    for size in some_sizes(backbone, rng)[:3]:
        wider = [_set_width(size, i, size.widths[i] + 1) for i in rng.choice(inner, 5)]
        assert np.all(_many(cost, layers, wider) >= cost.of(layers, size)), f"{cost.name}: wider costs less"
    for s, stage in enumerate(backbone.stages):
        full = backbone.full
        depths = [(*full.depths[:s], d, *full.depths[s + 1 :]) for d in range(1, stage.blocks + 1)]
        costs = _many(cost, layers, [Size(full.widths, d) for d in depths])
        assert np.all(np.diff(costs) >= 0), f"{cost.name}: deeper costs less"


def check_backbone(backbone: Backbone, image: ImageShape | None = None, classes: int = CLASSES) -> None:
    """A backbone's costs are those of the network it builds, and its space and its errors are as stated."""
    image = image or backbone.image
    _check_space(backbone)
    _check_errors(backbone)
    rng = np.random.default_rng(0)
    for size in some_sizes(backbone, rng):
        _check_built(backbone, size, classes, image)
        _check_ignored(backbone, size, rng)


def _check_space(backbone: Backbone) -> None:
    space, full = backbone.space(), backbone.full
    for search in ("W", "D", "WD"):
        part = backbone.space(search)
        assert full in part, f"{backbone.name}: the full size is not in its {search} space"
        assert part.full == full
        assert part.widths == (space.widths if "W" in search else tuple((w,) for w in full.widths))
        assert part.depths == (space.depths if "D" in search else tuple((d,) for d in full.depths))
    for width, row in zip(full.widths, space.widths, strict=True):
        assert set(row) == {int(width * r) for r in RATIOS}, f"{backbone.name}: {row} is not int({width} r)"
    for row in space.rows:
        assert row[0] >= 1, f"{backbone.name}: a candidate below 1 in {row}"
        assert list(row) == sorted(set(row)), f"{backbone.name}: {row} is not ascending"


def _check_errors(backbone: Backbone) -> None:
    full = backbone.full
    blocks = backbone.stages[-1].blocks
    bad = {
        "a width too few": Size(full.widths[1:], full.depths),
        "a depth too many": Size(full.widths, (*full.depths, 1)),
        "width 0": _set_width(full, 0, 0),
        "a negative width": _set_width(full, len(full.widths) - 1, -4),
        "depth 0": Size(full.widths, (0, *full.depths[1:])),
        "too great a depth": Size(full.widths, (*full.depths[:-1], blocks + 1)),
    }
    for what, size in bad.items():
        _must_refuse(what, partial(backbone.check, size))
        _must_refuse(what, partial(Network, backbone, size, CLASSES))
    _must_refuse("search 'depth'", partial(backbone.space, "depth"))


def _check_built(backbone: Backbone, size: Size, classes: int, image: ImageShape) -> None:
    """Costs against the built network: torch's counter (which leaves out the bias), and its parameters."""
    layers, network = backbone.layers(classes, image), _build(backbone, size, classes, image)
    with FlopCounterMode(display=False) as counter:
        logits = network(torch.empty(1, image.channels, image.side, image.side, device="meta"))
    assert logits.shape == (1, classes)
    counted = counter.get_total_flops() // 2 + classes  # two per multiply-accumulate
    assert MACS.of(layers, size) == counted, f"{backbone.name}: macs not those of the network, at {size}"
    params = sum(p.numel() for p in network.parameters())
    assert PARAMS.of(layers, size) == params, f"{backbone.name}: params not those of the network, at {size}"


def _check_ignored(backbone: Backbone, size: Size, rng: np.random.Generator) -> None:
    """Sizes that differ in dropped blocks only are one network, which `canonical` names once."""
    scrambled, canonical = _scramble(backbone, size, rng), backbone.canonical(size)
    assert backbone.canonical(canonical) == canonical == backbone.canonical(scrambled)
    layers = backbone.layers(CLASSES)
    for cost in (MACS, PARAMS):
        assert cost.of(layers, size) == cost.of(layers, scrambled) == cost.of(layers, canonical)
    if scrambled != size:
        assert _shapes(backbone, size) == _shapes(backbone, scrambled), f"{backbone.name}: builds dropped blocks"


def some_sizes(backbone: Backbone, rng: np.random.Generator) -> list[Size]:
    """Full widths at full and least depth; draws from the space; draws rich in equal widths, of any depth."""
    space = backbone.space()
    sizes = [backbone.full, Size(backbone.full.widths, tuple(row[0] for row in space.depths))]
    sizes += [space.sample(rng) for _ in range(2)]
    for _ in range(2):
        widths = (max(1, int(c.width * rng.choice((0.37, 1)))) for c in backbone.convs)
        sizes.append(Size(tuple(widths), tuple(int(rng.integers(1, s.blocks + 1)) for s in backbone.stages)))
    return sizes


def _scramble(backbone: Backbone, size: Size, rng: np.random.Generator, spare: Collection[int] = ()) -> Size:
    """The size with other widths in its dropped blocks, those of the convolutions `spare` excepted."""
    widths = list(size.widths)
    for i, conv in enumerate(backbone.convs):
        if conv.stage is not None and conv.block >= size.depths[conv.stage] and i not in spare:
            widths[i] = int(rng.integers(1, conv.width + 1))
    return dataclasses.replace(size, widths=tuple(widths))


def _set_width(size: Size, i: int, width: int) -> Size:
    return dataclasses.replace(size, widths=(*size.widths[:i], width, *size.widths[i + 1 :]))


def _many(cost: Cost, layers: Sequence[Layer], sizes: Sequence[Size]) -> IntArray:
    return cost.many(layers, np.array([s.widths for s in sizes]), np.array([s.depths for s in sizes]))


def _build(backbone: Backbone, size: Size, classes: int = CLASSES, image: ImageShape | None = None) -> Network:
    """The network without any memory or arithmetic behind it."""
    with torch.device("meta"):
        return Network(backbone, size, classes, image).eval()


def _shapes(backbone: Backbone, size: Size) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in _build(backbone, size).state_dict().items()}


def _must_refuse(what: str, action: Callable[[], object]) -> None:
    try:
        action()
    except InputError as error:
        words = str(error)
    else:
        raise AssertionError(f"{what} was accepted")
    assert len(words.splitlines()) == 1, f"{what}: the error is not one line: {words!r}"


def check_transfer(transfer: type[Transfer]) -> None:
    """What every transfer mode must do, at its default settings.

    Its name, a finite loss with a gradient to the student's logits, none to the teacher's, a mean over the
    batch, preparation that leaves the teacher alone, and the right to do without a teacher if it says so.
    """
    mode = transfer()
    assert mode.needs_teacher or not mode.needs_logits
    student, teacher = (Network(TINY, TINY.full, 10, ImageShape(1, 8)) for _ in range(2))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    mode.prepare(student, teacher if mode.needs_teacher else None)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())

    logits = torch.randn(6, 10, requires_grad=True)
    taught = torch.randn(6, 10, requires_grad=True) if mode.needs_logits else None
    labels = torch.arange(6)
    loss = mode.loss(logits, taught, labels)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().sum() > 0
    twice = mode.loss(logits.repeat(2, 1), taught.repeat(2, 1) if taught is not None else None, labels.repeat(2))
    torch.testing.assert_close(twice, loss)


def check_method(method_class: type[Method], problem: Problem = PROBLEM) -> None:
    """What every method must do, at its default settings. Nothing is trained: outcomes are made up.

    Its seed alone decides the jobs it asks for and the size it returns, which meets the budget; no global
    random state is touched, nor the test set. It goes on when some of its jobs fail, and says so when all do.
    """
    method = method_class()
    assert method.name
    assert method.label
    hash(method)  # a frozen dataclass
    for seed in (0, 1):
        before = _random_states()
        path = _path(method, problem, seed, _all_well)
        assert _random_states() == before, f"{method.name}: draws from or reseeds a global random generator"
        random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002  # and does not depend on one
        assert _path(method, problem, seed, _all_well) == path, f"{method.name}: its seed does not decide its path"
        assert _path(method, problem, seed, _stored) == path, f"{method.name}: replay from rows goes another way"
        _check_found(method, problem, path[1])
        _check_found(method, problem, _path(method, problem, seed, _first_fails)[1])
        if path[0]:
            _must_give_up(method, problem, seed)


def _all_well(batch: Sequence[Job]) -> list[Outcome]:
    return [made_up(job) for job in batch]


def _stored(batch: Sequence[Job]) -> list[Outcome]:
    """What is left of the outcomes once they were rows."""
    labels, now = Labels("sweep", "method", None), datetime.datetime.now(datetime.UTC)
    return [outcome_of(row_of(job, labels, made_up(job), 1, now)) for job in batch]


def _first_fails(batch: Sequence[Job]) -> list[Outcome]:
    """The first job of a batch fails, and its twins, but not all."""
    others = {job_id(job) for job in batch} - {job_id(batch[0])} or {job_id(batch[0])}
    return [made_up(job) if job_id(job) in others else Outcome(status="oom") for job in batch]


def _all_fail(batch: Sequence[Job]) -> list[Outcome]:
    return [Outcome(status="failed", error="made up") for _ in batch]


def _path(
    method: Method, problem: Problem, seed: int, answers: Callable[[Sequence[Job]], list[Outcome]]
) -> tuple[list[list[str]], Size]:
    """Keys of the jobs of every batch, and the size in the end."""
    plan, batches = without_test(method.plan(problem, seed), teacher_job(problem, seed)), []
    try:
        batch = next(plan)
        while True:
            batches.append([job_id(job) for job in batch])
            assert len(batches) < 10_000, f"{method.name}: does not come to an end"
            assert [job_id(job) for job in pickle.loads(pickle.dumps(batch))] == batches[-1]  # noqa: S301
            batch = plan.send(answers(batch))
    except StopIteration as end:
        return batches, end.value


def _check_found(method: Method, problem: Problem, size: Size) -> None:
    problem.backbone.check(size)
    assert problem.meets(size), f"{method.name}: its size misses the budget"


def _must_give_up(method: Method, problem: Problem, seed: int) -> None:
    try:
        _path(method, problem, seed, _all_fail)
    except PlanFailedError as error:
        words = str(error)
    else:
        raise AssertionError(f"{method.name}: all its jobs failed, and it returned a size")
    assert len(words.splitlines()) == 1, f"{method.name}: gives up in more than one line"


def _random_states() -> tuple[Any, ...]:
    """The states of the global random generators."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    return random.getstate(), repr(numpy_state), torch.get_rng_state().tolist()
