"""Whole searches on digits: what they tell, the test images they never see, and how they resume."""

import dataclasses
import json
import math
import sys

import pytest
import torch
from helpers import search_job

from tas_bench.data import load_test
from tas_bench.errors import DivergedError
from tas_bench.jobs import Context, checkpoint_path, job_id, job_json
from tas_bench.schema import TRAJECTORIES
from tas_bench.search import searcher as searcher_module
from tas_bench.space import Size
from tas_bench.tas import Tas

PAPER, RELEASED = Tas.presets()["paper"], Tas.presets()["released"]
COLUMNS = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]


@pytest.fixture
def context(tmp_path):
    return Context(results=tmp_path)


def test_every_setting_decides_the_jobs_key():
    jobs = [search_job(s) for s in (PAPER, RELEASED, Tas(samples=3))] + [search_job(PAPER, seed=1)]
    assert len({job_id(job) for job in jobs}) == 4


def test_a_search_end_to_end(context):
    ticks = []
    context = dataclasses.replace(context, tick=lambda *done: ticks.append(done))
    settings = Tas(search_epochs=3)
    job = search_job(settings)
    first = job.run(context)
    torch.rand(7)  # whatever else the process drew
    again, other = (j.run(context) for j in (search_job(settings), search_job(settings, seed=1)))
    assert ticks[:3] == [(1, 3), (2, 3), (3, 3)]
    assert first.ok
    assert list(first.curve) == list(again.curve) != list(other.curve)
    assert (first.size, first.argmax_macs) == (again.size, again.argmax_macs)

    assert [list(point) for point in first.curve] == [COLUMNS] * 3
    assert [point["epoch"] for point in first.curve] == [1, 2, 3]
    assert first.val_accuracy == first.curve[-1]["val_accuracy"]
    assert [["job_id", *point] for point in first.trajectory] == [TRAJECTORIES.names] * 3
    assert [point["tau"] for point in first.trajectory] == pytest.approx([10.0, 5.05, 0.1])
    last = first.trajectory[-1]
    argmax = Size(tuple(last["widths"]), tuple(last["depths"]))
    assert first.argmax_macs == last["f_cost"] == job.problem.macs(argmax)
    assert first.discrepancy == last["discrepancy"] == pytest.approx(sum(last["discrepancies"]) / 11)
    assert len(last["entropies"]) == 11
    assert all(0 < h < math.log(8) for h in last["entropies"])
    assert first.test_accuracy is None
    assert first.images == 2 * 3 * 719
    assert first.arch_lr == 0.15


@pytest.mark.parametrize(
    ("preset", "search", "keep"),
    [(PAPER, "WD", 0.4), (PAPER, "W", 0.6), (RELEASED, "WD", 0.6), (RELEASED, "W", 0.4)],
    ids=["paper both", "paper widths", "released both", "released widths"],
)
def test_results_meet_the_budget(context, preset, search, keep):
    job = search_job(dataclasses.replace(preset, search=search, search_epochs=2), keep=keep)
    outcome, (low, high) = job.run(context), job.problem.band
    assert outcome.size in job.problem.backbone.space(search)
    assert low <= job.problem.macs(outcome.size) <= high
    assert (outcome.derived == "argmax") == (low <= outcome.argmax_macs <= high)
    assert outcome.derived == "in-band" or job.problem.macs(outcome.size) == outcome.argmax_macs


def test_no_search_reaches_the_test_images(context, monkeypatch):
    def refuse(*_):
        raise AssertionError("the search asked for the test images")

    for module in list(sys.modules.values()):
        if getattr(module, "load_test", None) is load_test:
            monkeypatch.setattr(module, "load_test", refuse)
    assert search_job(Tas(search_epochs=1)).run(context).ok


def test_a_search_that_blows_up_says_so(context):
    with pytest.raises(DivergedError, match=r"became (nan|inf) in epoch \d+, step \d+$"):
        search_job(Tas(search_epochs=2), lr=1e30).run(context)


class StoppedError(Exception):
    """A stand-in for whatever ends a process."""


def stopping(context, after, epochs):
    """A context in which the job is stopped once it has done that many epochs and kept a checkpoint."""

    def tick(done, _):
        epochs.append(done)
        if done == after + 1:
            raise StoppedError

    return dataclasses.replace(context, tick=tick, checkpoint_seconds=0)


SETTINGS = {
    "default": {}, "released": dataclasses.asdict(RELEASED), "two draws": {"draws": 2},
    "mixture": {"selection": "mixture"}, "one depth": {"depth_samples": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, id=name, marks=[pytest.mark.slow] * (name != "default"))
        for name, settings in SETTINGS.items()
    ],
)
def test_a_stopped_search_resumes_to_bitwise_the_same_result(tmp_path, settings):
    """Stopped behind its first, its second and its third epoch, each time going on from the stop before."""
    job = search_job(Tas(**settings | {"search_epochs": 4}), batch=256)
    whole = job.run(Context(results=tmp_path / "whole"))
    context, epochs = Context(results=tmp_path), []
    for after in (1, 2, 3):
        with pytest.raises(StoppedError):
            job.run(stopping(context, after, epochs))
        torch.manual_seed(after)
    resumed = job.run(dataclasses.replace(context, tick=lambda done, _: epochs.append(done)))
    assert epochs == [*(1, 2), *(2, 3), *(3, 4), 4]
    assert list(resumed.curve) == list(whole.curve)
    assert list(resumed.trajectory) == list(whole.trajectory)
    same = ("size", "derived", "argmax_macs", "images", "train_macs", "discrepancy", "val_accuracy")
    assert [getattr(resumed, name) for name in same] == [getattr(whole, name) for name in same]
    assert 0 < resumed.carried_seconds < resumed.device_seconds


def test_checkpoints_are_kept_no_oftener_than_asked(context):
    job = search_job(Tas(search_epochs=1))
    job.run(context)
    path = checkpoint_path(context.results, job_id(job))
    assert not path.exists()
    job.run(dataclasses.replace(context, checkpoint_seconds=0))
    assert path.exists()


def test_a_search_that_blows_up_keeps_its_last_good_checkpoint(context, monkeypatch):
    """In epoch 3, at the fourth step, the loss is NaN: the row says so, and epoch 2 is what is kept."""
    context, job = dataclasses.replace(context, checkpoint_seconds=0), search_job(Tas(search_epochs=4))
    calls = []
    update = searcher_module.Searcher._update_weights

    def blows_up(self, x, y, tau):
        calls.append(tau)
        loss, logits = update(self, x, y, tau)
        return (loss * math.nan if len(calls) == 2 * 6 + 4 else loss), logits

    monkeypatch.setattr(searcher_module.Searcher, "_update_weights", blows_up)
    with pytest.raises(DivergedError, match=r"^the loss became nan in epoch 3, step 4$"):
        job.run(context)
    kept = torch.load(checkpoint_path(context.results, job_id(job)), weights_only=True)
    assert len(kept["values"]["curve"]) == 2


def test_what_is_hardly_a_search_is_warned_of(context):
    assert "decided little" in search_job(Tas(search_epochs=1, arch_lr=1e-6)).run(context).warning
    assert "|I| = 1" in search_job(Tas(search_epochs=1, samples=1)).run(context).warning
    assert Tas(samples=1, search="D").warning is None


def test_how_a_single_candidate_is_run_has_changed_once():
    """Rows of other searches stand."""
    versions = [json.loads(job_json(search_job(Tas(samples=samples))))["version"] for samples in (1, 2)]
    assert versions == [4, 3]
