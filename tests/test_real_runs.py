"""Real runs of the command, which are stopped in every way and gone on with."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import DEMO, sets, started, tiny
from test_runner import command, family

from tas_bench.cli import main
from tas_bench.errors import BAD_INPUT, OK
from tas_bench.reading import load
from tas_bench.store import Store

STOPPED = [*tiny("random_search", epochs=6), *sets("trials=5")]


def launch(*command, **environment):
    """A process in a session of its own, as a terminal would give it."""
    return subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, **environment}, cwd=Path(__file__).parents[1],
    )  # fmt: skip


def wait_for(what, process):
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_a_row(process, results):
    """Until the process holds the directory, and a row is there that was not."""
    wait_for(lambda: (holder := Store(results).holder()) and holder.pid == process.pid, process)
    before = len(list(results.glob("rows/*.parquet")))
    wait_for(lambda: len(list(results.glob("rows/*.parquet"))) > before, process)


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_stopped_by_a_signal_a_run_loses_nothing(tmp_path, own, capsys, request, stop, code):
    results = tmp_path / "results"
    words = ["tas-bench", "run", "demo", "--results", str(results), *STOPPED]
    process = launch("tas_bench", *words[1:], TMPDIR=own)
    wait_for_a_row(process, results)
    assert main(words[1:]) == BAD_INPUT, "two runs in one directory"
    err = capsys.readouterr().err
    assert f"{results} is in use by " in err
    assert err.count("\n") == 1
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # Ctrl-C reaches all that the terminal started
    else:
        process.send_signal(stop)
    at = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert err.endswith(f"stopped; finished jobs are kept. Go on with: {shlex.join(words)}\n")
    assert time.monotonic() - at < 15
    assert not list(Path(own).glob("tas-bench*")), "a local Ray leaves nothing behind"
    kept = started(results)
    assert len(kept) < 6, "there was something left to do"

    os.chdir(tmp_path)  # the rest without Ray, which is all the same to the rows
    request.getfixturevalue("without_ray")
    assert main(words[1:]) == OK
    assert f"{6 - len(kept)} jobs run, {len(kept)} found finished" in capsys.readouterr().err
    assert kept.items() <= started(results).items()
    rows = load(results)
    assert set(rows["status"]) == {"ok"}
    assert rows["attempts"].max() > 1, "what was stopped under way says so"


def test_ctrl_c_while_the_driver_starts_is_one_line(tmp_path, own):
    process = launch("tas_bench", *DEMO[:2], *tiny("ratio"), "--results", str(tmp_path / "out"), TMPDIR=own)
    wait_for(lambda: any("spawn_main" in command(pid) for pid in family(process.pid)), process)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("stopped; finished jobs are kept.")
    assert "Traceback" not in err
    assert "starts again" not in err


@pytest.mark.slow  # tests/test_pool.py does the same without Ray
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_kinds_of_job_with_other_shares_take_turns(tmp_path, own):
    shares = ["--cpus-per-job", "1", "--cpus-per-job", "teacher=2"]
    sweep = tiny("random_search", transfers="scratch,kd", seeds="0")
    words = ["run", "demo", "--results", str(tmp_path), *sweep, *sets("trials=3"), *shares]
    process = launch("tas_bench", *words, TMPDIR=own)
    _, err = process.communicate(timeout=200)
    assert process.returncode == OK, err
    assert len(load(tmp_path)) == 1 + 3 + 2


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_run_joins_a_running_cluster_of_two_nodes(tmp_path, own):
    """With the token that a cluster takes by itself where its user has one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = Path(own, ".ray", "auth_token")
    token.parent.mkdir()
    token.write_text("0123456789abcdef" * 4)
    address = f"127.0.0.1:{port}"

    def start(*options):
        options = [*options, "--num-cpus", "1", "--disable-usage-stats"]
        return launch("ray.scripts.scripts", "start", "--block", *options, HOME=own, RAY_AUTH_MODE="token")

    head = start("--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", own)
    nodes = [head]
    try:
        wait_for(lambda: answers(port), head)
        nodes.append(start("--address", address))
        words = ["tas_bench", "run", "demo", "--results", str(tmp_path / "out"), "--address", address]
        process = launch(*words, *tiny("random_search", epochs=4), *sets("trials=8"), HOME=own)
        _, err = process.communicate(timeout=120)
        assert process.returncode == OK, err
        rows = load(tmp_path / "out")
        assert rows["status"].tolist() == ["ok"] * 9
        side_by_side = [((rows["started"] <= t) & (t < rows["ended"])).sum() for t in rows["started"]]
        assert max(side_by_side) == 2, "one on each node"
        assert [node.poll() for node in nodes] == [None, None], "a cluster that was there before stays"
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.communicate(timeout=60)
