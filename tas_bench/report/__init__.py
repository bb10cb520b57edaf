"""Reports: tables made from the rows of a results directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from rich.text import Text

from tas_bench.files import write_in_folder
from tas_bench.report import render
from tas_bench.report.ledger import ledger
from tas_bench.report.searches import searches
from tas_bench.report.table1 import table1, teacher_row

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from tas_bench.report.source import Source

__all__ = ["report"]


def report(source: Source, out_dir: Path, console: Console) -> None:
    """Print Table 1 and how the searches ended, for every problem of a sweep, and write them to files.

    Args:
        source: of a results directory.
        out_dir: folder of the files.
        console: where the tables are printed.

    Raises:
        StoreIOError: a file cannot be written.
    """
    pages, tables, ends, ledgers = [], [], [], []
    for sweep in source.problems:
        used = source.of(sweep)
        table = pd.concat([teacher_row(used), table1(used, sweep)], ignore_index=True)
        ended, costs = searches(used, sweep), ledger(used, sweep)
        grids = [render.accuracy_grid(table, sweep)] if len(table) else []
        grids += [render.cost_grid(costs, sweep)] if sweep["transfers"] or costs["n"].any() else []
        grids += [render.searches_grid(ended, sweep)] if len(ended) else []
        notes = render.notes(used, sweep, table)
        for grid in grids:
            console.print(render.terminal(grid))
        for note in notes:
            console.print(Text(note))
        pages.append(render.markdown(f"Report of {sweep['name']}", grids, notes))
        problem = {"dataset": sweep["dataset"], "backbone": sweep["backbone"]}
        tables.append(table.assign(**problem))
        ends.append(ended.assign(**problem))
        ledgers.append(costs.assign(**problem))
    write_in_folder(out_dir / "table1.md", "\n".join(pages).encode())
    for name, frames in (("table1", tables), ("searches", ends), ("search_cost", ledgers)):
        if whole := [frame for frame in frames if len(frame)]:
            write_in_folder(out_dir / f"{name}.csv", render.csv(pd.concat(whole, ignore_index=True)).encode())
