"""Attacks on real runs, what an undisturbed run makes of the same sweep, and how the two are compared."""

import json
import os
import random
import signal
import subprocess
import time
from datetime import datetime

import pandas as pd
import pytest
import torch
from chaos_cli import SWEEPS
from helpers import one_by_one, sets
from test_real_runs import launch
from test_runner import command, family

import sweeps
from tas_bench import stub
from tas_bench.cli import main
from tas_bench.errors import FAILED_JOBS, OK
from tas_bench.reading import load
from tas_bench.runner import supervisor

SLOTS = os.cpu_count() or 1
"""Jobs under way at once."""

STOPPED = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of a run that was attacked; the second before it could listen."""

OF_TIME = (
    "attempts", "warning", "versions", "commit", "started", "ended", "device", "precision", "images_per_second",
    "device_seconds", "idle_seconds", "seconds_startup", "seconds_data", "seconds_train", "seconds_eval",
    "peak_memory",
)  # fmt: skip
"""Columns that no two runs have alike."""


FULL = pytest.mark.chaos


def forms(short, full):
    """The short form of every push, and that of `make chaos`."""
    both = {"short": pytest.param(short, id="short"), "full": pytest.param(full, id="full", marks=FULL)}
    return [param for param in both.values() if param.values[0] is not None]  # noqa: PD011


def record(request, told):
    """For the summary of `make chaos`."""
    request.node.user_properties.append(("chaos", told))


def argv(sweep, results, settings=()):
    return ["run", sweep, "--results", str(results), "--quiet", *sets(*settings)]


# ---------------------------------------------------------------- undisturbed


def run_here(sweep, results, settings=()):
    """The command in this process, one job after the other, without Ray; stubs do not sleep."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps, "__path__", [*sweeps.__path__, SWEEPS])
        patch.setattr(supervisor, "run_jobs", one_by_one)
        patch.setattr(stub, "time", type("Hurry", (), {"sleep": staticmethod(lambda _seconds: None)}))
        code = main(argv(sweep, results, settings))
    torch.set_num_threads(threads)
    return code


# ---------------------------------------------------------------- attacked


class Run:
    """A sweep in a directory, run by real processes again and again until it is done.

    Attributes:
        kept: the files of ok rows that were there when it was last looked at.
        strikes: processes killed.
    """

    def __init__(self, folder, sweep, settings=(), **environment):
        self.results, self.sweep, self.settings = folder / "results", sweep, settings
        self.environment, self.kept, self.strikes = environment, {}, 0
        self.process = None

    def start(self):
        self.process = launch(
            "tests.chaos_cli", *argv(self.sweep, self.results, self.settings), **self.environment
        )
        return self.process

    def end(self, seconds=300):
        """Wait for its end, and see that all rows are kept. Returns exit code and last words."""
        _, err = self.process.communicate(timeout=seconds)
        assert "Traceback" not in err or "in sigterm_handler" in err, err  # Ray's own, while it starts
        self.look()
        return self.process.returncode, err

    def look(self):
        """See that what was there is there as it was."""
        rows = self.results / "rows"
        if not rows.is_dir():  # killed as it started
            return
        assert {path: path.read_bytes() for path in self.kept} == self.kept, "a committed row is lost or changed"
        found = [rows / f"{key}.parquet" for key in load(self.results).query("status == 'ok'")["job_id"]]
        self.kept |= {path: path.read_bytes() for path in found}

    def rows(self):
        return len(list(self.results.glob("rows/*.parquet")))

    def pid(self, what):
        """A process of ours by words of its command line."""
        return min((pid for pid in family(self.process.pid) if what in command(pid)), default=None)

    def wait(self, what, seconds=120):
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return found

    def strike(self, rng):
        """Kill supervisor and driver by turns, twice at any moment, twice while jobs end; whether it was there."""
        at_driver, at_work = self.strikes % 2 == 1, self.strikes // 2 % 2 == 1
        signum = signal.SIGKILL if self.strikes % 3 else signal.SIGTERM
        if at_driver and self.wait_quietly(lambda: self.pid("spawn_main")) is None:
            return False
        rows = self.rows()
        if at_work and self.wait_quietly(lambda: self.rows() > rows, 60) is None:
            return False
        try:
            self.process.wait(rng.uniform(0.05, 1.5 if at_work else 12))
        except subprocess.TimeoutExpired:
            pid = self.pid("spawn_main") if at_driver else self.process.pid
            if pid is None:
                return False
            print(f"{'driver' if at_driver else 'supervisor'} {signum.name} with {self.rows()} rows")
            os.kill(pid, signum)
            self.strikes += 1
            if at_driver and signum == signal.SIGKILL:
                return True  # the supervisor goes on
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                assert at_driver, "a supervisor ends when it is told to"
            return True
        return False

    def wait_quietly(self, what, seconds=30):
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.02)
        return None


def killed_and_gone_on_with(run, rng, strikes):
    """Run a sweep to its end under so many kills, or fewer where it ends before."""
    while True:
        run.start()
        while run.process.poll() is None and run.strikes < strikes:
            run.strike(rng)
        code, err = run.end()
        if code in (OK, FAILED_JOBS):
            return code
        assert code in STOPPED, (code, err)


# ---------------------------------------------------------------- compared


def values(results):
    """What must be the same in every run of a sweep."""
    return load(results).drop(columns=list(OF_TIME)).sort_values("job_id").reset_index(drop=True)


def trajectory(results):
    """Which jobs every plan asked for, in order."""
    uses = load(results, table="uses")
    return {plan: list(jobs) for plan, jobs in uses.groupby("plan")["job_id"]}


def check_same(results, undisturbed):
    """Rows, and which plan asked for which job when."""
    pd.testing.assert_frame_equal(values(results), values(undisturbed))
    assert trajectory(results) == trajectory(undisturbed)


def report_of(results):
    """Its table without what was measured in seconds; None where nothing was trained."""
    path = results / "_report" / "table1.csv"
    if not path.exists():
        return None
    table = pd.read_csv(path)
    return table.drop(columns=[name for name in table.columns if "seconds" in name or "hours" in name]).to_csv()


def run_again(results):
    """Attempts that began after their job's row was there."""
    found = []
    for path in (results / "_attempts").glob("*.json"):
        written = (results / "rows" / f"{path.stem}.parquet").stat().st_mtime
        for attempt in json.loads(path.read_text())["attempts"]:
            if "started" in attempt and datetime.fromisoformat(attempt["started"]).timestamp() > written + 0.01:
                found.append((path.stem, attempt))
    return found


def repeats(results):
    rows = load(results)
    return int(rows["attempts"].sum()) - len(rows)


# ---------------------------------------------------------------- damaged


def hurt(path, rng):
    """Truncate a file, empty it, or flip one of its bits."""
    data = path.read_bytes()
    kind = rng.choice(["cut", "empty", "flip", "flip"])
    at = rng.randrange(max(1, len(data)))
    if kind == "flip" and data:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    else:
        path.write_bytes(b"" if kind == "empty" else data[:at])
    print(f"{kind} {path.parent.name}/{path.name} at {at}")


def seeded(request):
    """A source of chance that CHAOS_SEED and the test's name decide; both are printed where a test fails."""
    seed = os.environ.get("CHAOS_SEED", "0")
    print(f"CHAOS_SEED={seed} {request.node.name}")
    return random.Random(f"{seed} {request.node.name}")
