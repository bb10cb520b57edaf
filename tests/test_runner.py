"""Jobs on a real Ray: packing, faults, loopback only, and nothing left behind. One run serves most tests."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

import tas_bench
from tas_bench.dispatch import RETRIES
from tas_bench.errors import InputError
from tas_bench.files import process_space
from tas_bench.jobs import Outcome
from tas_bench.plans import NamedPlan, Plans
from tas_bench.resources import Resources
from tas_bench.runner.cluster import private_folder
from tas_bench.runner.supervisor import run_sweep
from tas_bench.signals import Interrupted, Signals
from tas_bench.store import Store
from tas_bench.stub import StubMethod
from tas_bench.sweep import Sweep
from tas_bench.transfer.scratch import Scratch


@dataclass(frozen=True, kw_only=True)
class StubSweep(Sweep):
    """A sweep whose plans ask for stubs, and nothing else: plan i has seed i."""

    stubs: tuple[StubMethod, ...]

    def plans(self):
        return [
            NamedPlan(f"stub-s{seed}", "stub", seed, self.problems[0], stub.plan(self.problems[0], seed))
            for seed, stub in enumerate(self.stubs)
        ]


def stub_sweep(*stubs):
    return StubSweep(
        name="stubs", title="Stubs", methods=(StubMethod(),), transfers=(Scratch(),), datasets=("digits",),
        backbones=("tiny",), stubs=stubs,
    )  # fmt: skip


def run(sweep, results, **resources):
    return run_sweep(sweep, results, None, Resources(**resources))


# ---------------------------------------------------------------- looking at our processes


def family(root):
    """Ids of a process and of all it started, by /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return found


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def sockets(pid):
    """Inodes of a process's sockets."""
    found = set()
    try:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(fd)
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found


def listeners(pids):
    """Addresses these processes listen at, in the kernel's hexadecimal."""
    ours = set().union(*(sockets(pid) for pid in pids))
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in ours:
                found.add(fields[1])
    return found


def is_loopback(address):
    host = address.split(":")[0]
    if len(host) == 8:
        return host.endswith("7F")  # 127.x.x.x, little-endian
    return host == "00000000000000000000000001000000" or (
        host.startswith("0000000000000000FFFF0000") and host.endswith("7F")
    )


class Watch(threading.Thread):
    """Looks again and again at what our processes are and listen at."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.over = folder, threading.Event()
        self.addresses, self.commands, self.open = set(), {}, set()

    def run(self):
        while not self.over.wait(0.25):
            pids = family(os.getpid()) - {os.getpid()}
            self.commands |= {pid: line for pid in pids if (line := command(pid))}
            self.addresses |= listeners(pids | {os.getpid()})
            self.open |= {path for path in Path(self.folder).iterdir() if path.stat().st_mode & 0o077}

    def stop(self):
        self.over.set()
        self.join()


# ---------------------------------------------------------------- one run with everything in it

MEET, MANY, RAISES, DIVERGES, DIES_ONCE, DIES = range(6)
FAULTS = ("raise", "diverge", "kill once", "kill")


@dataclass
class Done:
    results: Path
    sweep: Sweep
    plans: Plans
    ran: int
    found: int
    watch: Watch
    rows: pd.DataFrame
    leftovers: list

    def of(self, plan):
        """Rows of a plan's jobs, in the order it asked for them."""
        return self.rows.set_index("job_id").loc[[use.key for use in self.plans.plans[plan].uses]]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Six plans, four of them with a fault, four jobs side by side on a quarter of a GPU each."""
    results = tmp_path_factory.mktemp("runner") / "results"
    sweep = stub_sweep(
        StubMethod(jobs=4, meet=4),
        StubMethod(jobs=4, batches=2, seconds=0.2),
        *(StubMethod(jobs=2, batches=2 if fault == "raise" else 1, fault=fault) for fault in FAULTS),
    )
    own = tempfile.mkdtemp(prefix="t", dir="/tmp")
    watch = Watch(own)
    old, tempfile.tempdir = tempfile.tempdir, own
    watch.start()
    try:
        over = run(sweep, results, total_cpus=2, total_gpus=1, cpus=0.25, gpus=0.25)
    finally:
        watch.stop()
        tempfile.tempdir = old
        leftovers = os.listdir(own)
        shutil.rmtree(own)
    return Done(results, sweep, over.plans, over.ran, over.found, watch, tas_bench.load(results), leftovers)


def test_every_plan_ends_and_every_job_has_one_row(done):
    assert done.plans.done
    assert [plan.error for plan in done.plans.plans] == [None] * 6
    asked = {use.key for plan in done.plans.plans for use in plan.uses}
    assert len(asked) == 4 + 8 + 4 + 2 + 2 + 2
    assert sorted(done.rows["job_id"]) == sorted(asked)
    assert (done.ran, done.found) == (len(asked), 0)


def test_rows_say_what_ran(done):
    rows = done.of(MANY)
    assert set(rows["status"]) == {"ok"}
    assert set(rows["attempts"]) == {1}
    assert set(rows["sweep"]) == {"stubs"}
    assert set(rows["method"]) == {"stub"}
    assert set(rows["kind"]) == {"candidate"}
    assert rows["val_accuracy"].tolist() == [seed * 7919 % 1000 / 1000 for seed in rows["seed"]]
    assert (rows["ended"] - rows["started"]).dt.total_seconds().min() >= 0.2
    assert "ray" in json.loads(rows["versions"].iloc[0])


def test_uses_say_who_asked(done):
    uses = tas_bench.load(done.results, table="uses")
    assert set(uses["plan"]) == {f"stub-s{seed}" for seed in range(6)}
    assert sorted(uses["job_id"]) == sorted(done.rows["job_id"])


def test_quarters_of_a_gpu_are_packed_four_by_four(done):
    """The first four waited for each other; never were there five."""
    assert set(done.of(MEET)["status"]) == {"ok"}
    rows = done.rows
    assert max(((rows["started"] <= t) & (t < rows["ended"])).sum() for t in rows["started"]) == 4


def test_a_job_that_raises_is_a_failed_row_of_one_line(done):
    rows = done.of(RAISES)
    assert rows["status"].tolist() == ["failed", "ok", "failed", "ok"], "and its plan goes on"
    assert rows["error"].iloc[0] == "ValueError: told to fail in two lines"
    assert rows["val_accuracy"].isna().tolist() == [True, False] * 2
    details = (done.results / "_log" / f"{rows.index[0]}.txt").read_text()
    assert "Traceback" in details
    assert "told to fail" in details


def test_a_diverged_job_says_so(done):
    rows = done.of(DIVERGES)
    assert rows["status"].tolist() == ["diverged", "ok"]
    assert rows["error"].iloc[0] == "told to diverge"


def test_a_job_whose_worker_is_killed_runs_again(done):
    rows = done.of(DIES_ONCE)
    assert rows["status"].tolist() == ["ok", "ok"]
    assert list((done.results / "_log").glob("kill-*"))


def test_a_job_that_always_kills_its_worker_is_a_failed_row(done):
    rows = done.of(DIES)
    assert rows["status"].tolist() == ["failed", "ok"]
    assert "the worker process died" in rows["error"].iloc[0]
    assert rows["attempts"].iloc[0] == 1 + RETRIES["process"]


def test_what_failed_is_tried_again_and_nothing_else(done):
    store = Store(done.results)
    again = Plans(done.sweep.plans(), lambda job, key: store.outcome(key))
    queued = {again.next_job().key for _ in range(sum(again.queued.values()))}
    failed = set(done.rows.query("status != 'ok'")["job_id"])
    assert queued == failed - {done.of(RAISES).index[2]}, "its second batch is asked for later"
    for key in queued:
        again.finish(key, Outcome())
    assert again.next_job().key == done.of(RAISES).index[2]


def test_a_local_ray_listens_on_loopback_only(done):
    assert any("raylet" in command for command in done.watch.commands.values())
    assert len(done.watch.addresses) > 3
    assert [a for a in done.watch.addresses if not is_loopback(a)] == []


def test_a_local_runs_files_are_its_users_alone(done):
    """Tokens, sockets and checkpoints among them: what Ray opens to all lies in a folder that is closed."""
    assert done.watch.open == set()
    assert {path for path in done.results.rglob("*") if path.stat().st_mode & 0o077} == set()


def test_a_local_ray_is_gone_afterwards(done):
    assert done.leftovers == [], "its folders are gone"
    deadline = time.monotonic() + 20  # workers notice within seconds that their raylet is gone
    while alive := [pid for pid in done.watch.commands if "ray" in command(pid)]:
        assert time.monotonic() < deadline, f"left: {[command(pid) for pid in alive]}"
        time.sleep(0.2)


def test_folders_of_killed_runs_are_dropped(monkeypatch):
    own = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    gone = subprocess.Popen(["true"])
    gone.wait()
    here, stay = process_space(), {"tas-bench-alive", "tas-bench-damaged", "tas-bench-elsewhere"}
    told = {
        "dead": f"{here} {gone.pid}",
        "alive": f"{here} {os.getpid()}",
        "damaged": "",
        "elsewhere": f"0 {gone.pid}",
    }
    for name, text in told.items():  # what runs in another container is not seen from here
        (own / f"tas-bench-{name}").mkdir()
        (own / f"tas-bench-{name}" / "pid").write_text(text)
    with private_folder() as folder:
        assert {path.name for path in own.iterdir()} == stay | {folder.name}
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    shutil.rmtree(own)


# ---------------------------------------------------------------- refused before anything starts


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"total_cpus": 2, "cpus": 3}, "a job asks for 3 CPUs, this machine offers 2"),
        ({"total_gpus": 0, "gpus": 0.25}, "a job asks for a GPU, this machine has none"),
        ({"address": "127.0.0.1:1"}, "no Ray cluster answers at 127.0.0.1:1"),
        ({"address": "nowhere"}, "give HOST:PORT"),
        ({"address": "127.0.0.1:99999"}, "no Ray cluster answers"),
    ],
)
def test_what_cannot_be_had_is_refused_at_once(tmp_path, resources, said):
    with pytest.raises(InputError) as caught:
        run(stub_sweep(StubMethod()), tmp_path / "results", **resources)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("share", [-1, 1.5, float("nan"), float("inf")])
def test_a_share_must_be_one(share):
    for name in ("cpus", "gpus"):
        with pytest.raises(InputError, match=f"{name} per job is"):
            Resources(**{name: share})


def test_a_job_needs_something():
    with pytest.raises(InputError, match="needs a share"):
        Resources(cpus=0, gpus=0)
    assert Resources(cpus=0, gpus=0.5)


def test_a_sweep_of_no_jobs_starts_no_ray(tmp_path):
    plans = run(stub_sweep(StubMethod(batches=0)), tmp_path).plans
    assert plans.done
    assert tas_bench.load(tmp_path).empty


def test_a_store_in_use_is_refused(tmp_path):
    with Store(tmp_path).lock(), pytest.raises(InputError, match="in use by"):
        run(stub_sweep(StubMethod()), tmp_path)


# ---------------------------------------------------------------- signals


def test_a_signal_is_noted_and_raised_when_asked():
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        signals.check()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as ray.init does
        signals.take()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as caught:
            signals.check()
    assert caught.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal\n"
        "from tas_bench.signals import Signals\n"
        "with Signals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('noted', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('never')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (143, "noted\n", "")


def test_signals_are_left_alone_in_a_thread():
    seen = []

    def work():
        with Signals() as signals:
            signals.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
