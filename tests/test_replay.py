"""Where a sweep stands when the weights of its teacher are lost: what runs again, and what stays."""

import shutil
from dataclasses import replace

import pytest
from one_search import SWEEP, files, run
from rich.console import Console

from tas_bench.attempts import Attempts
from tas_bench.dispatch import Dispatch
from tas_bench.jobs import Context
from tas_bench.progress import Progress
from tas_bench.reading import load
from tas_bench.replay import keep_uses, plans_of
from tas_bench.resources import Resources
from tas_bench.store import Store
from tas_bench.transfer.init import Init
from tas_bench.transfer.kd import KD


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A results directory where all has ended; not to be written to."""
    path = tmp_path_factory.mktemp("replay") / "results"
    run(path)
    return path


@pytest.fixture
def results(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


def without(results, *kinds):
    """Lose the teacher's weights and rows; `(weights' job, rows' jobs)`."""
    [path] = files(results, "_weights")
    path.unlink()
    rows = load(results).set_index(load(results)["transfer"].fillna("") + load(results)["kind"])
    lost = [rows.loc[kind, "job_id"] for kind in kinds]
    for key in lost:
        (results / "rows" / f"{key}.parquet").unlink()
    return path.stem, lost


def test_a_plan_that_still_searches_finds_the_teachers_weights_when_it_comes_to_its_finals(results):
    teacher, lost = without(results, "search", "kdfinal")
    assert sorted(run(results)) == sorted([teacher, *lost])
    assert set(load(results)["status"]) == {"ok"}


def test_finals_that_ended_stay_while_the_teacher_is_trained_again(results):
    teacher, _ = without(results, "kdfinal")
    plans = plans_of(SWEEP, Store(results))
    keep_uses(plans, SWEEP, Store(results))
    assert plans.next_job().key == teacher
    assert plans.next_job() is None
    assert sorted(load(results, table="uses").query("kind == 'final'")["transfer"]) == ["kd", "scratch"]


def test_a_final_that_draws_on_no_weights_runs_alone(results):
    _, lost = without(results, "scratchfinal")
    assert run(results) == lost


def test_a_teacher_whose_second_training_dies_is_not_taken_for_the_first(results):
    teacher, _ = without(results, "kdfinal")
    plans = plans_of(SWEEP, Store(results))
    display = Progress(Console(stderr=True), 1, quiet=True)
    dispatch = Dispatch(plans, SWEEP, Context(results=results), display, Resources())
    assert dispatch.next_task().key == teacher
    Attempts(results, teacher).begin()
    dispatch.died(teacher, "overtime", "1 s")
    assert dispatch.finished
    assert dispatch.take_failed() == (teacher,)
    assert Store(results).row(teacher)["status"] == "ok", "its accuracy stands"


def test_a_teacher_that_cannot_be_trained_again_ends_the_plans_that_need_it(results):
    without(results, "kdfinal")
    plans = plans_of(SWEEP, Store(results), lambda _key: True)
    assert plans.done
    assert [plan.error for plan in plans.plans if plan.error] == [
        "the teacher of seed 0 ended as failed: its weights are lost, and its training for others failed"
    ]


def test_weights_are_looked_at_once_and_someone_is_told_meanwhile(results, monkeypatch):
    for key in load(results).query("kind == 'final'")["job_id"]:
        (results / "rows" / f"{key}.parquet").unlink()
    looked, told, outcome = [], [], Store.outcome
    monkeypatch.setattr(Store, "outcome", lambda self, key, *more: looked.append(key) or outcome(self, key, *more))
    sweep = replace(SWEEP, seeds=(0, 1), transfers=(KD(), Init()))
    plans = plans_of(sweep, Store(results), meanwhile=lambda: told.append("replay"))
    assert len(looked) == len(set(looked)) > 0
    assert told
    keep_uses(plans, sweep, Store(results), lambda: told.append("uses"))
    assert told.count("uses") == len(plans.plans)
