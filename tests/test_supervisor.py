"""A driver that dies, hangs or loses its Ray is replaced; a worker that dies, hangs or takes too long is, too."""

import os
import signal
import threading
import time
import types
from pathlib import Path

import pytest
from helpers import bare_row
from test_runner import command, family, run, stub_sweep

from tas_bench.attempts import Attempts
from tas_bench.dispatch import ENDS, RETRIES
from tas_bench.errors import BAD_INPUT, InputError, TasBenchError
from tas_bench.reading import load
from tas_bench.replay import plans_of
from tas_bench.resources import Resources
from tas_bench.runner import supervisor
from tas_bench.runner.driver import End, Replaying
from tas_bench.runner.supervisor import Talk, run_sweep
from tas_bench.store import Store
from tas_bench.stub import StubMethod


def pid_of(what):
    """The first of our processes whose command line has these words: a fork may look like it for a moment."""
    return min((pid for pid in family(os.getpid()) if what in command(pid)), default=None)


class Attack(threading.Thread):
    """Sends a signal to the process `what` whenever one more row has been committed, so many times."""

    def __init__(self, results, what, signum, times=1):
        super().__init__(daemon=True)
        self.results, self.what, self.signum, self.times = Path(results), what, signum, times
        self.over, self.struck = threading.Event(), 0

    def run(self):
        rows = 0
        while self.struck < self.times and not self.over.wait(0.05):
            found = len(list(self.results.glob("rows/*.parquet")))
            if found > rows and (pid := pid_of(self.what)):
                rows, self.struck = found, self.struck + 1
                os.kill(pid, self.signum)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


@pytest.mark.parametrize(
    ("what", "signum", "silent", "seconds"),
    [
        pytest.param("spawn_main", signal.SIGKILL, 60, 0.5, marks=pytest.mark.slow),  # as tests/test_chaos.py does
        pytest.param("spawn_main", signal.SIGSTOP, 8, 0.5, marks=pytest.mark.slow),
        pytest.param(  # warm actors work on without it for a while
            "raylet/raylet --", signal.SIGKILL, 15, 3, marks=pytest.mark.slow
        ),
        pytest.param("gcs_server", signal.SIGKILL, 10, 0.5, marks=pytest.mark.slow),
    ],
    ids=["driver killed", "driver hangs", "raylet killed", "gcs killed"],
)
def test_a_driver_without_a_future_is_replaced(tmp_path, what, signum, silent, seconds):
    told = []
    sweep = stub_sweep(StubMethod(jobs=6, seconds=seconds), StubMethod(jobs=2, batches=3, seconds=seconds))
    with Attack(tmp_path, what, signum) as attack:
        done = run_sweep(
            sweep, tmp_path, None, Resources(total_cpus=2, silent_seconds=silent), Talk(tell=told.append)
        )
    assert attack.struck == 1
    assert (done.ran, done.found) == (12, 0)
    assert set(load(tmp_path)["status"]) == {"ok"}
    assert load(tmp_path)["attempts"].max() <= 2
    assert "the driver" in told[0]
    assert "it starts again in 1.0 s; finished jobs are kept" in told[0]


def test_drivers_that_die_again_and_again_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF", (0.01, 0.02))
    started = []

    class Dead:
        began, ended, gpus, failed = True, 0, 2.0, frozenset({"a" * 20})

        def __init__(self, order):
            started.append(order)

        def watch(self, *_):
            return End(1, "the driver was killed by signal 9", passing=True)

        def stop(self):
            pass

    monkeypatch.setattr(supervisor, "_Driving", Dead)
    with pytest.raises(TasBenchError, match="by signal 9, 8 times without an ended job between; details in"):
        run(stub_sweep(StubMethod()), tmp_path)
    assert len(started) == supervisor.STARTS
    first, second = started[:2]
    assert (first.first, first.gpus, first.failed) == (True, 0, frozenset())
    assert (second.first, second.gpus, second.failed) == (False, 2.0, {"a" * 20}), "it is told what was found"
    started.clear()
    Dead.ended = 1
    monkeypatch.setattr(Dead, "watch", lambda self, *_: End() if len(started) > 20 else End(1, "x", passing=True))
    with pytest.raises(TasBenchError, match="ended before its plans"):
        run(stub_sweep(StubMethod()), tmp_path)
    assert len(started) == 21, "while jobs end between, it goes on"
    monkeypatch.setattr(Dead, "watch", lambda *_: End(BAD_INPUT, "no room"))
    with pytest.raises(InputError, match="no room"):
        run(stub_sweep(StubMethod()), tmp_path)
    assert len(started) == 22, "what another driver would find as well is told at once"


def test_what_has_failed_in_this_run_is_not_tried_again(tmp_path):
    sweep, store = stub_sweep(StubMethod(jobs=2)), Store(tmp_path)
    with store.lock():
        first = plans_of(sweep, store).next_job()
        store.commit(bare_row(first.key, status="timeout"))
        assert plans_of(sweep, store).queued == {"candidate": 2}, "the next run does"
        assert plans_of(sweep, store, {first.key}.__contains__).queued == {"candidate": 1}


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """One run with every way in which a worker can fail its job, the first of two in each batch."""
    results = tmp_path_factory.mktemp("faults")
    kinds = ["hang", "freeze", "freeze once", "memory", "segv once"]  # those that last begin first
    sweep = stub_sweep(*(StubMethod(jobs=2, fault=fault) for fault in kinds))
    done = run(sweep, results, total_cpus=4, silent_seconds=6, job_seconds=20)
    rows = load(results).set_index("job_id")
    found = {
        kind: [rows.loc[use.key] for use in plan.uses] for kind, plan in zip(kinds, done.plans.plans, strict=True)
    }
    return found, results


@pytest.mark.parametrize("kind", ["segv once", "freeze once"])
def test_a_job_whose_worker_fails_once_runs_again(faults, kind):
    row, other = faults[0][kind]
    assert (row["status"], row["attempts"]) == ("ok", 2)
    assert (other["status"], other["attempts"]) == ("ok", 1)
    first, second = Attempts(faults[1], row.name).all
    assert first["how"] == ("silent" if "freeze" in kind else "process")
    assert first["pid"] != second["pid"]
    assert row["device_seconds"] >= first["seconds"] > 0


@pytest.mark.parametrize(
    ("kind", "status", "said", "attempts"),
    [
        ("memory", "oom", "out of memory: told to want too much", 1),
        ("freeze", "timeout", ENDS["silent"][1], 1 + RETRIES["silent"]),
        ("hang", "timeout", ENDS["overtime"][1], 1),
    ],
)
def test_a_job_that_never_ends_well_is_a_row(faults, kind, status, said, attempts):
    row, other = faults[0][kind]
    assert (row["status"], row["error"], row["attempts"]) == (status, said, attempts)
    assert other["status"] == "ok"
    assert not Attempts(faults[1], other.name).path.exists()


def test_a_driver_that_runs_long_plans_again_is_alive(monkeypatch):
    """It beats later, when it has a Ray."""
    monkeypatch.setattr(supervisor, "START_SECONDS", 0.3)

    class Pipe:
        said = 0

        def poll(self, _seconds):
            time.sleep(0.1)
            return True

        def recv(self):
            self.said += 1
            return Replaying() if self.said < 10 else End()

    driving = object.__new__(supervisor._Driving)
    driving.pipe, driving.began, driving.ended, driving.word = Pipe(), False, 0, None
    here = types.SimpleNamespace(check=lambda: None, lost=False)
    assert driving.watch(here, here, lambda: None, lambda: None, 0.1) == End()
    assert not driving.began
    monkeypatch.setattr(Pipe, "recv", lambda _self: None)
    assert "no sign of life" in driving.watch(here, here, lambda: None, lambda: None, 0.1).message
