"""`tas-bench export-rows`: results in the forms of other programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, directory, path
from tas_bench.errors import OK, InputError

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

EXAMPLES = """\
    examples:
      tas-bench export-rows results/runs/demo --to csv           rows, uses, curves and trajectories
      tas-bench export-rows results/runs/demo --to latex         the report's tables
      tas-bench export-rows results/runs/demo --to optuna        a journal: optuna-dashboard journal.log
      tas-bench export-rows results/runs/demo --to tensorboard   events per job: tensorboard --logdir ...
"""
FORMS = ("csv", "latex", "optuna", "tensorboard")


def add(commands: Commands) -> None:
    """Add the command."""
    about = "write results in the form of another program"
    sub = add_command(commands, "export-rows", export_rows, about, EXAMPLES)
    sub.add_argument("results", metavar="DIR", type=directory, help="results directory")
    sub.add_argument("--to", choices=FORMS, required=True, help="the form")
    sub.add_argument("--out", type=path, metavar="PATH", help="folder (default _exported/FORM in DIR)")


def export_rows(args: argparse.Namespace) -> int:
    """Write them, and say where."""
    from tas_bench.exchange import FORMS as WRITERS

    out: Path = args.out or args.results / "_exported" / args.to
    if not isinstance(out, Path):
        raise InputError(f"{args.results} lies in an object store; give --out, a folder here")
    written = WRITERS[args.to](args.results, out)
    sys.stdout.write(f"{len(written)} written to {out}\n")
    return OK
