"""`tas-bench compare`: what differs between two results directories, beyond noise or not."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING, Any

from tas_bench.commands.shared import add_command, directory
from tas_bench.errors import OK
from tas_bench.text import one_line

if TYPE_CHECKING:
    import pandas as pd

    from tas_bench.commands.shared import Commands
    from tas_bench.report.render import Grid
    from tas_bench.report.source import Source

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

    from tas_bench.report.compare import compare as cells_of
    from tas_bench.report.compare import search_costs, unlike
    from tas_bench.report.render import csv, terminal
    from tas_bench.report.source import read_source

    first, second = read_source(args.first), read_source(args.second)
    cells = cells_of(first, second)
    if args.csv:
        sys.stdout.write(csv(cells))
        return OK
    console = Console()
    for source in (first, second):
        for line in source.damaged:
            Console(stderr=True).print(Text(f"warning: left out: {line}"), soft_wrap=True)
    console.print(terminal(_cells_grid(cells, first, second)))
    costs = search_costs(first, second)
    if len(costs):
        console.print(terminal(_costs_grid(costs, first)))
    for line in unlike(first, second):
        console.print(Text(line), soft_wrap=True)
    changed = int((cells["verdict"] == "changed").sum())
    console.print(Text(f"{changed} of {len(cells)} cells changed beyond the noise of seeds"))
    return OK


def _cells_grid(cells: pd.DataFrame, first: Source, second: Source) -> Grid:
    from tas_bench.report.render import Grid

    labels, lines = second.labels | first.labels, []
    cell: Any
    for cell in cells.fillna({"difference": math.nan, "half_width": math.nan}).itertuples():
        spread = "" if math.isnan(cell.half_width) else f" ± {cell.half_width:.2f}"
        means = [
            f"{m:.2f} (n={n})" if n else "" for m, n in ((cell.first, cell.first_n), (cell.second, cell.second_n))
        ]
        difference = "" if math.isnan(cell.difference) else f"{cell.difference:+.2f}{spread}"
        name = one_line(f"{labels.get(cell.method, cell.method)} {cell.transfer}")
        lines.append((name, f"{cell.dataset} {cell.backbone}", *means, difference, cell.verdict))
    return Grid("Accuracy %, test images", ("", "problem", "first", "second", "second - first", "verdict"), lines)


def _costs_grid(costs: pd.DataFrame, first: Source) -> Grid:
    from tas_bench.report.render import Grid

    lines = []
    cost: Any
    for cost in costs.fillna(math.nan).itertuples():
        ratios = [f"x {r:.2f}" if r == r else "" for r in (cost.device_seconds_ratio, cost.train_macs_ratio)]
        lines.append((one_line(first.label(cost.method)), f"{cost.dataset} {cost.backbone}", *ratios))
    return Grid("Search cost, second / first", ("", "problem", "device time", "training macs"), lines)
