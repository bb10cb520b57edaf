"""`tas-bench doctor`: whether this installation, and a sweep on it, can run."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from tas_bench.commands.shared import (
    DEFAULT_RESULTS,
    add_command,
    directory,
    resources_of,
    settled,
    share_options,
    sweep_options,
)
from tas_bench.errors import BAD_INPUT, OK

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

EXAMPLES = """
    examples:
      tas-bench doctor                                the installation alone
      tas-bench doctor table1 --data DIR              and whether table1 could start now
      tas-bench doctor demo --results /disk/demo --gpus-per-job 1 --json

    Nothing is run and nothing is written. Exit code 2 where a check failed; warnings leave it 0.
"""

STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


def add(commands: Commands) -> None:
    """Add the command."""
    about = "check the installation, and whether a sweep could run on it"
    sub = add_command(commands, "doctor", doctor, about, EXAMPLES)
    sub.add_argument("sweep", metavar="SWEEP", nargs="?", help="its name, as `tas-bench list` shows it")
    sub.add_argument(
        "--results",
        type=directory,
        metavar="DIR",
        help=f"where rows would go (default {DEFAULT_RESULTS}/SWEEP, SWEEP-smoke or SWEEP-tune)",
    )
    sweep_options(sub)
    share_options(sub)
    sub.add_argument("--json", action="store_true", help="one line of JSON per check")


def doctor(args: argparse.Namespace) -> int:
    """Print one line per check."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.text import Text

    from tas_bench.preflight import diagnose

    sweep = settled(args) if args.sweep else None
    results = args.results or DEFAULT_RESULTS / (sweep.name if sweep else "")
    console, code = Console(), OK
    for check in diagnose(sweep, results, args.data, resources_of(args)):
        if args.json:
            sys.stdout.write(f"{json.dumps(asdict(check))}\n")
        else:
            line = Text.assemble((f"{check.status:8}", STYLES[check.status]), f"{check.name:18}{check.told}")
            console.print(line, soft_wrap=True)
        code = BAD_INPUT if check.status == "failed" else code
    return code
