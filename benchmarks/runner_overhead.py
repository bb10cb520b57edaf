"""What the runner costs besides the jobs: seconds per no-op job, start-up, replay of what is finished."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from rich.console import Console

from tas_bench.jobs import Context
from tas_bench.measure import device_name
from tas_bench.plans import NamedPlan, Plans
from tas_bench.progress import Progress
from tas_bench.runner import Resources, run_plans
from tas_bench.store import Store, load
from tas_bench.stub import StubMethod
from tas_bench.sweep import Sweep
from tas_bench.transfer.scratch import Scratch

JOBS = (20, 220)


def main() -> None:
    """Run two numbers of no-op jobs; the difference is the cost of a job."""
    print(device_name("cpu"))
    seconds = []
    for jobs in JOBS:
        sweep = Sweep(
            name="overhead", title="", methods=(StubMethod(jobs=jobs),), transfers=(Scratch(),),
            datasets=("digits",), backbones=("tiny",),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            with store.lock():
                began = time.time()
                run_plans(_plans(sweep, store), sweep, Context(results=store.path), Resources(), _display)
                over = time.time()
                rows = load(folder)
                first, last = rows["started"].min().timestamp(), rows["ended"].max().timestamp()
                seconds.append(last - first)
                start = time.perf_counter()
                assert _plans(sweep, store).done
                replay = time.perf_counter() - start
    per_job = (seconds[1] - seconds[0]) / (JOBS[1] - JOBS[0])
    print(f"per job {per_job:.3f} s, start-up {first - began:.1f} s, shut-down {over - last:.1f} s")
    print(f"replay of {JOBS[1]} finished jobs {replay:.2f} s, no Ray started")


def _display() -> Progress:
    return Progress(Console(), None, quiet=True)


def _plans(sweep: Sweep, store: Store) -> Plans:
    [method] = sweep.methods
    plan = NamedPlan("stub", "stub", 0, sweep.problems[0], method.plan(sweep.problems[0], 0))
    return Plans([plan], lambda _job, key: store.outcome(key))


if __name__ == "__main__":
    main()
