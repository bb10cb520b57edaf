"""Reports: tables made from the rows of a results directory."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pandas as pd
from rich.text import Text

from tas_bench.errors import StoreIOError
from tas_bench.report import render
from tas_bench.report.table1 import Sweep, table1, teacher_row

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

__all__ = ["report"]


def report(rows: pd.DataFrame, uses: pd.DataFrame, sweep: Sweep, out_dir: Path | None, console: Console) -> None:
    """Print Table 1 of a results directory and write it to files.

    Args:
        rows: the rows, `tas_bench.load(DIR)`.
        uses: who asked for them, `tas_bench.load(DIR, table="uses")`.
        sweep: the manifest of the directory.
        out_dir: folder of the files; None writes none.
        console: where the table is printed.

    Raises:
        StoreIOError: `table1.md` or `table1.csv` cannot be written.
    """
    lines = [teacher_row(rows, uses, sweep), table1(rows, uses, sweep)]
    table = pd.concat(lines, ignore_index=True)
    grids = [render.accuracy_grid(table, sweep), render.cost_grid(table, sweep)]
    notes = render.notes(rows, uses, sweep, table)
    for grid in grids:
        console.print(render.terminal(grid))
    for note in notes:
        console.print(Text(note))
    if out_dir is not None:
        _write(out_dir / "table1.md", render.markdown(f"Report of {sweep['name']}", grids, notes))
        _write(out_dir / "table1.csv", render.csv(table))


def _write(path: Path, text: str) -> None:
    """Write a whole file or none of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreIOError(f"cannot write {path}: {error.strerror}") from error
