"""A rung trains on where the one before it ended, to bitwise what one training gives, and books its own part."""

from dataclasses import replace

import pytest
import torch
from helpers import full_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tas_bench.checkpoint import previous
from tas_bench.data import train_count
from tas_bench.jobs import Context, checkpoint_path, job_id
from tas_bench.reading import load
from tas_bench.replay import left_by
from tas_bench.rung import Rung
from tas_bench.space import Size
from tas_bench.store import Store
from tas_bench.testing import PROBLEM
from tas_bench.train import candidate_job, train
from tas_bench.worker import Labels, execute

SMALL = replace(PROBLEM, data=replace(PROBLEM.data, train_subset=200), recipe=replace(PROBLEM.recipe, epochs=6))
SIZE = Size((6, 6, 6, 6, 6, 12, 12, 12, 12), (2, 2))
WHOLE = candidate_job(SMALL, SIZE, 0)
ENDS = (1, 3, 6)
RUNGS = [Rung(whole=WHOLE, ends=ENDS, number=number) for number in range(3)]
IMAGES = 100
"""The half to train on."""


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    """The whole training in one go."""
    return train(WHOLE, Context(results=tmp_path_factory.mktemp("whole"), keep_weights=True))


@pytest.fixture
def context(tmp_path):
    """Checkpoints are not due for an hour: those at the rungs' ends are kept all the same."""
    return Context(results=tmp_path, checkpoint_seconds=3600, keep_weights=True)


@pytest.fixture
def kept(context):
    """Where the rungs' checkpoint lies."""
    (context.results / "_checkpoints").mkdir()
    return checkpoint_path(context.results, RUNGS[0].checkpoint)


class StoppedError(Exception):
    pass


def stop_at(epoch):
    def tick(done, _):
        if done == epoch:
            raise StoppedError

    return tick


def trained(rung, context):
    """A rung's outcome, and the epochs that it ran for it."""
    epochs = []
    outcome = rung.run(replace(context, tick=lambda done, total: epochs.append((done, total))))
    assert {total for _, total in epochs} <= {rung.until}
    return outcome, [done for done, _ in epochs]


def check_outcome(outcome, rung, uncut, since):
    """It is what the whole training was after that epoch, and books the epochs after `since`."""
    assert outcome.curve == uncut.curve[: rung.until]
    assert outcome.val_accuracy == uncut.curve[rung.until - 1]["val_accuracy"]
    assert outcome.best_val_accuracy == max(point["val_accuracy"] for point in outcome.curve)
    assert (outcome.epochs, outcome.size, outcome.test_accuracy) == (rung.until, SIZE, None)
    assert outcome.images == (rung.until - since) * IMAGES
    assert outcome.train_macs == outcome.images * uncut.train_macs // uncut.images
    if rung.until == 6:
        assert all(torch.equal(uncut.weights[name], value) for name, value in outcome.weights.items())


def test_rungs_add_up_to_one_training(context, kept, uncut):
    seconds = []
    for rung in RUNGS:
        torch.manual_seed(rung.number)
        outcome, epochs = trained(rung, context)
        assert epochs == list(range(rung.begun + 1, rung.until + 1))
        check_outcome(outcome, rung, uncut, since=rung.begun)
        assert outcome.carried_seconds == 0
        parts = (outcome.seconds_startup, outcome.seconds_data, outcome.seconds_train, outcome.seconds_eval)
        assert outcome.device_seconds == pytest.approx(sum(parts))
        seconds.append(outcome.seconds_train)
    assert kept.exists()
    assert seconds[2] < sum(seconds), "no rung books another's"


@pytest.mark.parametrize("damage", ["gone", "cut short", "both cut short"])
def test_without_a_whole_checkpoint_it_trains_what_is_missing_and_books_it(context, kept, uncut, damage):
    for rung in RUNGS[:2]:
        rung.run(context)
    for path in (kept, previous(kept)):
        if damage == "gone":
            path.unlink()
        elif path == kept or damage.startswith("both"):
            path.write_bytes(path.read_bytes()[:1000])
    since = ENDS[0] if damage == "cut short" else 0
    outcome, epochs = trained(RUNGS[2], context)
    assert epochs == list(range(since + 1, 7))
    check_outcome(outcome, RUNGS[2], uncut, since=since)


def test_a_full_disk_costs_time_alone(context, kept, uncut):
    RUNGS[0].run(context)
    with full_disk():
        outcome = RUNGS[1].run(context)
    assert "could not be kept" in outcome.warning
    outcome, epochs = trained(RUNGS[2], context)
    assert epochs == [2, 3, 4, 5, 6]
    check_outcome(outcome, RUNGS[2], uncut, since=1)


def test_a_checkpoint_beyond_its_end_is_left_alone(context, kept, uncut):
    """The row of the first rung was lost, say, when the last was under way."""
    for rung in RUNGS[:2]:
        rung.run(context)
    previous(kept).unlink()
    outcome, epochs = trained(RUNGS[0], context)
    assert epochs == [1]
    check_outcome(outcome, RUNGS[0], uncut, since=0)


@pytest.mark.parametrize("after", [3, 4, 5])
def test_a_stopped_rung_goes_on_and_books_itself_once(context, kept, uncut, after):
    for rung in RUNGS[:2]:
        rung.run(context)
    often = replace(context, checkpoint_seconds=0)
    with pytest.raises(StoppedError):
        RUNGS[2].run(replace(often, tick=stop_at(after + 1)))
    outcome, epochs = trained(RUNGS[2], often)
    assert epochs == list(range(after + 1, 7))
    check_outcome(outcome, RUNGS[2], uncut, since=3)
    assert (outcome.carried_seconds > 0) == (after > 3)
    assert outcome.carried_seconds < outcome.device_seconds


def test_a_rung_killed_before_its_row_was_written_books_itself_once(context, kept, uncut):
    for rung in RUNGS[:2]:
        first = rung.run(context)
    again, epochs = trained(RUNGS[1], context)
    assert epochs == []
    check_outcome(again, RUNGS[1], uncut, since=1)
    assert again.seconds_train == first.seconds_train


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 7)), max_size=4))
def test_any_order_and_any_stops_lead_to_the_same_outcome(context, kept, uncut, steps):
    """Rows may be lost, rungs stopped and asked for again in any order: an outcome is its key's."""
    often = replace(context, checkpoint_seconds=0)
    for number, stop in steps:
        try:
            RUNGS[number].run(replace(often, tick=stop_at(stop)))
        except StoppedError:
            assert stop <= RUNGS[number].until
    for rung in RUNGS:
        outcome = rung.run(often)
        assert outcome.curve == uncut.curve[: rung.until]
    assert all(torch.equal(uncut.weights[name], value) for name, value in outcome.weights.items())
    for path in (kept, previous(kept)):
        path.unlink(missing_ok=True)


def test_rows_add_up_and_the_last_one_drops_the_checkpoint(context, kept, uncut):
    with Store(context.results).lock():
        for rung in RUNGS:
            row = execute(rung, Labels("sweep", "method", None), context)
            assert (row["status"], row["kind"], row["split"]) == ("ok", "candidate", "search")
            assert kept.exists() == (rung.until < 6)
    rows = load(context.results)
    assert rows["images"].sum() == uncut.images
    assert rows["train_macs"].sum() == uncut.train_macs
    assert sorted(rows["epochs"]) == list(ENDS)
    assert not list(kept.parent.iterdir())


def test_expected_macs_are_those_it_adds(context, kept):
    images = train_count(SMALL.data, None)
    for rung in RUNGS:
        assert rung.expected_macs(images) == rung.run(context).train_macs


def test_its_keys_are_its_own():
    keys = {job_id(job) for job in (*RUNGS, WHOLE, replace(RUNGS[0], ends=(1, 2, 6)))}
    assert len(keys) == 5
    assert {rung.checkpoint for rung in RUNGS} == {job_id(RUNGS[2])}
    assert replace(RUNGS[0], ends=(1, 2, 6)).checkpoint != RUNGS[0].checkpoint
    assert left_by([]) == set()
