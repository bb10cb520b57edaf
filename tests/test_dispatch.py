"""Which job comes next, and what becomes of one whose worker died for want of memory."""

import pytest
from rich.console import Console

from tas_bench.attempts import Attempts
from tas_bench.dispatch import RETRIES, Dispatch
from tas_bench.jobs import Context
from tas_bench.plans import Plans
from tas_bench.progress import Progress
from tas_bench.resources import Resources
from tas_bench.stub import StubMethod
from tas_bench.sweep import Sweep
from tas_bench.worker import execute


@pytest.fixture
def dispatch(store):
    """Three stubs."""
    sweep = Sweep(
        name="stubs", title="Stubs", methods=(StubMethod(jobs=3),), transfers=(), seeds=(0,), datasets=("digits",),
        backbones=("tiny",),
    )  # fmt: skip
    display = Progress(Console(stderr=True), 3, quiet=True)
    return Dispatch(
        Plans(sweep.plans(), lambda *_: None), sweep, Context(results=store.path), display, Resources()
    )


def dies(dispatch, task, begun=True):
    if begun:
        Attempts(dispatch.context.results, task.key).begin()
    dispatch.died(task.key, "memory", "killed")


def ends(dispatch, task):
    execute(task.job, task.labels, task.context)
    dispatch.complete(task.key)


def test_whoever_died_for_want_of_memory_gets_the_node_to_itself_after_all_others(dispatch):
    first, second = dispatch.next_task(), dispatch.next_task()
    dies(dispatch, first)
    dies(dispatch, second)
    assert dispatch.queued == {"candidate": 3}
    third = dispatch.next_task()
    assert third.key not in (first.key, second.key), "others come first"
    assert dispatch.next_task(beside=[third.key]) is None
    ends(dispatch, third)
    again = dispatch.next_task()
    assert again.key == first.key
    assert dispatch.next_task(beside=[again.key]) is None, "and nothing else runs beside it"
    ends(dispatch, again)
    ends(dispatch, dispatch.next_task())
    assert dispatch.finished


def test_alone_it_is_its_own_fault(dispatch):
    others = [dispatch.next_task(), dispatch.next_task()]
    for task in others:
        ends(dispatch, task)
    task = dispatch.next_task()
    for _ in range(10):
        dies(dispatch, task, begun=False)  # its worker had been killed before it was given to it
        assert dispatch.next_task().key == task.key
    for _ in range(RETRIES["memory"]):
        dies(dispatch, task)
        assert dispatch.next_task().key == task.key
    dies(dispatch, task)
    assert dispatch.finished
    row = dispatch.store.row(task.key)
    assert (row["status"], row["attempts"]) == ("oom", 1 + RETRIES["memory"])


def test_a_job_that_has_come_further_may_die_as_often_again(dispatch):
    task = dispatch.next_task()
    for epoch in (10, 200, 3000):
        dispatch.tick(task.key, 5, 5000)  # from the checkpoint on
        dispatch.tick(task.key, epoch, 5000)
        Attempts(dispatch.context.results, task.key).begin()
        assert not dispatch.died(task.key, "process", "killed")
        assert dispatch.next_task().key == task.key
    dispatch.tick(task.key, 3000, 5000)
    Attempts(dispatch.context.results, task.key).begin()
    assert dispatch.died(task.key, "process", "killed"), "no further"
    assert dispatch.store.row(task.key)["status"] == "failed"


def test_a_row_that_shared_storage_shows_late_is_no_damage(dispatch, monkeypatch):
    task = dispatch.next_task()
    execute(task.job, task.labels, task.context)
    row, looks = dispatch.store.row, []

    def late(key):
        looks.append(key)
        return row(key) if len(looks) > 2 else None

    monkeypatch.setattr(dispatch.store, "row", late)
    dispatch.complete(task.key)
    assert dispatch.fault is None
    assert dispatch.plans.outcomes[task.key].ok


def test_a_row_that_never_comes_is(dispatch, monkeypatch):
    monkeypatch.setattr("tas_bench.dispatch.PATIENCE", 0.3)
    dispatch.complete(dispatch.next_task().key)
    assert "ended without a row" in str(dispatch.fault)


def test_coming_further_does_not_make_one_that_lacked_memory_harmless(dispatch):
    task = dispatch.next_task()
    dispatch.tick(task.key, 10, 5000)
    dies(dispatch, task)
    others = [dispatch.next_task(), dispatch.next_task()]
    for other in others:
        ends(dispatch, other)
    assert dispatch.next_task().key == task.key
    dispatch.tick(task.key, 200, 5000)
    assert dispatch.deaths[task.key]["memory"] == 1
