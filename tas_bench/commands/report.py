"""`tas-bench report`: the tables of a results directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, directory
from tas_bench.errors import OK, InputError, StoreIOError

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

EXAMPLES = """\
    example:
      tas-bench report results/runs/demo              the tables of what has finished so far
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "print the tables of a results directory, finished or not"
    sub = add_command(commands, "report", report, about, EXAMPLES)
    sub.add_argument("results", metavar="DIR", type=directory, help="results directory")


def report(args: argparse.Namespace) -> int:
    """Print the tables of a results directory and write them beside the rows."""
    print_report(args.results)
    return OK


def print_report(results: Path) -> None:
    """The same, for whoever has just added to it.

    Raises:
        InputError: it holds nothing to report.
    """
    from rich.console import Console
    from rich.text import Text

    from tas_bench.reading import load
    from tas_bench.report import report as write_report
    from tas_bench.store import Store

    rows, uses = load(results), load(results, table="uses")
    manifest = Store(results).manifest()
    if manifest is None and len(rows):
        raise InputError(f"{results} holds rows of no sweep; read them with tas_bench.load('{results}')")
    if manifest is None or rows.empty:
        raise InputError(f"{results} holds no results yet; `tas-bench run` makes some")
    if not manifest["problems"] or manifest["t"] is None:  # a stand-in of `check --repair`
        hint = f"`tas-bench run {manifest['name']} --results {results}`, with the settings it had,"
        raise InputError(f"{results / '_sweep.json'} has lost the settings; {hint} fills it in")
    if len(manifest["problems"]) == 1:  # uses of schema version 1 do not tell it
        uses = uses.fillna({key: manifest["problems"][0][key] for key in ("dataset", "backbone")})
    try:
        write_report(rows, uses, manifest, results / "_report", Console())
    except StoreIOError as error:  # the tables were printed
        Console(stderr=True).print(Text(f"warning: the report is not kept: {error}"), soft_wrap=True)
