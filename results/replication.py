"""Run or resume the replication sweeps, pack their rows and write RESULTS.md.

    make replication DATA=DIR                               all of it; stop it and start it whenever you like
    .venv/bin/python results/replication.py --write         RESULTS.md anew from the packed rows, nothing is run

Rows are made in `results/runs/NAME` and kept in `results/NAME`. A fresh clone goes on from the packed ones.
Weights are not packed: a teacher is trained again where jobs of its seed are still to run.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from page import HERE, SWEEPS, results_page

from tas_bench.commands.shared import complain
from tas_bench.errors import FAILED_JOBS, OK, TasBenchError
from tas_bench.estimate import estimate
from tas_bench.files import write_whole
from tas_bench.packed import pack, unpack
from tas_bench.plans import Plans
from tas_bench.reading import packed_path, read_arrow
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
    try:
        code = OK if args.write else replicate(args.data)
        write_whole(HERE.parent / "RESULTS.md", results_page(HERE, figures=True).encode())
    except TasBenchError as error:
        complain(str(error))
        return error.exit_code
    return code


def replicate(data: Path) -> int:
    """Run what is missing, sweep by sweep; the exit code of the first that did not end, else of the worst.

    Raises:
        TasBenchError: a directory is in use, or damaged.
    """
    missing = [sweep for sweep in SWEEPS if not complete(sweep, HERE / sweep.name)]
    for sweep in missing:
        if packed_path(HERE / sweep.name, "rows").is_file():
            unpack(HERE / sweep.name, runs_of(sweep))
    codes = [OK]
    for i, sweep in enumerate(missing):
        sys.stderr.write(f"{time_left(missing[i:], data)}\n")
        for count in range(1, len(sweep.seeds) + 1):  # so that whole columns come first
            codes.append(run(sweep, sweep.seeds[:count], data))
            if codes[-1] not in (OK, FAILED_JOBS):
                return codes[-1]
    return max(codes)


def runs_of(sweep: Sweep) -> Path:
    """Where a sweep's rows are made."""
    return HERE / "runs" / sweep.name


def complete(sweep: Sweep, packed: Path) -> bool:
    """Whether the packed rows answer every job of the sweep."""
    if not packed_path(packed, "rows").is_file():
        return False
    rows = {row["job_id"]: row for row in read_arrow(packed, "rows").to_pylist() if row["status"] == "ok"}
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


def run(sweep: Sweep, seeds: tuple[int, ...], data: Path) -> int:
    """Run these seeds of a sweep and pack what it has, even where it is stopped; its exit code."""
    command = [sys.executable, "-m", "tas_bench", "run", sweep.name, "--data", str(data)]
    setting = f"seeds={','.join(map(str, seeds))}"
    code = run_command([*command, "--set", setting, "--results", str(runs_of(sweep))])
    if next(runs_of(sweep).glob("rows/*.parquet"), None):
        pack(runs_of(sweep), HERE / sweep.name)
    return code


def run_command(words: list[str]) -> int:
    """Its exit code. A signal to this process stops it too, as it stops by itself: with its jobs kept."""
    process = subprocess.Popen(words, start_new_session=True)  # noqa: S603 (Ctrl-C comes by this process alone)
    handlers = {
        number: signal.signal(number, lambda signum, _frame: process.send_signal(signum))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        return process.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    raise SystemExit(main())
