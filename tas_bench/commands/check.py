"""`tas-bench check`: reads every file of a results directory and tells what is damaged."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, directory
from tas_bench.errors import DAMAGED, OK, InputError

if TYPE_CHECKING:
    from tas_bench.checkup import Checkup
    from tas_bench.commands.shared import Commands

EXAMPLES = """\
    examples:
      tas-bench check results/runs/demo               also while a run goes on there
      tas-bench check results/runs/demo --repair      damaged files go to results/runs/demo/_damaged

    Exit code 0 where nothing is damaged (with --repair: nothing is left damaged), 4 where something is.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "read every file of a results directory and tell what is damaged, and what that costs"
    sub = add_command(commands, "check", check, about, EXAMPLES)
    sub.add_argument("results", metavar="DIR", type=directory, help="results directory")
    sub.add_argument(
        "--repair", action="store_true",
        help="move damaged files to DIR/_damaged, so that reports and runs work again; nothing is deleted",
    )  # fmt: skip


def check(args: argparse.Namespace) -> int:
    """Print one line per finding and a summary."""
    from tas_bench.checkup import check
    from tas_bench.reading import packed_path
    from tas_bench.repair import repair

    if packed_path(args.results, "rows").is_file():
        raise InputError(f"{args.results} is packed; `tas-bench unpack {args.results} DIR` makes DIR to check")
    found = (repair if args.repair else check)(args.results)
    for finding in found.findings:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(f"{_summary(found, args.results)}\n")
    return DAMAGED if found.damaged else OK


def _summary(found: Checkup, results: Path) -> str:
    """What was read, and the verdict."""
    files = ", ".join(f"{count} in {folder}" for folder, count in found.files.items() if count)
    missing = f"; {found.missing} jobs that plans asked for have no row and run next" if found.missing else ""
    repaired = sum(bool(f.damage and f.done) for f in found.findings)
    verdict = f"{found.damaged} damaged or missing" if found.damaged else "nothing is damaged"
    if repaired:
        verdict = f"{repaired} out of the way, " + (
            f"{found.damaged} as they were" if found.damaged else "all well"
        )
    elif any(f.movable for f in found.findings):
        verdict += f"; `tas-bench check {results} --repair` puts out of the way what it can"
    return f"{results}: {files or 'no files'} read{missing}; {verdict}"
