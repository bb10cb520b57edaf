"""Reports: tables made from the rows of a results directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from rich.text import Text

from tas_bench.errors import StoreIOError
from tas_bench.files import write_whole
from tas_bench.report import render
from tas_bench.report.ledger import ledger
from tas_bench.report.searches import searches
from tas_bench.report.table1 import Sweep, narrowed, table1, teacher_row, used_jobs

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

__all__ = ["report"]


def report(
    rows: pd.DataFrame, uses: pd.DataFrame, manifest: Sweep, out_dir: Path | None, console: Console
) -> None:
    """Print Table 1 and how the searches ended, for every problem of a sweep, and write them to files.

    Args:
        rows: the rows, `tas_bench.load(DIR)`.
        uses: who asked for them, `tas_bench.load(DIR, table="uses")`.
        manifest: the manifest of the directory.
        out_dir: folder of the files; None writes none.
        console: where the tables are printed.

    Raises:
        StoreIOError: a file cannot be written.
    """
    pages, tables, ends, ledgers = [], [], [], []
    for sweep in narrowed(manifest):
        table = pd.concat([teacher_row(rows, uses, sweep), table1(rows, uses, sweep)], ignore_index=True)
        ended = searches(rows, uses, sweep)
        costs = ledger(used_jobs(rows, uses, sweep), sweep)
        grids = [render.accuracy_grid(table, sweep)] if len(table) else []
        grids += [render.cost_grid(costs, sweep)] if sweep["transfers"] or costs["n"].any() else []
        grids += [render.searches_grid(ended, sweep)] if len(ended) else []
        notes = render.notes(rows, uses, sweep, table)
        for grid in grids:
            console.print(render.terminal(grid))
        for note in notes:
            console.print(Text(note))
        pages.append(render.markdown(f"Report of {sweep['name']}", grids, notes))
        problem = {"dataset": sweep["dataset"], "backbone": sweep["backbone"]}
        tables.append(table.assign(**problem))
        ends.append(ended.assign(**problem))
        ledgers.append(costs.assign(**problem))
    if out_dir is not None:
        _write(out_dir / "table1.md", "\n".join(pages))
        for name, frames in (("table1", tables), ("searches", ends), ("search_cost", ledgers)):
            if whole := [frame for frame in frames if len(frame)]:
                _write(out_dir / f"{name}.csv", render.csv(pd.concat(whole, ignore_index=True)))


def _write(path: Path, text: str) -> None:
    """Write a whole file or none of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreIOError(f"cannot write {path}: {error.strerror}") from error
    write_whole(path, text.encode())
