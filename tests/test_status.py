"""How a sweep stands, told from its directory: while it runs, after it, and where jobs failed."""

import json
from datetime import UTC, datetime

import pytest
from helpers import bare_row

from tas_bench.attempts import Attempts
from tas_bench.cli import main
from tas_bench.errors import DAMAGED, OK
from tas_bench.jobs import Outcome
from tas_bench.status import status_of
from tas_bench.uses import write_uses

DONE, BAD, GOING, NEXT = "a" * 20, "b" * 20, "c" * 20, "d" * 20


def use(key, plan):
    labels = {"sweep": "s", "dataset": "digits", "backbone": "tiny", "method": "stub", "seed": 0, "transfer": None}
    return labels | {"job_id": key, "plan": plan, "kind": "candidate"}


@pytest.fixture
def half_done(store):
    """Four jobs of two plans: one done (asked for by both), one failed, one under way, one to come."""
    store.commit(bare_row(DONE), Outcome())
    store.commit(bare_row(BAD, status="oom", error="<b>too large\x1b[0m", attempts=3))
    write_uses(store.path, "p-s0", [use(DONE, "p-s0"), use(BAD, "p-s0")], ())
    write_uses(store.path, "q-s0", [use(key, "q-s0") for key in (DONE, GOING, NEXT)], ())
    Attempts(store.path, GOING).begin()
    return store


def test_while_it_runs(half_done):
    with half_done.lock():
        found = status_of(half_done.path)
    assert found.jobs == {"ok": 1, "oom": 1, "running": 1, "waiting": 1}
    assert found.plans.set_index("plan").to_dict("index") == {
        "p-s0": {"ok": 1, "oom": 1, "running": 0, "waiting": 0},
        "q-s0": {"ok": 1, "oom": 0, "running": 1, "waiting": 1},
    }
    assert found.running[["job_id", "plan", "kind"]].to_dict("records") == [
        {"job_id": GOING, "plan": "q-s0", "kind": "candidate"}
    ]
    assert found.running["seconds"].between(0, 60).all()
    assert found.failed[["job_id", "status", "attempts"]].to_dict("records") == [
        {"job_id": BAD, "status": "oom", "attempts": 3}
    ]
    assert found.who.startswith("run by ")


def test_a_job_that_runs_again_for_its_weights_is_running_and_one_that_has_just_ended_is_not(half_done):
    half_done.commit(bare_row(NEXT, ended=datetime(2026, 1, 1, tzinfo=UTC)), Outcome())
    Attempts(half_done.path, NEXT).begin()
    half_done.commit(bare_row(GOING, ended=datetime.now(UTC)), Outcome())  # its attempt is not told to have ended
    with half_done.lock():
        found = status_of(half_done.path)
    assert found.jobs == {"ok": 2, "oom": 1, "running": 1}
    assert found.running["job_id"].tolist() == [NEXT]


def test_nothing_runs_where_nobody_holds_it(half_done):
    found = status_of(half_done.path)
    assert found.jobs == {"waiting": 2, "ok": 1, "oom": 1}
    assert found.who == "nobody runs it now"
    assert found.running.empty


def test_the_command_tells_it(half_done, capsys):
    assert main(["status", str(half_done.path)]) == OK
    out = capsys.readouterr().out
    assert "nobody runs it now\njobs asked for so far: 2 waiting, 1 ok, 1 oom\n" in out
    assert "\x1b" not in out
    with half_done.lock():
        assert main(["status", str(half_done.path), "--json"]) == OK
    told = json.loads(capsys.readouterr().out)
    assert told["jobs"] == {"ok": 1, "oom": 1, "running": 1, "waiting": 1}
    assert told["holder"]["pid"] > 0
    assert [job["job_id"] for job in told["running"]] == [GOING]


@pytest.mark.parametrize("damaged", ['{"attempts": [{}]}', "[" * 100_000], ids=["empty", "nested"])
def test_a_damaged_log_of_attempts_is_left_out(half_done, damaged):
    (half_done.path / "_attempts" / f"{NEXT}.json").write_text(damaged)
    with half_done.lock():
        assert status_of(half_done.path).jobs == {"ok": 1, "oom": 1, "running": 1, "waiting": 1}


def test_an_empty_directory_has_no_jobs(store, capsys):
    assert main(["status", str(store.path)]) == OK
    assert "jobs asked for so far: none" in capsys.readouterr().out


def test_what_cannot_be_read_is_told(half_done, refused, capsys):
    assert "holds no results" in refused("status", "nowhere")
    half_done.row_path(DONE).write_bytes(b"x")
    assert main(["status", str(half_done.path)]) == DAMAGED
    assert capsys.readouterr().err.count("\n") == 1
