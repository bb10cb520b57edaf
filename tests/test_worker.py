"""What a row books of attempts that failed, were stopped, or went on from a checkpoint."""

import subprocess
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from tas_bench.attempts import Attempts
from tas_bench.errors import DivergedError
from tas_bench.jobs import Context, Outcome, checkpoint_path, job_id
from tas_bench.store import Store
from tas_bench.worker import Labels, commit_of, execute

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


def test_what_lost_weights_cost_counts_once(context, works, monkeypatch):
    """With a log of attempts or without one, as of a directory that was packed."""
    works.append(True)
    assert execute(Resumed(), LABELS, context)["device_seconds"] == 10.0
    monkeypatch.setattr(Store, "outcome", lambda *_args: None)  # its weights are lost
    again = [execute(Resumed(), LABELS, context) for _ in range(2)]
    assert [(row["device_seconds"], row["attempts"]) for row in again] == [(10.0, 2), (10.0, 3)]


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


def test_changed_code_is_told_behind_the_commit_and_written_results_are_not(tmp_path):
    def git(*words):
        names = ("-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path))
        return subprocess.run(["git", *names, *words], check=True, capture_output=True, text=True).stdout.strip()

    def told():
        commit_of.cache_clear()  # a process has one answer
        return commit_of(tmp_path)

    assert told() is None
    git("init")
    files = [tmp_path / name for name in ("baselines/mine.py", "RESULTS.md")]
    files[0].parent.mkdir()
    for file in files:
        file.write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert told() == head
    files[1].write_text("2")
    assert told() == head
    (tmp_path / "baselines" / "another.py").write_text("1")
    assert told() == f"{head}-dirty"
    (tmp_path / "baselines" / "another.py").unlink()
    files[0].write_text("2")
    assert told() == f"{head}-dirty"


@pytest.mark.parametrize("leaves", [SystemExit(3), MemoryError()], ids=["sys.exit", "MemoryError"])
def test_a_job_that_leaves_has_a_row_too(context, monkeypatch, leaves):
    def run(_self, _context):
        raise leaves

    monkeypatch.setattr(Resumed, "run", run)
    row = execute(Resumed(), LABELS, context)
    assert row["status"] == ("oom" if isinstance(leaves, MemoryError) else "failed")
    assert Store(context.results).row(job_id(Resumed())) == row


def test_no_memory_to_write_weights_with_is_out_of_memory(context, works, monkeypatch):
    works.append(True)
    commit = Store.commit

    def without_room(store, row, outcome=None):
        if outcome is not None and outcome.ok:
            raise MemoryError
        return commit(store, row)

    monkeypatch.setattr(Store, "commit", without_room)
    row = execute(Resumed(), LABELS, context)
    assert (row["status"], row["device_seconds"]) == ("oom", 10.0)
    assert Store(context.results).row(job_id(Resumed()))["status"] == "oom"
