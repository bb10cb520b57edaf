"""Reading results directories: tables as DataFrames, of one directory or of several."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from tas_bench.errors import InputError, StoreDamagedError, StoreIOError
from tas_bench.files import path_of
from tas_bench.schema import CURVE_KEYS, ROWS, TRAJECTORIES, USES
from tas_bench.snapshot import read_rows
from tas_bench.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

Table = Literal["rows", "curves", "trajectories", "uses"]
SCHEMAS = {"rows": ROWS, "uses": USES, "curves": None, "trajectories": TRAJECTORIES}
TABLES: tuple[Table, ...] = ("rows", "uses", "curves", "trajectories")
READERS = 4
"""Files read at a time: parquet's own work, and waiting for the file system, take no turns."""


def load(
    *paths: str | Path, table: Table = "rows", kind: str | None = None, sweep: str | None = None
) -> pd.DataFrame:
    """Read results directories; `results/README.md` tells the columns.

    Args:
        paths: the directories. Where they are several, a first column `results` tells which one a row is of.
        table: "rows" (one per finished job), "curves" (one per job and epoch), "trajectories" (one per search and
            epoch) or "uses" (one per plan and job).
        kind: jobs of this kind alone: teacher, search, candidate, final ...
        sweep: those that this sweep asked for alone.

    Raises:
        InputError: there is no such directory, or it holds no results.
        StoreDamagedError: a file cannot be read back, or was written by a newer tas_bench.
    """
    import pandas as pd

    if not paths:
        raise InputError("load takes at least one results directory")
    found = []
    for path in paths:
        root = path_of(path) if isinstance(path, str) else path
        frame = read(root, table)
        for column, value in (("kind", kind), ("sweep", sweep)):
            if value is not None:
                frame = _narrowed(frame, root, column, value)
        if len(paths) > 1:
            frame.insert(0, "results", str(path))
        found.append(frame)
    return found[0] if len(found) == 1 else pd.concat(found, ignore_index=True)


def read(root: Path, table: Table = "rows", damaged: list[str] | None = None) -> pd.DataFrame:
    """One table of one directory, as `read_arrow` reads it."""
    return read_arrow(root, table, damaged).to_pandas()


def packed_path(root: Path, table: str) -> Path:
    """Where a table lies that `tas-bench pack` wrote."""
    return root / f"{table}.parquet"


def read_arrow(root: Path, table: str, damaged: list[str] | None = None) -> pa.Table:
    """One table of one directory, packed or not.

    Args:
        damaged: files that cannot be read back are left out and told here, in a line each; None raises.

    Raises:
        InputError: there is no such directory, or it holds no results.
        StoreDamagedError: as `damaged` says.
    """
    schema, packed = SCHEMAS[table], False
    if (root / "rows").is_dir():
        if table == "rows":
            return read_rows(root, damaged)[1]
        files = sorted(f for f in (root / f"_{table}").glob("*.parquet") if not f.name.startswith("."))
    elif packed := packed_path(root, "rows").is_file():
        files = [packed_path(root, table)]
    else:
        raise InputError(f"{root} holds no results (no directory {root / 'rows'})")

    def tolerant(path: Path) -> pa.Table | None:
        try:
            return read_table(path, schema, packed)
        except (StoreDamagedError, StoreIOError) as error:
            if damaged is None or isinstance(error, OSError):
                raise
            damaged.append(str(error))
            return None

    with ThreadPoolExecutor(READERS) as pool:
        tables = [found for found in pool.map(tolerant, files) if found is not None]
    empty = (schema or CURVE_KEYS).empty_table()
    return pa.concat_tables(tables or [empty], promote_options="default")


def _narrowed(frame: pd.DataFrame, root: Path, column: str, value: str) -> pd.DataFrame:
    """Lines of such jobs: by the table's own column, or by the rows' where it has none."""
    if column in frame:
        return frame[frame[column] == value].reset_index(drop=True)
    rows = read(root)
    wanted = rows.loc[rows[column] == value, "job_id"]
    return frame[frame["job_id"].isin(wanted)].reset_index(drop=True)
