"""A results directory in a handful of files, to commit or to send: `DIR/rows.parquet`, `uses.parquet` and so on.

`tas_bench.load` and the reports read it as it is; `unpack` makes a directory of it that a run goes on with.
Weights, checkpoints and logs stay behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tas_bench.errors import InputError, StoreDamagedError
from tas_bench.files import create, read_whole, write_whole
from tas_bench.reading import TABLES, packed_path, read_arrow
from tas_bench.schema import DATA_FILE, SWEEP_FILE, USES
from tas_bench.store import Row, Store
from tas_bench.tables import read_table, table_bytes
from tas_bench.uses import problem_of

FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")
"""What a packed table may name a file: who sent it may be a stranger."""


def pack(results: Path, out: Path) -> int:
    """Write a results directory's tables and settings into another folder, over an earlier pack of it.

    Returns:
        How many rows it has.

    Raises:
        InputError: there are no results, or no sweep; the folder is a results directory, or packs another sweep.
        StoreDamagedError: a file cannot be read back.
        StoreIOError: the file system refused.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder to pack into")
    tables = {table: read_arrow(results, table) for table in TABLES}  # a row first, or what it comes with may lack
    mine, theirs = Store(results).manifest(), Store(out).manifest()
    if mine is None:
        raise InputError(f"{results} holds rows of no sweep; there is nothing to pack")
    if (out / "rows").is_dir():
        raise InputError(f"{out} is a results directory; pack into a folder of its own")
    if out.resolve() == results.resolve():
        raise InputError(f"{out} is packed already; pack into another folder")
    if theirs is not None and theirs["name"] != mine["name"]:
        raise InputError(f"{out} holds sweep '{theirs['name']}', not '{mine['name']}'; pack into another folder")
    (out / "_runs").mkdir(parents=True, exist_ok=True)
    for old in (out / "_runs").glob("*.json"):
        old.unlink()
    for source, copy in _beside(results, out):
        write_whole(copy, read_whole(source))
    for table, found in tables.items():
        write_whole(packed_path(out, table), table_bytes(found))
    return len(tables["rows"])


def unpack(packed: Path, results: Path) -> int:
    """Make a results directory of what `pack` wrote, or add to one what it lacks; jobs that ended well there stay.

    Returns:
        How many rows it lacked.

    Raises:
        InputError: nothing is packed there; the directory is in use, another sweep's, of other data or settings.
        StoreDamagedError: a file cannot be read back.
        StoreIOError: the file system refused.
    """
    if not packed_path(packed, "rows").is_file():
        raise InputError(f"{packed} holds nothing packed (no file {packed_path(packed, 'rows')})")
    curves, trajectories, uses = (
        dict(_parts(packed, table, key))
        for table, key in (("curves", "job_id"), ("trajectories", "job_id"), ("uses", "plan"))
    )
    rows = dict(_parts(packed, "rows", "job_id"))
    if (manifest := Store(packed).manifest()) is None:
        raise InputError(f"{packed} holds no _sweep.json; take it from where the rows came")
    store = Store(results)
    with store.lock():
        store.claim(manifest, Store(packed).own_data())
        for source, copy in _beside(packed, results, settings=False):
            create(copy, read_whole(source))
        added = 0
        for key, row in rows.items():
            standing = store.row(key)
            if standing is None or standing["status"] != "ok":
                for folder, found in (("_curves", curves), ("_trajectories", trajectories)):
                    if key in found:
                        write_whole(results / folder / f"{key}.parquet", table_bytes(found[key]))
                added += store.commit(row.to_pylist()[0])
        for plan, asked in uses.items():
            _add_uses(results / "_uses" / f"{plan}.parquet", asked)
        store.compact()
    return added


def _beside(source: Path, out: Path, settings: bool = True) -> Iterator[tuple[Path, Path]]:
    """Files that go along as they are, and where to."""
    for name in (SWEEP_FILE, DATA_FILE) if settings else ():
        if (source / name).is_file():
            yield source / name, out / name
    for path in sorted((source / "_runs").glob("*.json")):
        yield path, out / "_runs" / path.name


def _add_uses(path: Path, asked: pa.Table) -> None:
    ours, theirs = read_table(path, USES).to_pylist() if path.exists() else [], asked.to_pylist()
    kept: list[Row] = []
    for problem in dict.fromkeys(map(problem_of, [*ours, *theirs])):
        kept += _joined(*([use for use in uses if problem_of(use) == problem] for uses in (ours, theirs)))
    write_whole(path, table_bytes(pa.Table.from_pylist(kept, schema=USES)))


def _joined(ours: list[Row], theirs: list[Row]) -> list[Row]:
    """A plan's uses of one problem; of two ways the one that is further, or both would count as one seed's."""
    if _apart(ours, theirs):
        return max(ours, theirs, key=lambda uses: (any(use["kind"] == "final" for use in uses), len(uses)))
    return [*ours, *(use for use in theirs if use not in ours)]


def _apart(ours: list[Row], theirs: list[Row]) -> bool:
    """Whether a plan went another way on another machine, whose numbers differ in their last digits."""
    steps: list[dict[tuple[str, str | None], set[str]]] = [{}, {}]
    for found, uses in zip(steps, (ours, theirs), strict=True):
        for use in uses:
            step = (use["kind"], use["transfer"])
            found.setdefault(step, set()).add(use["job_id"])
    pairs = [(steps[0][step], steps[1][step]) for step in steps[0].keys() & steps[1].keys()]
    return not all(one <= other or other <= one for one, other in pairs)


def _parts(packed: Path, table: str, key: str) -> Iterator[tuple[str, pa.Table]]:
    """A table by the files that it was made of; of curves, with the measures that each has."""
    found = read_arrow(packed, table)
    for name in pc.unique(found[key]).to_pylist():
        if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
            raise StoreDamagedError(
                f"{packed_path(packed, table)} names a {key} {name!a:.80}, which is no file's name"
            )
        part = found.filter(pc.equal(found[key], name))
        if table == "curves":
            part = part.select([c for c in part.column_names if part[c].null_count < len(part)])
        yield name, part.replace_schema_metadata(found.schema.metadata)
