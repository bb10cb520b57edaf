"""`tas-bench compare`: what differs between two results directories, beyond noise or not."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, directory, warn_left_out
from tas_bench.errors import OK

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

EXAMPLES = """\
    examples:
      tas-bench compare results/runs/before results/runs/after          two versions of the code
      tas-bench compare DIR1 DIR2 --csv                                 the cells, for a program

    Where both have a seed, differences are taken seed by seed; else the means are compared (Welch's interval). Of
    20 cells that have not changed, one is called changed on average.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "tell which cells of two results directories differ, and whether beyond the noise of seeds"
    sub = add_command(commands, "compare", compare, about, EXAMPLES)
    sub.add_argument("first", metavar="DIR1", type=directory, help="results directory")
    sub.add_argument("second", metavar="DIR2", type=directory, help="another")
    sub.add_argument("--csv", action="store_true", help="the cells as CSV")


def compare(args: argparse.Namespace) -> int:
    """Print the cells, the search costs and what else is unlike."""
    from rich.console import Console
    from rich.text import Text

    from tas_bench.report.compare import cells_grid, costs_grid, search_costs, unlike
    from tas_bench.report.compare import compare as cells_of
    from tas_bench.report.render import csv, terminal
    from tas_bench.report.source import read_source

    first, second = read_source(args.first), read_source(args.second)
    warn_left_out((*first.damaged, *second.damaged))
    cells = cells_of(first, second)
    if args.csv:
        sys.stdout.write(csv(cells))
        return OK
    console = Console()
    console.print(terminal(cells_grid(cells, first, second)))
    costs = search_costs(first, second)
    if len(costs):
        console.print(terminal(costs_grid(costs, first)))
    for line in unlike(first, second):
        console.print(Text(line), soft_wrap=True)
    changed = int((cells["verdict"] == "changed").sum())
    console.print(Text(f"{changed} of {len(cells)} cells changed beyond the noise of seeds"))
    return OK
