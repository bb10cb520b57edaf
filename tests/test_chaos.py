"""Runs are killed, jobs die, checkpoints rot, nodes go, memory and disk are short: nothing is lost."""

import os
import resource
import signal
import time

import pytest
from chaos import (
    SLOTS,
    Run,
    check_same,
    forms,
    hurt,
    killed_and_gone_on_with,
    record,
    repeats,
    report_of,
    run_again,
    run_here,
    seeded,
)
from chaos_sweeps.chaos import ENDS
from test_cluster import later, three  # noqa: F401
from test_runner import command, family, run, stub_sweep

from tas_bench.checkpoint import previous, read_state
from tas_bench.errors import FAILED_JOBS, IO_FAULT, OK
from tas_bench.reading import load
from tas_bench.stub import HOG, StubMethod


@pytest.fixture
def attack(tmp_path, own, request):
    """Begins a run, whose processes do not outlive the test."""
    begun = []

    def begin(sweep, *settings, folder="", **environment):
        (tmp_path / folder).mkdir(exist_ok=True)
        begun.append(Run(tmp_path / folder, sweep, settings, TMPDIR=own, **environment))
        return begun[-1]

    begin.rng, begin.folder = seeded(request), tmp_path
    begin.report = lambda told: record(request, told)
    yield begin
    for found in begun:
        if found.process is not None and found.process.poll() is None:
            for pid in family(found.process.pid) - {found.process.pid}:
                os.kill(pid, signal.SIGKILL)
            found.process.kill()
            found.process.communicate()


def check_as_undisturbed(attack, found, code=OK):
    results = attack.folder / "undisturbed" / found.results.parent.name / found.sweep
    assert run_here(found.sweep, results, found.settings) == code
    check_same(found.results, results)
    assert report_of(found.results) == report_of(results)
    assert run_again(found.results) == []


@pytest.mark.parametrize("kills", forms(2, 30))
def test_killed_at_any_moment(attack, kills):
    struck = rows = again = campaigns = 0
    while struck < kills:
        seeds = ",".join(map(str, range(kills)))
        found = attack("stubs", f"seeds={seeds}", folder=f"stubs{campaigns}")
        campaigns += 1
        assert killed_and_gone_on_with(found, attack.rng, kills - struck) == OK
        check_as_undisturbed(attack, found)
        assert repeats(found.results) <= found.strikes * SLOTS
        struck, rows, again = struck + found.strikes, rows + found.rows(), again + repeats(found.results)
    attack.report(f"{struck} kills, {campaigns} sweeps, {rows} rows: 0 lost, 0 run again, {again} attempts cut")


@pytest.mark.parametrize("strikes", forms(None, 12))
def test_searches_go_on_along_the_same_path(attack, strikes):
    """Those of every method that trains candidates."""
    struck = campaigns = 0
    while struck < strikes:
        found = attack("searches", f"seeds={campaigns}", folder=f"searches{campaigns}")
        campaigns += 1
        assert killed_and_gone_on_with(found, attack.rng, strikes - struck) == OK
        check_as_undisturbed(attack, found)
        assert repeats(found.results) <= found.strikes * SLOTS
        struck += found.strikes
    methods = ", ".join(sorted(set(load(found.results)["method"])))
    attack.report(f"{struck} kills of {campaigns} sweeps with {methods}: the same jobs in the same order")


@pytest.mark.parametrize("seeds", forms(None, 10))  # tests/test_supervisor.py has some of each
def test_jobs_that_die(attack, seeds):
    found = attack("deaths", "seeds=" + ",".join(map(str, range(seeds))))
    for attempts in (1, 2):
        found.start()
        code, err = found.end()
        assert code == FAILED_JOBS, err
        assert f"{2 * seeds} jobs failed; the same command tries again" in err
        rows = load(found.results).set_index("job_id")
        uses = load(found.results, table="uses").drop_duplicates("plan").set_index("job_id")
        for key, method in uses["method"].items():
            fault = next(f for f in ENDS if f.split()[0] == method)
            assert rows.loc[key, "status"] == ENDS[fault]
            assert rows.loc[key, "attempts"] == (2 if "once" in fault else attempts)
        assert (rows.drop(uses.index)["attempts"] == 1).all()
        assert len(rows) == found.rows()
    folder = attack.folder / "undisturbed" / found.results.parent.name / "deaths" / "_log"
    folder.mkdir(parents=True)
    for marker in (found.results / "_log").glob("*-*"):
        if marker.name.split("-")[0] in ("kill", "segv", "exit"):
            (folder / marker.name).touch()
    check_as_undisturbed(attack, found, FAILED_JOBS)
    attack.report(f"{len(ENDS) * seeds} job deaths and {2 * seeds} once more: each has one row that says how")


@pytest.mark.parametrize("wanted", forms(None, 12))
def test_checkpoints_that_rot(attack, wanted):
    """A job goes on from the checkpoint before the damaged one."""
    found, hurts, left = attack("trainings", "seeds=" + ",".join(map(str, range(wanted)))), 0, {}
    while hurts < wanted:
        found.start()
        for path, epochs in left.items():
            went_on = found.wait(lambda path=path, epochs=epochs: last_epoch(path) not in (0, epochs) and path)
            assert last_epoch(went_on) > epochs, "it started again"
        found.wait(lambda: any(last_epoch(path) > 20 for path in checkpoints(found)))
        found.process.kill()
        found.end()
        time.sleep(6)  # its workers may live for seconds
        left = {path: last_epoch(previous(path)) for path in checkpoints(found) if last_epoch(path) > 2}
        for path in left:
            hurt(path, attack.rng)
        hurts += len(left)
    found.start()
    assert found.end()[0] == OK
    check_as_undisturbed(attack, found)
    attack.report(f"{hurts} checkpoints damaged: their jobs went on from those before, to the same rows")


def checkpoints(found):
    return sorted(p for p in (found.results / "_checkpoints").glob("*.pt") if ".previous" not in p.name)


def last_epoch(path):
    """Epochs done in a checkpoint; 0 where none can be read."""
    try:
        return len(read_state(path, "cpu")["values"]["curve"])
    except (OSError, ValueError, KeyError):
        return 0


@pytest.mark.parametrize("losses", forms(None, 5))
def test_nodes_that_are_lost(three, tmp_path, request, losses):  # noqa: F811
    address, ask = three
    rng, threads = seeded(request), []
    for loss in range(losses):
        threads.append(later(tmp_path, 1 + 8 * loss + rng.randrange(4), ask, "remove"))
        threads.append(later(tmp_path, 6 + 8 * loss, ask, "add"))
    done = run(stub_sweep(StubMethod(jobs=8 * losses + 4, seconds=2)), tmp_path, address=address)
    for thread in threads:
        thread.join()
    rows = load(tmp_path)
    assert done.ran == len(rows) == 8 * losses + 4
    assert set(rows["status"]) == {"ok"}
    assert repeats(tmp_path) <= losses
    record(request, f"{losses} nodes lost: {repeats(tmp_path)} jobs moved, all {len(rows)} rows there")


@pytest.mark.parametrize("seeds", forms(None, 5))  # more than a minute each
def test_hogs_of_memory(attack, seeds):
    """Whoever is killed beside a hog runs again, with the node to itself."""
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    used, all_there, margin = get_used_memory(), get_system_memory(), HOG // 2
    if used + HOG + 2 * 2**30 > all_there:
        pytest.skip("too little memory")
    threshold = {"RAY_memory_usage_threshold": str((used + margin) / all_there)}
    found = attack("hogs", "seeds=" + ",".join(map(str, range(seeds))), **threshold)
    found.start()
    code, err = found.end(1200)
    assert code == FAILED_JOBS, err
    rows, uses = load(found.results).set_index("job_id"), load(found.results, table="uses")
    hogs = uses.query("method == 'hog'").drop_duplicates("plan")["job_id"]
    assert set(rows.loc[hogs, "status"]) == {"oom"}
    innocent = rows.drop(hogs)
    assert set(innocent["status"]) == {"ok"}
    killed = int((innocent["attempts"] > 1).sum())
    attack.report(f"{seeds} memory hogs: all oom; {killed} of {len(innocent)} others killed beside them, all ok")


@pytest.mark.parametrize("moments", forms(None, 5))  # tests/test_store.py fills a disk, too
def test_a_full_disk(attack, moments):
    """Workers may write no file of more than some bytes."""
    found = attack("stubs", "seeds=" + ",".join(map(str, range(1 + moments))))
    for _ in range(moments):
        found.start()
        before = found.rows()
        found.wait(lambda before=before: found.rows() > before + attack.rng.randrange(6))
        for pid in family(found.process.pid):
            if "ray::Worker" in command(pid):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
        code, err = found.end(60)
        assert code == IO_FAULT, err
        told = [line for line in err.splitlines() if "error" in line]
        assert len(told) == 1
        assert told[0].startswith("tas-bench: error: cannot write ")
        assert told[0].endswith(": File too large")
    found.start()
    assert found.end()[0] == OK
    check_as_undisturbed(attack, found)
    assert repeats(found.results) <= moments * SLOTS
    attack.report(f"{moments} times no room on the disk: code 5 each time, {found.rows()} rows, 0 lost")
