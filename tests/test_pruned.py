"""Pruning by Torch-Pruning: what is left, to the bit; the method for real on digits; and without the package."""

import shutil
import sys
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from helpers import drive, one_by_one, problem
from safetensors.torch import load_file

from baselines.torch_pruning_l1 import TorchPruningL1
from tas_bench.backbones import all_backbones
from tas_bench.cli import main
from tas_bench.errors import OK, InputError, PlanFailedError
from tas_bench.jobs import Context, DataSpec, Outcome, Problem, Recipe, job_id, weights_path
from tas_bench.network import Network
from tas_bench.pruned import pruned, size_of, steps, uniform_sizes
from tas_bench.reading import load
from tas_bench.replay import plans_of
from tas_bench.resources import Resources
from tas_bench.store import Store
from tas_bench.sweep import Sweep, cell_plan
from tas_bench.testing import made_up
from tas_bench.train import teacher_job, train
from tas_bench.transfer.init import Init
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch
from tas_bench.variant import Variant

WIDE = problem(t=0.15, epochs=3, batch=64)
METHOD = TorchPruningL1(finetune_epochs=3)
UNIFORM = Variant("uniform", "Uniform", replace(METHOD, scope="uniform"))
TRANSFERS = (Scratch(), Init(), KD())
SWEEP = Sweep(
    name="mine", title="", datasets=("digits",), backbones=("tiny",), methods=(METHOD, UNIFORM), seeds=(0,),
    transfers=TRANSFERS[:2], t=WIDE.t, recipe=WIDE.recipe,
)  # fmt: skip


def on(name, keep=0.6, **changes):
    backbone = all_backbones()[name]
    whole = Problem(
        data=DataSpec(), backbone_name=name, classes=10, image=backbone.image, keep=keep, t=0.05, recipe=Recipe()
    )
    return replace(whole, **changes)


def network(problem, size=None, seed=0):
    """With weights and statistics that differ from channel to channel."""
    generator = torch.Generator().manual_seed(seed)
    made = Network(problem.backbone, size or problem.backbone.full, problem.classes, problem.image).eval()
    for name, value in made.state_dict().items():
        if value.is_floating_point():
            low = 0.5 if name.endswith(("running_var", "1.weight")) else -0.5
            value.copy_(torch.rand(value.shape, generator=generator) * (1.5 - low) + low if value.dim() < 2 else
                        torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)  # fmt: skip
    return made


NAMES = ("tiny", "resnet20", "resnet50", "mobilenet_v1", "mobilenet_v2")
"""One of every form of block."""


@pytest.mark.parametrize(("name", "scope"), [*((name, "global") for name in NAMES), ("tiny", "uniform")])
def test_what_is_left_computes_what_our_network_of_that_size_does(name, scope):
    here = on(name)
    left = network(here)
    *_, last = islice(steps(left, here, scope), 14)
    ours = Network(here.backbone, last, 10, here.image).eval()
    ours.load_state_dict(left.state_dict())
    assert sum(last.widths) < 0.97 * sum(here.backbone.full.widths)
    assert last == size_of(ours, here.backbone)
    x = torch.randn(2, here.image.channels, 32, 32)
    with torch.no_grad():
        assert torch.equal(left(x), ours(x))


@pytest.mark.parametrize("name", NAMES)
def test_the_size_of_a_network_is_what_it_was_built_with(name):
    backbone = all_backbones()[name]
    count = len(backbone.convs)
    for widths in ((1,) * count, tuple(range(1, count + 1))):
        size = replace(backbone.full, widths=widths)
        assert size_of(Network(backbone, size, 10, backbone.image), backbone) == size


@pytest.mark.parametrize(
    ("scope", "changes"), [("uniform", {"keep": 0.4}), ("global", {"cost": "params"})], ids=str
)
def test_the_step_closest_to_the_budget_is_taken(scope, changes):
    here = replace(WIDE, **changes)
    size, weights = pruned(network(here).state_dict(), here, scope)
    sizes = list(islice(steps(network(here), here, scope), 150))
    away = [abs(here.cost_of(one) - here.budget) for one in sizes]
    assert away[sizes.index(size)] == min(away)
    low, high = here.band
    assert low <= here.cost_of(size) <= high
    assert (size in uniform_sizes(here)) == (scope == "uniform")
    again, same = pruned(network(here).state_dict(), here, scope)
    assert again == size
    assert all(torch.equal(same[name], value) for name, value in weights.items())
    other, _ = pruned(network(here, seed=1).state_dict(), here, scope)
    assert (other == size) == (scope == "uniform"), "the weights decide"


def test_nothing_is_pruned_where_nothing_need_be():
    here = replace(WIDE, keep=1.0)
    size, weights = pruned(network(here).state_dict(), here, "global")
    assert size == here.backbone.full
    assert all(torch.equal(weights[name], value) for name, value in network(here).state_dict().items())


@pytest.mark.parametrize("scope", ["global", "uniform"])
def test_the_weakest_filters_go_and_the_others_stay_as_they_were(scope):
    """Two filters of an inner convolution are all but nothing, and so is what reads them."""
    here = problem(t=0.15)
    teacher = network(here)
    first, second = teacher.stages[0][0].convs
    with torch.no_grad():
        for channel in (1, 3):
            for tensor in (first[0].weight[channel], first[1].weight[channel], second[0].weight[:, channel]):
                tensor.mul_(1e-3)
    size, weights = pruned(teacher.state_dict(), here, scope)
    width, inputs = size.widths[1], first[0].in_channels
    kept = [
        channel
        for channel in range(first[0].out_channels)
        if (weights["stages.0.0.convs.0.1.running_mean"] == first[1].running_mean[channel]).any()
    ]
    assert len(kept) == width < first[0].out_channels
    assert not {1, 3} & set(kept)
    assert torch.equal(weights["stages.0.0.convs.0.1.weight"], first[1].weight[kept])
    assert size.widths[0] < inputs or torch.equal(weights["stages.0.0.convs.0.0.weight"], first[0].weight[kept])


def test_a_budget_between_two_steps_is_told():
    with pytest.raises(InputError, match="no step of uniform pruning of tiny meets the budget: widen t"):
        pruned(network(WIDE).state_dict(), replace(WIDE, t=0.001), "uniform")


# ---------------------------------------------------------------- the method


def kinds(batches):
    return [[job.kind for job in batch] for batch in batches]


def test_it_asks_for_its_teacher_and_one_pruning():
    batches, size = drive(METHOD.plan(WIDE, 4), made_up)
    assert kinds(batches) == [["teacher"], ["pruning"]]
    [teacher], [job] = batches
    assert teacher == job.teacher == teacher_job(WIDE, 4)
    assert job == METHOD.own_weights(WIDE, 4)
    assert (job.problem.recipe.epochs, job.problem.budget, job.seed) == (3, WIDE.budget, 4)
    assert size == made_up(job).size
    others = (replace(METHOD, scope="uniform"), replace(METHOD, finetune_epochs=4))
    assert len({job_id(method.own_weights(WIDE, 4)) for method in (METHOD, *others)}) == 3
    longer = METHOD.own_weights(replace(WIDE, teacher_epochs=9), 4)
    assert longer == replace(job, teacher=longer.teacher), "only its teacher trains for longer"
    assert longer.teacher.recipe.epochs == 9


@pytest.mark.parametrize("failing", ["teacher", "pruning"])
def test_it_gives_up_in_one_line(failing):
    def answer(job):
        return Outcome(status="oom", error="no room") if job.kind == failing else made_up(job)

    with pytest.raises(PlanFailedError, match=f"^the {failing} of seed 0 ended as oom: no room$"):
        drive(METHOD.plan(WIDE, 0), answer)


def test_init_takes_its_own_weights_and_kd_the_teachers_logits():
    for method in (METHOD, UNIFORM):
        batches, _ = drive(cell_plan(WIDE, method, TRANSFERS, 0), made_up)
        assert kinds(batches) == [["teacher"], ["pruning"], ["teacher"], ["final"] * 3]
        own, finals = batches[1][0], batches[-1]
        assert [job.teacher for job in finals] == [None, own, teacher_job(WIDE, 0)]
        assert {job.size for job in finals} == {WIDE.backbone.canonical(made_up(own).size)}


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        (METHOD, {"cost": "latency:x"}, "latency is known of candidate widths only"),
        (UNIFORM.method, {"t": 0.001}, "no step of uniform pruning meets the budget; widen t or leave"),
    ],
)
def test_what_cannot_end_well_is_refused_before_any_job(method, changes, words):
    with pytest.raises(InputError, match=f"^torch_pruning_l1: {words}"):
        next(method.plan(replace(WIDE, **changes), 0))


@pytest.mark.parametrize(
    ("settings", "words"), [({"scope": "local"}, "scope is 'local'"), ({"finetune_epochs": 0}, "at least 1")]
)
def test_senseless_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        TorchPruningL1(**settings)


# ---------------------------------------------------------------- for real


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The context of a directory in which the sweep has run."""
    context = Context(results=tmp_path_factory.mktemp("ran"))
    with Store(context.results).lock():
        one_by_one(SWEEP, context, Resources(), SimpleNamespace(quiet=True))
    return context


def jobs_of(kind, context):
    plans = plans_of(SWEEP, Store(context.results))
    assert plans.done
    return [use for use in plans.first_use.values() if use.job.kind == kind]


def test_a_sweep_of_it_runs_and_its_rows_say_what_it_found(ran):
    rows = load(ran.results)
    assert (rows["status"] == "ok").all()
    assert rows["kind"].value_counts().to_dict() == {"final": 4, "pruning": 2, "teacher": 1}
    low, high = WIDE.band
    for row in rows[rows["kind"] == "pruning"].itertuples():
        assert (row.budget, row.budget_cost, row.split, row.epochs) == (WIDE.budget, "macs", "search", 3)
        assert low <= row.cost == row.macs <= high
        assert row.test_accuracy != row.test_accuracy, "NaN: it never saw the test set"
        assert row.val_accuracy > 0.3
        assert row.images == 3 * 719
        assert row.train_macs == 3 * row.images * row.macs
        assert row.device_seconds >= row.seconds_startup + row.seconds_train > 0
        assert "flatters" in row.warning
    widths = rows[rows["kind"] != "teacher"].groupby("method")["widths"].agg(lambda found: set(map(tuple, found)))
    assert [len(found) for found in widths] == [1, 1], "finals are of the size that was found"
    assert widths["torch_pruning_l1"] != widths["uniform"]


def test_what_it_costs_is_foretold(ran):
    rows = load(ran.results).set_index("job_id")
    for use in jobs_of("pruning", ran):
        assert use.job.expected_macs(1438) == pytest.approx(rows.loc[use.key, "train_macs"], rel=WIDE.t)


@pytest.mark.parametrize("preset", Init.presets().values(), ids=Init.presets())
def test_init_copies_all_of_its_weights(ran, preset):
    for use in jobs_of("pruning", ran):
        weights = load_file(weights_path(ran.results, use.key))
        size = Store(ran.results).outcome(use.key).size
        own, student = (network(WIDE, size, seed) for seed in (1, 2))
        own.load_state_dict(weights)
        preset.prepare(student, own)
        assert all(torch.equal(student.state_dict()[name], value) for name, value in weights.items())


def test_the_final_with_init_starts_from_them(ran):
    """At a learning rate of nothing it ends where it began."""
    [job] = [use.job for use in jobs_of("final", ran) if use.job.transfer == Init() and use.method == METHOD.name]
    still = replace(job, recipe=replace(job.recipe, epochs=1, lr=1e-12))
    weights = load_file(weights_path(ran.results, job_id(job.teacher)))
    ended = train(still, replace(ran, keep_weights=True)).weights
    for name, value in weights.items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(ended[name], value)
    curves = load(ran.results, table="curves").set_index(["job_id", "epoch"])["train_accuracy"]
    scratch = replace(job, transfer=Scratch(), teacher=None)
    assert curves[job_id(job), 1] > curves[job_id(scratch), 1] + 0.1


def test_where_all_weights_are_lost_the_teacher_is_trained_again_before_it_is_pruned(ran, tmp_path):
    results = shutil.copytree(ran.results, tmp_path / "copy")
    shutil.rmtree(results / "_weights")
    [init] = [use for use in jobs_of("final", ran) if use.job.transfer == Init() and use.method == METHOD.name]
    (results / "rows" / f"{init.key}.parquet").unlink()
    plans = plans_of(SWEEP, Store(results))
    assert plans.next_job().job == init.job.teacher.teacher
    assert plans.next_job() is None


class StoppedError(Exception):
    pass


def test_a_stopped_one_goes_on_to_the_same_end(ran, tmp_path):
    def tick(done, _):
        if done == 2:
            raise StoppedError

    [use, _] = jobs_of("pruning", ran)
    (tmp_path / "_weights").mkdir()
    teacher = weights_path(ran.results, job_id(use.job.teacher))
    weights_path(tmp_path, teacher.stem).write_bytes(teacher.read_bytes())
    context, epochs = Context(results=tmp_path, checkpoint_seconds=0), []
    with pytest.raises(StoppedError):
        use.job.run(replace(context, tick=tick))
    outcome = use.job.run(replace(context, tick=lambda done, _: epochs.append(done)))
    assert epochs == [2, 3], "the first epoch's checkpoint is the last one there is"
    assert outcome.carried_seconds > 0
    ended = load_file(weights_path(ran.results, use.key))
    assert all(torch.equal(outcome.weights[name], value) for name, value in ended.items())


# ---------------------------------------------------------------- without the package

HINT = "needs torch-pruning: pip install 'tas-bench[pruning]'"


@pytest.fixture
def bare(monkeypatch):
    """As if the package were not installed: it is not found, and cannot be imported."""
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ImportError):
        import torch_pruning  # noqa: F401


def test_without_the_package_the_method_is_listed_with_what_to_do(bare, capsys):
    assert main(["list"]) == OK
    listed = capsys.readouterr().out.splitlines()
    [line] = [line for line in listed if line.split()[:1] == ["torch_pruning_l1"]]
    assert line.endswith(f"({HINT})")
    assert sum("pip install" in line for line in listed) == 1


def test_with_it_nothing_is_missing(capsys):
    assert main(["list"]) == OK
    assert "pip install" not in capsys.readouterr().out


DIGITS = ("--set", "datasets=digits", "--set", "backbones=tiny", "--set", "t=0.15", "--set", "train_subset=none")


def test_without_the_package_a_sweep_with_it_is_refused(bare, refused):
    told = refused("run", "methods", "--smoke", *DIGITS, "--set", "methods=ratio,torch_pruning_l1")
    assert told == f"torch_pruning_l1 {HINT}, or leave the method out"


def test_without_the_package_others_run(bare, here):
    command = ("run", "methods", "--smoke", *DIGITS, "--set", "methods=ratio,random_search", "--dry-run")
    assert main(command) == OK
