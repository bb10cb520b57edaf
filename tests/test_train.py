"""The one training function: same recipe for all, exact by seed, against torch's own parts."""

import contextlib
import copy
import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tas_bench import train as train_module
from tas_bench.backbones.tiny import TINY
from tas_bench.data import dataset_info, load_test, load_train, set_aside
from tas_bench.errors import DivergedError, InputError
from tas_bench.jobs import Context, DataSpec, Problem, Recipe, job_id, job_json
from tas_bench.loop import Loop
from tas_bench.space import Size
from tas_bench.train import candidate_job, final_job, teacher_job, train
from tas_bench.transfer.init import Init
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch

INFO = dataset_info("digits")
PROBLEM = Problem(
    data=DataSpec(name="digits", train_subset=300),
    backbone_name="tiny", classes=INFO.classes, image=INFO.image,
    keep=0.6, t=0.1, recipe=Recipe(epochs=2, batch=64),
)  # fmt: skip
SIZE = Size((6, 6, 6, 6, 6, 12, 12, 12, 12), (2, 2))


@pytest.fixture(scope="module")
def teacher_weights(tmp_path_factory):
    """The trained teacher of seed 0."""
    weights = train(teacher_job(PROBLEM, 0), Context(results=tmp_path_factory.mktemp("teacher"))).weights
    return {k: v.contiguous() for k, v in weights.items()}


@pytest.fixture
def context(tmp_path, teacher_weights):
    """A results directory that holds the teacher of seed 0."""
    (tmp_path / "_weights").mkdir()
    save_file(teacher_weights, tmp_path / "_weights" / f"{job_id(teacher_job(PROBLEM, 0))}.safetensors")
    return Context(results=tmp_path)


def final_weights(job, context, monkeypatch):
    """The trained student's weights and outcome."""
    kept = []
    original = train_module._network
    monkeypatch.setattr(train_module, "_network", lambda *a: kept.append(original(*a)) or kept[-1])
    outcome = train(job, context)
    return kept[0].state_dict(), outcome


def test_same_seed_same_weights_bitwise(context, monkeypatch):
    job = final_job(PROBLEM, SIZE, 0, KD())
    first, a = final_weights(job, context, monkeypatch)
    second, b = final_weights(job, context, monkeypatch)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert a.curve == b.curve
    other, _ = final_weights(replace(job, seed=1), context, monkeypatch)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


class StoppedError(Exception):
    """A stand-in for whatever ends a process."""


@pytest.mark.parametrize("transfer", [Init(), KD()], ids=lambda t: t.name)
def test_a_stopped_training_resumes_to_bitwise_the_same_weights(context, monkeypatch, transfer):
    job = replace(final_job(PROBLEM, SIZE, 0, transfer), recipe=Recipe(epochs=4, batch=64, holdout=0.2))
    context = replace(context, keep_weights=True)
    outcome = train(job, context)
    for after in (1, 3):

        def tick(done, _, after=after):
            if done == after + 1:
                raise StoppedError

        with pytest.raises(StoppedError):
            train(job, replace(context, tick=tick, checkpoint_seconds=0))
        torch.manual_seed(after)
        epochs = []
        again = train(job, replace(context, tick=lambda done, _, log=epochs: log.append(done)))
        assert epochs == list(range(after + 1, 5))
        assert all(torch.equal(outcome.weights[k], again.weights[k]) for k in outcome.weights)
        assert again.curve == outcome.curve
        assert (again.test_accuracy, again.images) == (outcome.test_accuracy, outcome.images)
        assert (again.best_epoch, again.best_test_accuracy) == (outcome.best_epoch, outcome.best_test_accuracy)
        assert 0 < again.carried_seconds < again.device_seconds
        forget(context)


def forget(context):
    """Remove all checkpoints, as a finished job's are."""
    for path in (context.results / "_checkpoints").iterdir():
        path.unlink()


@dataclass(frozen=True)
class Stopping(Scratch):
    """Scratch that is stopped in the middle of a step."""

    left: ClassVar[list[int]] = []

    def loss(self, logits, teacher_logits, labels):
        if self.left:
            self.left[0] -= 1
            if not self.left[0]:
                self.left.clear()
                raise StoppedError
        return super().loss(logits, teacher_logits, labels)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, 19), min_size=1, max_size=3))  # of 4 epochs with 5 steps each
def test_stops_at_any_step_change_no_bit(context, stops):
    recipe = Recipe(epochs=4, batch=64)
    job = replace(final_job(PROBLEM, SIZE, 0, Stopping()), recipe=recipe)
    often = replace(context, checkpoint_seconds=0, keep_weights=True)
    whole = train(job, often)
    forget(context)
    for i, steps in enumerate(stops):
        Stopping.left[:] = [steps]
        with contextlib.suppress(StoppedError) if i else pytest.raises(StoppedError):
            train(job, often)
    Stopping.left.clear()
    resumed = train(job, often)
    assert resumed.curve == whole.curve
    assert all(torch.equal(whole.weights[k], resumed.weights[k]) for k in whole.weights)
    forget(context)


def test_the_best_epoch_is_chosen_by_validation_and_tested_apart(context, monkeypatch):
    """Against networks kept at every epoch; validation follows a script, whose best comes twice."""
    kept, epochs = [], []
    original, script = train_module._network, iter([0.1, 0.7, 0.3, 0.7, 0.2])
    monkeypatch.setattr(train_module, "_network", lambda *a: kept.append(original(*a)) or kept[-1])
    measured = train_module.accuracy

    def scripted(network, batches, precision):
        real = measured(network, batches, precision)
        return next(script, real)

    monkeypatch.setattr(train_module, "accuracy", scripted)
    recipe = Recipe(epochs=5, batch=64, holdout=0.25)
    job = replace(final_job(PROBLEM, SIZE, 0, Scratch()), recipe=recipe)
    watched = replace(context, tick=lambda *_: epochs.append(copy.deepcopy(kept[0]).eval()))
    outcome = train(job, watched)
    test = load_test(PROBLEM.data, None)

    def right(network):
        x = (test.images.float() / 255 - INFO.mean[0]) / INFO.std[0]
        with torch.no_grad():
            return (network(x).argmax(1) == test.labels).double().mean().item()

    assert (outcome.best_epoch, outcome.best_val_accuracy, outcome.val_accuracy) == (2, 0.7, 0.2)
    assert outcome.best_train_accuracy == outcome.curve[1]["train_accuracy"]
    assert outcome.best_test_accuracy == pytest.approx(right(epochs[1]))
    assert outcome.test_accuracy == pytest.approx(right(epochs[-1]))
    assert outcome.best_test_accuracy != outcome.test_accuracy
    assert outcome.images == 5 * 225


def test_the_holdout_is_what_validates(context):
    """The accuracy of a curve's last epoch is that on images which training did not see."""
    job = replace(final_job(PROBLEM, SIZE, 0, Scratch()), recipe=Recipe(epochs=2, batch=64, holdout=0.25))
    outcome = train(job, replace(context, keep_weights=True))
    rest, aside = set_aside(load_train(PROBLEM.data, None), PROBLEM.data, 0.25)
    network = train_module._network(job, INFO, "cpu").eval()
    network.load_state_dict(outcome.weights)
    x = (aside.images.float() / 255 - INFO.mean[0]) / INFO.std[0]
    with torch.no_grad():
        right = (network(x).argmax(1) == aside.labels).double().mean().item()
    assert outcome.val_accuracy == pytest.approx(right)
    images = {image.numpy().tobytes() for image in rest.images}
    assert len(images & {image.numpy().tobytes() for image in aside.images}) == 0


def test_a_training_that_went_on_in_parts_does_so_after_a_stop(context, monkeypatch):
    """Also where memory has room again: the same network whatever stops it."""
    job = replace(final_job(PROBLEM, SIZE, 0, Scratch()), recipe=Recipe(epochs=3, batch=64))
    often = replace(context, checkpoint_seconds=0, keep_weights=True)
    full = [True]
    original = Loop._backward

    def backward(self, x, y, meter):
        if full and self.micro_batch > 32:
            raise torch.OutOfMemoryError("no room")
        return original(self, x, y, meter)

    monkeypatch.setattr(Loop, "_backward", backward)
    whole = train(job, often)
    assert whole.micro_batch == 32
    assert "parts of up to 32" in whole.warning
    forget(context)

    def tick(done, _):
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(job, replace(often, tick=tick))
    full.clear()
    resumed = train(job, often)
    assert (resumed.micro_batch, resumed.warning, resumed.curve) == (32, whole.warning, whole.curve)
    assert all(torch.equal(whole.weights[k], resumed.weights[k]) for k in whole.weights)


def test_seconds_of_data_and_training_make_images_per_second(context):
    outcome = train(candidate_job(PROBLEM, SIZE, 0), context)
    parts = [outcome.seconds_startup, outcome.seconds_data, outcome.seconds_train, outcome.seconds_eval]
    assert all(part > 0 for part in parts)
    assert outcome.device_seconds == pytest.approx(sum(parts))
    assert outcome.images_per_second == pytest.approx(outcome.images / (parts[1] + parts[2]))


def test_a_stopped_candidate_keeps_its_validation_curve(context):
    job = candidate_job(replace(PROBLEM, recipe=replace(PROBLEM.recipe, epochs=3)), SIZE, 0)
    whole = train(job, context)

    def tick(done, _):
        if done == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(job, replace(context, tick=tick, checkpoint_seconds=0))
    again = train(job, context)
    assert again.curve == whole.curve
    assert (again.best_epoch, again.best_val_accuracy) == (whole.best_epoch, whole.best_val_accuracy)


def test_kd_without_soft_weight_trains_scratch_bitwise(context, monkeypatch):
    scratch, _ = final_weights(final_job(PROBLEM, SIZE, 0, Scratch()), context, monkeypatch)
    kd, _ = final_weights(final_job(PROBLEM, SIZE, 0, KD(soft_weight=0.0)), context, monkeypatch)
    assert all(torch.equal(scratch[k], kd[k]) for k in scratch)


def test_init_starts_from_the_teacher(context, monkeypatch):
    still = replace(PROBLEM, recipe=Recipe(epochs=1, batch=300, lr=1e-12))
    job = replace(final_job(still, TINY.full, 0, Init()), teacher=teacher_job(PROBLEM, 0))
    teacher = load_file(context.results / "_weights" / f"{job_id(job.teacher)}.safetensors")
    weights, _ = final_weights(job, context, monkeypatch)
    scratch, _ = final_weights(replace(job, transfer=Scratch(), teacher=None), context, monkeypatch)
    torch.testing.assert_close(weights["stages.1.1.convs.0.0.weight"], teacher["stages.1.1.convs.0.0.weight"])
    assert not torch.equal(scratch["stages.1.1.convs.0.0.weight"], teacher["stages.1.1.convs.0.0.weight"])


def test_roles_see_the_images_they_should(context):
    candidate = train(candidate_job(PROBLEM, SIZE, 0), context)
    assert candidate.test_accuracy is None
    assert candidate.images == 2 * 150
    assert candidate.val_accuracy == candidate.curve[-1]["val_accuracy"]
    assert candidate.best_val_accuracy == max(p["val_accuracy"] for p in candidate.curve)
    final = train(final_job(PROBLEM, SIZE, 0, Scratch()), context)
    assert (final.val_accuracy, final.best_val_accuracy, final.best_epoch) == (None, None, None)
    assert (final.best_test_accuracy, candidate.best_test_accuracy) == (None, None)
    assert final.images == 2 * 300
    assert 0 <= final.test_accuracy <= 1
    assert final.weights is None
    assert train(final_job(PROBLEM, SIZE, 0, Scratch()), replace(context, keep_weights=True)).weights


def test_candidates_never_open_the_test_set(context, monkeypatch):
    monkeypatch.setattr(train_module, "load_test", lambda *_: pytest.fail("the test set was read"))
    assert train(candidate_job(PROBLEM, SIZE, 0), context).ok


def test_test_accuracy_is_that_of_the_deployed_network(context, monkeypatch):
    """By an independent evaluation, one image at a time."""
    kept = []
    original = train_module._network
    monkeypatch.setattr(train_module, "_network", lambda *a: kept.append(original(*a)) or kept[-1])
    outcome = train(final_job(PROBLEM, SIZE, 0, Scratch()), context)
    network = kept[0].eval()
    test = load_test(PROBLEM.data, None)
    mean, std = INFO.mean[0], INFO.std[0]
    with torch.no_grad():
        hits = [
            network((image[None].float() / 255 - mean) / std).argmax().item() == label.item()
            for image, label in zip(test.images, test.labels, strict=True)
        ]
    assert outcome.test_accuracy == pytest.approx(sum(hits) / len(hits), abs=1.5 / len(hits))


def test_training_macs_count_three_forwards_and_the_teachers_one(context):
    layers = TINY.layers(10, INFO.image)
    from tas_bench.costs.macs import MACS

    student, teacher = MACS.of(layers, SIZE), MACS.of(layers, TINY.full)
    scratch = train(final_job(PROBLEM, SIZE, 0, Scratch()), context)
    kd = train(final_job(PROBLEM, SIZE, 0, KD()), context)
    assert scratch.train_macs == 600 * 3 * student
    assert kd.train_macs == 600 * (3 * student + teacher)


def test_a_loss_that_explodes_is_told_with_epoch_and_step(context):
    problem = replace(PROBLEM, recipe=Recipe(epochs=50, batch=64, lr=1e30))
    with pytest.raises(DivergedError, match=r"epoch \d+, step \d+"):
        train(final_job(problem, SIZE, 0, Scratch()), context)


def test_ignored_entries_do_not_make_another_job():
    cut = Size((6, 6, 6, 6, 6, 12, 12, 12, 12), (1, 2))
    same = Size((6, 6, 6, 1, 3, 12, 12, 12, 12), (1, 2))
    assert job_id(candidate_job(PROBLEM, cut, 0)) == job_id(candidate_job(PROBLEM, same, 0))


def test_job_id_depends_on_all_that_decides_the_outcome():
    base = final_job(PROBLEM, SIZE, 0, KD())
    others = [
        replace(base, seed=1),
        replace(base, transfer=KD(temperature=2.0)),
        replace(base, transfer=Scratch()),
        replace(base, recipe=Recipe(epochs=3, batch=64)),
        replace(base, data=DataSpec(name="digits")),
        replace(base, size=TINY.full),
        replace(base, role="candidate"),
        replace(base, backbone_name="resnet20"),
        replace(base, teacher=teacher_job(PROBLEM, 5)),
    ]
    assert len({job_id(job) for job in [base, *others]}) == 10


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"batch": 1}, {"lr": 0.0}, {"lr": math.inf}, {"momentum": 1.0}, {"holdout": 1.0}]
)
def test_recipe_refuses(bad):
    with pytest.raises(InputError):
        Recipe(**bad)


def test_what_a_holdout_is_has_changed_once():
    """Rows of other trainings stand."""
    job = candidate_job(PROBLEM, PROBLEM.backbone.full, 0)
    held = replace(job, recipe=replace(job.recipe, holdout=0.1))
    assert [json.loads(job_json(each))["version"] for each in (job, held)] == [2, 3]
