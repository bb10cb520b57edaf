"""What a row books of attempts that failed, were stopped, or went on from a checkpoint."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from tas_bench.attempts import Attempts
from tas_bench.errors import DivergedError
from tas_bench.jobs import Context, Outcome, checkpoint_path, job_id
from tas_bench.store import Store
from tas_bench.worker import Labels, execute

LABELS = Labels("sweep", "method", None)


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A job that fails while its switch is off, and else has gone on from a checkpoint of 4 device-seconds."""

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "candidate"
    touches_test: ClassVar[bool] = False
    works: ClassVar[list[bool]] = []

    seed: int = 0

    def describe(self) -> dict[str, Any]:
        return {"widths": [1], "depths": [1]}

    def run(self, context: Context) -> Outcome:
        if not self.works:
            raise DivergedError("the loss became nan in epoch 3, step 4")
        return Outcome(device_seconds=10.0, carried_seconds=4.0)


@pytest.fixture
def context(tmp_path):
    with Store(tmp_path).lock():
        yield Context(results=tmp_path)


@pytest.fixture
def works(monkeypatch):
    switch = []
    monkeypatch.setattr(Resumed, "works", switch)
    return switch


def test_a_stopped_attempts_seconds_are_carried_over(context, works):
    works.append(True)
    assert execute(Resumed(), LABELS, context)["device_seconds"] == 10.0


def test_a_failed_attempts_seconds_count_once(context, works):
    """Its row has what the checkpoint carries over, and more."""
    failed = execute(Resumed(), LABELS, context) | {"device_seconds": 9.0}
    assert (failed["status"], failed["error"]) == ("diverged", "the loss became nan in epoch 3, step 4")
    Store(context.results).commit(failed)
    Attempts(context.results, failed["job_id"]).path.unlink()  # as in directories of earlier days: the row counts
    works.append(True)
    row = execute(Resumed(), LABELS, context)
    assert row["device_seconds"] == 9.0 + 10.0 - 4.0
    assert row["attempts"] == 2


def test_what_a_killed_attempt_carried_is_not_lost_to_a_short_failed_one(context, works):
    """The failed row has its own fraction of a second only; the checkpoint's 4 came from one that left no row."""
    execute(Resumed(), LABELS, context)
    works.append(True)
    assert execute(Resumed(), LABELS, context)["device_seconds"] == 10.0


def test_checkpoints_stay_until_the_job_has_ended_well(context, works):
    paths = [checkpoint_path(context.results, job_id(Resumed())).with_suffix(s) for s in (".pt", ".previous.pt")]
    for path in paths:
        path.write_bytes(b"kept")
    execute(Resumed(), LABELS, context)
    assert all(path.exists() for path in paths)
    works.append(True)
    execute(Resumed(), LABELS, context)
    assert not any(path.exists() for path in paths)


def test_a_job_that_another_has_just_ended_is_left_alone(context, works):
    """A killed run's last worker, say, after the next run has read the rows."""
    works.append(True)
    row = execute(Resumed(), LABELS, context)
    works.clear()
    assert execute(Resumed(), LABELS, context)["started"] == row["started"]
    assert not Attempts(context.results, row["job_id"]).path.exists()


@pytest.mark.parametrize(
    "text", ["", "{", '{"attempt": []}', '{"attempts": 1}', '{"attempts": [1]}', "[]", "\xff"]
)
def test_a_damaged_log_of_attempts_is_as_none(context, works, text):
    works.append(True)
    path = Attempts(context.results, job_id(Resumed())).path
    path.write_text(text)
    assert execute(Resumed(), LABELS, context)["attempts"] == 1
