"""`tas-bench report`: a results directory as tables in the terminal and as a page, figures and tables in files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, directory, warn_left_out
from tas_bench.errors import OK, StoreIOError

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

EXAMPLES = """\
    example:
      tas-bench report results/runs/demo              what has finished so far, also while it runs

    _report/report.html in DIR is one file that needs no network; tables (CSV, Markdown, LaTeX) and figures (PNG,
    SVG) lie beside it. Files that are damaged are left out, and named.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "write a results directory's report, finished or not"
    sub = add_command(commands, "report", report, about, EXAMPLES)
    sub.add_argument("results", metavar="DIR", type=directory, help="results directory")
    sub.add_argument("--no-figures", action="store_true", help="no PNG and SVG: they take most of the time")


def report(args: argparse.Namespace) -> int:
    """Print the tables of a results directory and write its report beside the rows."""
    print_report(args.results, whole=True, figures=not args.no_figures)
    return OK


def print_report(results: Path, whole: bool = False, figures: bool = False) -> None:
    """Print the tables and keep them as `table1.md` and CSV.

    Args:
        whole: write the page and its tables too; `figures` those.

    Raises:
        InputError: it holds nothing to report.
    """
    from rich.console import Console
    from rich.text import Text

    from tas_bench.report import report as write_tables
    from tas_bench.report.source import read_source
    from tas_bench.report.whole import write_report

    source, errors = read_source(results), Console(stderr=True)
    warn_left_out(source.damaged)
    try:
        write_tables(source, results / "_report", Console())
        if whole:
            sys.stdout.write(f"{write_report(source, results / '_report', figures)} written\n")
    except StoreIOError as error:  # the tables were printed
        errors.print(Text(f"warning: the report is not kept: {error}"), soft_wrap=True)
