"""Run or resume the replication sweeps, pack their rows and write RESULTS.md.

    make replication DATA=DIR                               all of it; stop it and start it whenever you like
    .venv/bin/python results/replication.py --write         RESULTS.md anew from the packed rows, nothing is run

Rows are made in `results/runs/NAME` and kept in `results/NAME`. A fresh clone goes on from the packed ones; a
sweep that is complete is not run again, though its teachers' weights are not packed.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from page import HERE, SWEEPS, results_page

from tas_bench.estimate import estimate
from tas_bench.files import write_whole
from tas_bench.packed import pack, unpack
from tas_bench.plans import Plans
from tas_bench.reading import load, packed_path
from tas_bench.resources import Resources
from tas_bench.store import outcome_of
from tas_bench.sweep import Sweep
from tas_bench.text import duration


def main() -> int:
    """Run what is missing, or only write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that holds CIFAR-10 and CIFAR-100")
    parser.add_argument("--write", action="store_true", help="only write RESULTS.md from the packed rows")
    args = parser.parse_args()
    if args.data is None and not args.write:
        parser.error("--data DIR is needed, unless only --write is")
    code = 0
    if not args.write:
        missing = [sweep for sweep in SWEEPS if not complete(sweep)]
        for sweep in missing:
            if packed_path(HERE / sweep.name, "rows").is_file():
                unpack(HERE / sweep.name, runs_of(sweep))
        for i, sweep in enumerate(missing):
            sys.stderr.write(f"{time_left(missing[i:], args.data)}\n")
            code = run(sweep, args.data)
            if code:
                break
    write_whole(HERE.parent / "RESULTS.md", results_page(HERE, figures=True).encode())
    return code


def runs_of(sweep: Sweep) -> Path:
    """Where a sweep's rows are made."""
    return HERE / "runs" / sweep.name


def complete(sweep: Sweep) -> bool:
    """Whether the packed rows answer every job of the sweep."""
    if not packed_path(HERE / sweep.name, "rows").is_file():
        return False
    rows = {row["job_id"]: row for row in load(HERE / sweep.name).to_dict("records")}
    plans = Plans(sweep.plans(), lambda _job, key: outcome_of(rows[key]) if key in rows else None)
    return all(plan.done for plan in plans.plans)


def time_left(sweeps: list[Sweep], data: Path) -> str:
    """What is to run, and how long that takes."""
    found = {sweep.name: estimate(sweep, runs_of(sweep), data, Resources()) for sweep in sweeps}
    lines = [
        f"  {name:24} {len(each.to_run):4} of {len(each.jobs)} jobs, {duration(each.wall or 0)}"
        for name, each in found.items()
    ]
    whole = duration(sum(each.wall or 0 for each in found.values()))
    return "\n".join([f"replication: about {whole} left", *lines])


def run(sweep: Sweep, data: Path) -> int:
    """Run a sweep seed by seed, so that whole columns come first; pack what it has, even where it is stopped."""
    command = [sys.executable, "-m", "tas_bench", "run", sweep.name, "--data", str(data)]
    code = 0
    for count in range(1, len(sweep.seeds) + 1):
        seeds = f"seeds={','.join(map(str, sweep.seeds[:count]))}"
        words = [*command, "--set", seeds, "--results", str(runs_of(sweep))]
        code = run_command(words)
        pack(runs_of(sweep), HERE / sweep.name)
        if code:
            break
    return code


def run_command(words: list[str]) -> int:
    """Its exit code. A signal to this process stops it too, as it stops by itself: with its jobs kept."""
    process = subprocess.Popen(words)  # noqa: S603

    def stop(signum: int, _frame: object) -> None:
        if signum == signal.SIGTERM:  # Ctrl-C has reached it already
            process.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    raise SystemExit(main())
