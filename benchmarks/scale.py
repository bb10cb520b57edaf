"""A sweep of many jobs that do nothing: jobs per second, the driver's memory, and how long it takes to go on."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path

from tas_bench.measure import device_name
from tas_bench.reading import load
from tas_bench.resources import Resources
from tas_bench.stub import StubMethod
from tas_bench.sweep import Sweep

PLANS, BATCH = 100, 10


class Memory(threading.Thread):
    """Resident memory of the driver in MiB, by the number of rows at that time."""

    def __init__(self, results: Path) -> None:
        super().__init__(daemon=True)
        self.rows, self.seen, self.over = results / "rows", dict[int, float](), threading.Event()

    def run(self) -> None:
        """Look twice a second."""
        while not self.over.wait(0.5):
            for child in multiprocessing.active_children():
                if child.name == "driver" and self.rows.exists():
                    pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1])
                    count = sum(name[0] != "." for name in os.listdir(self.rows))
                    self.seen[count] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def at(self, rows: float) -> float:
        """Memory once so many rows were there."""
        return next(mib for count, mib in self.seen.items() if count >= rows)


def main() -> None:
    """Run a sweep of 100 plans, then once more with nothing to do and with a tenth of its rows gone."""
    from tas_bench.runner.supervisor import run_sweep  # here, since the driver imports this file as well

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", type=int, nargs="?", default=10_000)
    jobs = parser.parse_args().jobs
    sweep = Sweep(
        name="scale", title="Scale", methods=(StubMethod(jobs=BATCH, batches=jobs // PLANS // BATCH),),
        transfers=(), datasets=("digits",), backbones=("tiny",), seeds=tuple(range(PLANS)),
    )  # fmt: skip
    print(device_name("cpu"), f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        memory = Memory(results)
        memory.start()
        began = time.perf_counter()
        assert run_sweep(sweep, results, None, Resources()).ran == jobs
        wall = time.perf_counter() - began
        memory.over.set()
        rows = load(results)
        busy = (rows["ended"].max() - rows["started"].min()).total_seconds()
        print(f"{jobs:,} jobs of {PLANS} plans: {wall:.0f} s in all; {jobs / busy:.0f} jobs/s in warm workers")
        halves = rows["ended"].sort_values().iloc[[jobs // 10, jobs // 2, -1]]
        slow = [(halves.iloc[i + 1] - halves.iloc[i]).total_seconds() for i in (0, 1)]
        first, second = slow[0] / jobs * 2500, slow[1] / jobs * 2000
        print(f"seconds per 1,000 jobs, first half and second: {first:.1f}, {second:.1f}")
        marks = (0.1, 0.5, 0.98)
        print("driver's memory in MiB after", ", ".join(f"{m:.0%}: {memory.at(m * jobs):.0f}" for m in marks))
        for name in ("with the snapshot", "without it"):
            began = time.perf_counter()
            assert run_sweep(sweep, results, None, Resources()).found == jobs
            print(f"nothing to do, {name}: {time.perf_counter() - began:.1f} s")
            (results / "_results.parquet").unlink(missing_ok=True)
        size = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
        print(f"{size / jobs / 1e3:.1f} kB of disk per job")


if __name__ == "__main__":
    main()
