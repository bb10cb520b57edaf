"""A results directory in a handful of files, to commit or to send: `DIR/rows.parquet`, `uses.parquet` and so on.

`tas_bench.load` and the reports read it as it is; `unpack` makes a directory of it that a run goes on with.
Weights, checkpoints and logs stay behind.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tas_bench.errors import InputError
from tas_bench.files import create, read_whole, write_whole
from tas_bench.reading import TABLES, packed_path, read_arrow
from tas_bench.store import Store
from tas_bench.tables import table_bytes

BESIDE = ("_sweep.json", "_data.json", "_runs/*.json")
"""What goes along as it is."""


def pack(results: Path, out: Path) -> int:
    """Write a results directory's tables and settings into another folder, over what it held.

    Returns:
        How many rows it has.

    Raises:
        InputError: there are no results, or no sweep.
        StoreDamagedError: a file cannot be read back.
        StoreIOError: the file system refused.
    """
    tables = {table: read_arrow(results, table) for table in TABLES}
    if Store(results).manifest() is None:
        raise InputError(f"{results} holds rows of no sweep; there is nothing to pack")
    (out / "_runs").mkdir(parents=True, exist_ok=True)
    for table, found in tables.items():
        write_whole(packed_path(out, table), table_bytes(found))
    for pattern in BESIDE:
        for path in sorted(results.glob(pattern)):
            write_whole(out / path.relative_to(results), read_whole(path))
    return len(tables["rows"])


def unpack(packed: Path, results: Path) -> int:
    """Make a results directory of what `pack` wrote, or add to one what it lacks; what is there stays.

    Returns:
        How many rows it lacked.

    Raises:
        InputError: nothing is packed there, or the directory is another sweep's or in use.
        StoreDamagedError: a file cannot be read back.
        StoreIOError: the file system refused.
    """
    if not packed_path(packed, "rows").is_file():
        raise InputError(f"{packed} holds nothing packed (no file {packed_path(packed, 'rows')})")
    mine, theirs = Store(packed).manifest(), Store(results).manifest()
    if mine is not None and theirs is not None and mine["name"] != theirs["name"]:
        raise InputError(f"{results} holds sweep '{theirs['name']}', not '{mine['name']}'; take another folder")
    store = Store(results)
    with store.lock():
        for pattern in BESIDE:
            for path in sorted(packed.glob(pattern)):
                create(results / path.relative_to(packed), read_whole(path))
        added = 0
        for table in ("curves", "trajectories", "uses", "rows"):  # a row comes after what belongs to it
            found = read_arrow(packed, table)
            folder = results / ("rows" if table == "rows" else f"_{table}")
            for name, part in _parts(found, "plan" if table == "uses" else "job_id"):
                added += create(folder / f"{name}.parquet", table_bytes(part)) and table == "rows"
        store.compact()
    return added


def _parts(table: pa.Table, key: str) -> list[tuple[str, pa.Table]]:
    """A table by the files that it was made of; of curves, with the measures that each has."""
    curves = "sweep" not in table.column_names and "tau" not in table.column_names
    parts = []
    for name in pc.unique(table[key]).to_pylist():
        part = table.filter(pc.equal(table[key], name))
        if curves:
            part = part.select([c for c in part.column_names if part[c].null_count < len(part)])
        parts.append((name, part.replace_schema_metadata(table.schema.metadata)))
    return parts
