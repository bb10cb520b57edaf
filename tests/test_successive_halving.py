"""Successive halving: who goes on, what it costs, replay, and what a run leaves of the checkpoints."""

import dataclasses
import itertools

import pytest
from helpers import drive, keys
from hypothesis import given
from hypothesis import strategies as st

from baselines.random_search import RandomSearch
from baselines.successive_halving import SuccessiveHalving
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.estimate import disk_of, estimate
from tas_bench.jobs import Context, Outcome, Recipe
from tas_bench.reading import load
from tas_bench.replay import keep_uses, left_by, plans_of
from tas_bench.resources import Resources
from tas_bench.store import Store
from tas_bench.sweep import Sweep
from tas_bench.testing import PROBLEM, made_up
from tas_bench.worker import Labels, execute

RESNET20 = dataclasses.replace(PROBLEM, backbone_name="resnet20", recipe=Recipe(epochs=90))
FAILED = Outcome(status="failed", error="made up")
canonical = RESNET20.backbone.canonical


def by_size(job):
    """An accuracy that more training does not change."""
    return Outcome(val_accuracy=hash(job.size) % 1000 / 1000)


def test_the_best_third_goes_on_to_three_times_as_many_epochs():
    batches, size = drive(SuccessiveHalving().plan(RESNET20, 3), made_up)
    assert [len(batch) for batch in batches] == [24, 8, 2]
    assert [{(job.begun, job.until) for job in batch} for batch in batches] == [{(0, 10)}, {(10, 30)}, {(30, 90)}]
    for batch, upper in itertools.pairwise(batches):
        ranked = sorted(batch, key=lambda job: -made_up(job).val_accuracy)
        assert [job.size for job in upper] == [job.size for job in ranked[: len(upper)]]
        assert [job.checkpoint for job in upper] == [job.checkpoint for job in ranked[: len(upper)]]
    assert canonical(size) == max(batches[-1], key=lambda job: made_up(job).val_accuracy).size
    jobs = [job for batch in batches for job in batch]
    assert len(jobs) == SuccessiveHalving().jobs
    assert all(job.kind == "candidate" and not job.touches_test and job.whole.recipe.epochs == 90 for job in jobs)


def test_it_draws_what_random_search_draws_and_costs_a_quarter_of_it():
    batches, _ = drive(SuccessiveHalving().plan(RESNET20, 3), made_up)
    (draws,), _ = drive(RandomSearch().plan(RESNET20, 3), made_up)
    assert [job.whole for job in batches[0]] == draws
    epochs = sum(job.until - job.begun for batch in batches for job in batch)
    assert epochs == 24 * 10 + 8 * 20 + 2 * 60
    assert epochs < 6 * 90


@given(
    trials=st.integers(1, 30), eta=st.integers(2, 5), rungs=st.integers(1, 4), epochs=st.integers(1, 40),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_every_schedule_ends_with_the_best_of_its_last_rung(trials, eta, rungs, epochs, seed):
    method = SuccessiveHalving(trials=trials, eta=eta, rungs=rungs, proxy_epochs=epochs)
    batches, size = drive(method.plan(PROBLEM, seed), by_size)
    ends = method.ends(epochs)
    assert list(ends) == sorted(set(ends))
    assert 1 <= ends[0] <= ends[-1] == epochs
    assert [job.until for job in (batch[0] for batch in batches)] == list(ends[: len(batches)])
    assert [len(batch) for batch in batches] == [max(1, trials // eta**k) for k in range(len(batches))]
    assert all(len(batch) > 1 for batch in batches[1:]), "one size alone is not judged"
    best = max(by_size(job).val_accuracy for job in batches[0])
    assert by_size(dataclasses.replace(batches[0][0].whole, size=PROBLEM.backbone.canonical(size))) == Outcome(
        val_accuracy=best
    )
    assert sum(map(len, batches)) <= method.jobs
    if len(ends) == rungs:
        assert sum(map(len, batches)) == method.jobs


@pytest.mark.parametrize(("epochs", "ends"), [(1, (1,)), (2, (1, 2)), (4, (1, 4)), (12, (1, 4, 12))])
def test_short_trainings_have_fewer_rungs(epochs, ends):
    assert SuccessiveHalving().ends(epochs) == ends


def test_what_fails_is_out():
    def answer(job):
        return FAILED if made_up(job.whole).val_accuracy > 0.15 else made_up(job.whole)

    batches, size = drive(SuccessiveHalving().plan(RESNET20, 0), answer)
    well = [job for job in batches[0] if answer(job).ok]
    assert 0 < len(well) < 8
    assert {job.size for job in batches[1]} == {job.size for job in well}
    assert canonical(size) == max(well, key=lambda job: answer(job).val_accuracy).size


def test_a_rung_that_fails_whole_ends_the_plan():
    with pytest.raises(PlanFailedError, match="all 8 trainings of rung 2 failed, the first: made up"):
        drive(SuccessiveHalving().plan(RESNET20, 0), lambda job: FAILED if job.number else made_up(job))


def test_killed_after_any_rung_it_takes_the_same_path_again():
    whole, size = drive(SuccessiveHalving().plan(RESNET20, 1), made_up)
    for cut in range(len(whole)):
        plan = SuccessiveHalving().plan(RESNET20, 1)
        batch = next(plan)
        for _ in range(cut):
            batch = plan.send([made_up(job) for job in batch])
        plan.close()
        assert keys([batch])[0] == keys(whole)[cut]
    again, size_again = drive(SuccessiveHalving().plan(RESNET20, 1), made_up)
    assert (keys(again), size_again) == (keys(whole), size)


@pytest.mark.parametrize("settings", [{"trials": 0}, {"eta": 1}, {"rungs": 0}, {"proxy_epochs": 0}])
def test_refuses_senseless_settings(settings):
    [(name, value)] = settings.items()
    with pytest.raises(InputError, match=rf"successive_halving.{name} is {value}; it must be at least"):
        SuccessiveHalving(**settings)


# ---------------------------------------------------------------- in a results directory

SWEEP = Sweep(
    name="small", title="Small", datasets=("digits",), backbones=("tiny",), keep=0.6, t=0.1,
    methods=(SuccessiveHalving(trials=8, eta=2, rungs=3), RandomSearch(trials=2)), transfers=(),
    recipe=Recipe(epochs=4, batch=64), train_subset=100, seeds=(0,),
)  # fmt: skip
"""Two methods that draw the same sizes: rungs of 8, 4 and 2, and two trainings."""


def run(path, most=99):
    """Run at most so many jobs in this process; the plans, and keys of the jobs that ran."""
    store, context, ran = Store(path), Context(results=path, checkpoint_seconds=3600), []
    with store.lock():
        plans = plans_of(SWEEP, store)
        keep_uses(plans, SWEEP, store)
        while len(ran) < most and (use := plans.next_job()):
            execute(use.job, Labels(SWEEP.name, use.method, None), context)
            ran.append(use.key)
            plans.finish(use.key, store.outcome(use.key))
            waiting = [plan.asked[key] for plan in plans.plans if not plan.done for key in plan.awaited]
            found = {kept.name.split(".")[0] for kept in (path / "_checkpoints").iterdir()}
            assert found <= left_by(waiting), "what lost is dropped"
    return plans, ran


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    path = tmp_path_factory.mktemp("uncut") / "results"
    plans, ran = run(path)
    return path, plans, ran


def test_a_run_books_what_was_trained_and_leaves_no_checkpoint(uncut):
    path, plans, ran = uncut
    assert plans.done
    assert len(ran) == 8 + 4 + 2 + 2
    assert not list((path / "_checkpoints").iterdir())
    rows, uses = load(path), load(path, table="uses")
    cost = uses.merge(rows, on="job_id").groupby("method_x")["images"].sum()
    assert cost["successive_halving"] == 50 * (8 * 1 + 4 * 1 + 2 * 2)
    assert cost["random_search"] == 50 * 2 * 4


@pytest.mark.parametrize("cut", [pytest.param(3, marks=pytest.mark.slow), 13])
def test_a_run_stopped_after_any_job_goes_the_same_way(uncut, tmp_path, cut):
    _, whole, _ = uncut
    _, before = run(tmp_path / "results", most=cut)
    plans, after = run(tmp_path / "results")
    assert len(before) + len(after) == 16
    assert not set(before) & set(after)
    assert {plan.name: list(plan.asked) for plan in plans.plans} == {
        plan.name: list(plan.asked) for plan in whole.plans
    }
    assert load(tmp_path / "results")["images"].sum() == load(uncut[0])["images"].sum()


def test_the_disk_it_takes_is_foretold_with_the_checkpoints_it_leaves(tmp_path):
    foretold = estimate(SWEEP, tmp_path, None, Resources(cpus=1, total_cpus=1), calibrate=False)
    assert foretold.slots == 1
    assert foretold.disk == disk_of(SWEEP, 16, checkpoints=1 + 8)
