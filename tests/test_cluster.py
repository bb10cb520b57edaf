"""Several nodes: all are used, late ones too, a lost one's jobs move, unfit ones are told."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_runner import run, stub_sweep

from tas_bench.attempts import Attempts
from tas_bench.dispatch import Task
from tas_bench.errors import InputError
from tas_bench.jobs import Context
from tas_bench.reading import load
from tas_bench.runner.worker import Report, Worker, deciding_versions
from tas_bench.stub import StubMethod
from tas_bench.worker import Labels

# ---------------------------------------------------------------- a real cluster of three nodes


@pytest.fixture(scope="module")
def three():
    """A cluster in a process of its own, which adds and removes nodes on demand."""
    script = Path(__file__).with_name("nodes.py")
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip

    def ask(what=""):
        process.stdin.write(f"{what}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield process.stdout.readline().strip(), ask
    process.communicate(timeout=60)


def later(results, rows, do, *args):
    """Do something once so many rows are there."""

    def wait():
        while len(list(results.glob("rows/*.parquet"))) < rows:
            time.sleep(0.05)
        do(*args)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow  # a minute and a half; tests/test_real_runs.py runs on two nodes that are there from the start
def test_every_node_is_used_and_a_late_one_too(three, tmp_path):
    """One job to a node: the second batch meets only if a fourth node has come."""
    address, ask = three
    sweep = stub_sweep(StubMethod(jobs=3, meet=3), StubMethod(jobs=4, meet=7))
    joined = later(tmp_path, 3, ask, "add")
    done = run(sweep, tmp_path, address=address)
    joined.join()
    assert done.ran == 7
    assert set(load(tmp_path)["status"]) == {"ok"}
    assert ask("remove") == "removed"


@pytest.mark.slow  # tests/test_chaos.py does the same, with more nodes
def test_a_lost_nodes_jobs_move(three, tmp_path):
    address, ask = three
    sweep = stub_sweep(StubMethod(jobs=9, seconds=2))
    lost = later(tmp_path, 1, ask, "remove")
    done = run(sweep, tmp_path, address=address)
    lost.join()
    assert done.ran == 9
    rows = load(tmp_path)
    assert set(rows["status"]) == {"ok"}
    moved = rows[rows["attempts"] == 2]["job_id"].tolist()
    assert 1 <= len(moved) <= 2
    assert {Attempts(tmp_path, key).all[0]["how"] for key in moved} == {"node"}
    ask("add")


@pytest.mark.slow  # below without Ray, and in tests/test_supervisor.py what then becomes of the run
def test_what_no_node_has_is_refused(three, tmp_path):
    with pytest.raises(InputError, match="asks for 2 CPUs and 0 GPUs; the cluster has no room"):
        run(stub_sweep(StubMethod()), tmp_path, address=three[0], cpus=2)


# ---------------------------------------------------------------- nodes that are not fit


@pytest.fixture
def look(tmp_path):
    marker = tmp_path / "results" / "_log" / "driver"
    marker.parent.mkdir(parents=True)
    marker.write_text("token")

    def hello(token="token", data=None, **versions):
        return Worker().hello(marker, token, data, deciding_versions() | versions).unfit

    return hello


def test_a_node_that_has_all_is_fit(look, tmp_path):
    assert look(data=tmp_path) is None


def test_unfit_nodes_say_why(look, tmp_path, monkeypatch):
    monkeypatch.setattr("tas_bench.runner.worker.PATIENCE", 0.3)
    assert "put results on storage that all nodes share" in look(token="another")
    assert f"has no data folder {tmp_path / 'none'}" in look(data=tmp_path / "none")
    assert "the driver has 1.0: install the same everywhere" in look(torch="1.0")
    assert "has jax not at all" in look(jax="1")


@pytest.mark.parametrize(("status", "calls"), [("ok", ["job", "memory"]), ("failed", ["job"])])
def test_a_worker_gives_memory_back_as_its_job_ends(monkeypatch, status, calls):
    """It may be idle next, while others on its GPU are not; where the job failed it ends."""
    told = []
    monkeypatch.setattr("tas_bench.runner.worker.execute", lambda *_: told.append("job") or {"status": status})
    monkeypatch.setattr("tas_bench.measure.free_memory", lambda: told.append("memory"))
    task = Task("key", None, Labels("sweep", "method", None), Context(results=Path()))
    assert Worker().work(task) == Report(done=True, status=status, epoch=0, epochs=0, fault=None)
    assert told == calls
