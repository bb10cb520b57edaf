"""Searches that are given up by a rule of their own: when, what the row says, that the job alone decides it."""

import dataclasses

import pytest
from helpers import problem, search_job
from hypothesis import given
from hypothesis import strategies as st
from test_search_job import StoppedError, stopping

from tas_bench.jobs import Context, checkpoint_path, job_id
from tas_bench.search import StoppableSearch, StopRule
from tas_bench.search.searcher import Searcher
from tas_bench.store import Store
from tas_bench.tas import Tas
from tas_bench.worker import Labels, execute

RULE = StopRule(after=4, off=0.2, loss=2.0)
SEARCH = search_job(Tas(search_epochs=20))
BUDGET, T = SEARCH.problem.budget, SEARCH.problem.t


def why(shares, losses=None, rule=RULE, search=SEARCH):
    """What a rule says after epochs with these F_costs, as shares of R."""
    losses = losses or [1.0] * len(shares)
    curve = [{"epoch": i, "val_loss": loss} for i, loss in enumerate(losses, 1)]
    return rule.why(search, curve, [{"epoch": i, "f_cost": s * BUDGET} for i, s in enumerate(shares, 1)])


def test_a_search_whose_cost_stays_away_is_given_up():
    assert why([2.0] * 3) is None  # too soon
    assert why([2.0] * 4) == "given up after epoch 4 of 20: F_cost stayed 95% of R outside the band, or further"
    assert why([0.5] * 4) == "given up after epoch 4 of 20: F_cost stayed 45% of R outside the band, or further"
    assert why([1.0, 2.0, 2.0, 2.0]) is not None
    assert why([2.0, 1.1, 2.0, 2.0]) is None  # it has been near of late
    assert why([2.0] * 14) is None  # its end is near


def test_a_search_without_a_cost_is_asked_to_its_end():
    free = search_job(Tas(search_epochs=20, lambda_cost=0.0))
    assert why([2.0] * 19, search=free) is not None


def test_a_search_that_learns_nothing_is_given_up():
    assert why([1.0] * 4, [2.5, 2.5, 2.4, 2.3]).endswith("the validation loss stayed above 2")
    assert why([1.0] * 4, [2.5, 2.5, 2.4, 1.9]) is None
    assert why([1.0] * 4, [9.0] * 4, dataclasses.replace(RULE, loss=None)) is None


@given(st.lists(st.floats(0.01, 5), min_size=4, max_size=13))
def test_what_is_near_goes_on_and_what_is_far_is_given_up(shares):
    distance = min(max(1 - T - share, share - 1 - T) for share in shares[-3:])
    assert (why(shares) is not None) == (distance > 0.2)


def test_the_rule_has_a_key_of_its_own_and_leaves_the_searchs_alone():
    search = search_job(Tas(search_epochs=2))
    keys = {job_id(StoppableSearch(search=search, rule=StopRule(after=4, off=off))) for off in (0.1, 0.2)}
    assert len(keys | {job_id(search)}) == 3
    [plain] = next(Tas(search_epochs=2).plan(problem(epochs=2, batch=64), 0))
    assert job_id(plain) == "ad9c15c6fdc40961c63c"  # whatever rules there are


NEVER = StopRule(after=3, off=9.0)
SOON = StopRule(after=3, off=0.0, loss=0.01)
"""A rule that no search on digits meets."""


def test_a_rule_that_never_applies_changes_nothing(tmp_path):
    search = search_job(Tas(search_epochs=5), batch=256)
    under = StoppableSearch(search=search, rule=NEVER).run(Context(results=tmp_path))
    alone = search.run(Context(results=tmp_path / "alone"))
    assert (under.curve, under.size, under.warning) == (alone.curve, alone.size, alone.warning)


def test_the_row_says_that_it_was_given_up(tmp_path):
    job = StoppableSearch(search=search_job(Tas(search_epochs=12), batch=256), rule=SOON)
    store = Store(tmp_path)
    with store.lock():
        row = execute(job, Labels("sweep", "tune", job.problem.budget), Context(results=tmp_path))
    assert (row["status"], row["kind"], row["epochs"], row["seed"]) == ("ok", "search", 3, 0)
    assert row["warning"].startswith("given up after epoch 3 of 12: ")
    assert row["derived"] in ("argmax", "in-band")
    assert row["train_macs"] < job.expected_macs(1438) / 2
    assert store.outcome(row["job_id"]).epochs == 3


def test_killed_before_or_after_its_last_epoch_it_comes_to_the_same_end(tmp_path, monkeypatch):
    """It does not go beyond the epoch after which it is given up, though the checkpoint would let it."""
    job = StoppableSearch(search=search_job(Tas(search_epochs=12), batch=256), rule=SOON)
    whole, context, epochs = job.run(Context(results=tmp_path / "whole")), Context(results=tmp_path), []
    with pytest.raises(StoppedError):
        job.run(stopping(context, 1, epochs))
    assert checkpoint_path(tmp_path, job_id(job)).exists()
    assert not checkpoint_path(tmp_path, job_id(job.search)).exists()  # which may be another's

    def killed(_):
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Searcher, "derive", killed)
        with pytest.raises(StoppedError):
            job.run(dataclasses.replace(context, checkpoint_seconds=0))
    again = job.run(dataclasses.replace(context, tick=lambda done, _: epochs.append(done)))
    assert epochs == [1, 2]
    assert len(again.curve) == 3
    assert (again.curve, again.size, again.argmax_macs) == (whole.curve, whole.size, whole.argmax_macs)
    assert again.trajectory == whole.trajectory
