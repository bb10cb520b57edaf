"""`tas-bench status`: how a sweep stands, also while it runs somewhere else."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, directory
from tas_bench.errors import OK

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from tas_bench.commands.shared import Commands

EXAMPLES = """\
    examples:
      tas-bench status results/runs/demo            who runs it, what is done, running and waiting, what failed
      tas-bench status results/runs/demo --json     the same for a script
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "tell how a sweep stands, from its results directory alone, wherever it runs"
    sub = add_command(commands, "status", status, about, EXAMPLES)
    sub.add_argument("results", metavar="DIR", type=directory, help="results directory")
    sub.add_argument("--json", action="store_true", help="for scripts")


def status(args: argparse.Namespace) -> int:
    """Print how a sweep stands."""
    from rich.console import Console
    from rich.text import Text

    from tas_bench.status import status_of

    found = status_of(args.results)
    if args.json:
        tables = {name: getattr(found, name).to_dict("records") for name in ("plans", "running", "failed")}
        holder = asdict(found.holder) if found.holder else None
        told = {"sweep": found.sweep, "holder": holder, "jobs": found.jobs, **tables}
        sys.stdout.write(f"{json.dumps(told, indent=1, default=str)}\n")
        return OK
    console = Console()
    counts = ", ".join(f"{count:,} {name}" for name, count in found.jobs.items())
    console.print(Text(f"{found.sweep}: {found.who}\njobs asked for so far: {counts or 'none'}"), soft_wrap=True)
    for title, table in (("", found.plans), ("running", found.running), ("failed", found.failed)):
        _show(console, title, table)
    return OK


def _show(console: Console, title: str, frame: pd.DataFrame) -> None:
    """A table, if there is anything in it."""
    from rich.table import Table
    from rich.text import Text

    from tas_bench.text import duration, one_line

    if frame.empty:
        return
    table = Table(title=title or None, title_justify="left")
    for name in frame.columns:
        table.add_column(Text(str(name)), justify="right" if frame[name].dtype.kind in "if" else "left")
    for row in frame.to_dict("records"):
        cells = (duration(value) if name == "seconds" else one_line(value) for name, value in row.items())
        table.add_row(*map(Text, cells))
    console.print(table)
