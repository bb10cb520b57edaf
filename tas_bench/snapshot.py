"""All rows in one file, `_results.parquet`, so that thousands of them are read at once.

It is made of the rows' files and costs nothing but time where it is damaged, old or missing. Its last column tells
which file a row was read from, and of what size and date, so one listing of the folder tells which rows still
stand: a row whose file was replaced, repaired or deleted since is not taken from here.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tas_bench.digest import CHANGED, KEY, digest
from tas_bench.errors import StoreDamagedError, StoreIOError
from tas_bench.files import identities, read_whole, write_whole
from tas_bench.schema import ROWS, SCHEMA_VERSION
from tas_bench.tables import read_row

NAME = "_results.parquet"
GROUP = 1000
"""Rows that are written, and compared with their digest, at a time."""

SOURCE = "_source"
SCHEMA = ROWS.append(pa.field(SOURCE, pa.string(), metadata={"doc": "the row's file, with its size and date"}))


def read_rows(root: Path, damaged: list[str] | None = None) -> tuple[list[str], pa.Table]:
    """Every committed row, in the order of their files' names, and these names without their ending.

    Args:
        damaged: rows that cannot be read back are left out and told here, in a line each; None raises.

    Raises:
        StoreDamagedError: a row's file cannot be read back.
    """
    sources = _sources(root)
    kept = _standing(_found(root), sources)
    table = pa.concat_tables([kept, *_fresh(root, sources - _known(kept), damaged)])
    names = [_name(source).removesuffix(".parquet") for source in table[SOURCE].to_pylist()]
    order = sorted(range(len(names)), key=names.__getitem__)
    return [names[i] for i in order], table.select(ROWS.names).take(pa.array(order, pa.int64()))


def write_snapshot(root: Path) -> None:
    """Write the file anew where rows have come or gone; a row that is damaged stays out of it.

    Raises:
        StoreIOError: the file system refused; the file is left as it was.
    """
    sources, found = _sources(root), _found(root)
    if found is not None and _known(found) == sources:
        return
    kept = _standing(found, sources)
    sink, digests = io.BytesIO(), []
    with pq.ParquetWriter(sink, SCHEMA, write_page_checksum=True) as writer:
        for group in (*_groups(kept), *_fresh(root, sources - _known(kept), damaged=[])):
            writer.write_table(group, row_group_size=GROUP)
            digests.append(digest(group))
        writer.add_key_value_metadata({KEY: _joint(digests)})
    write_whole(root / NAME, sink.getvalue())


def read_snapshot(path: Path) -> pa.Table:
    """What the file holds, checksums verified.

    Raises:
        ValueError, pa.ArrowException: it is damaged.
        StoreDamagedError: another version of tas_bench wrote it.
        FileNotFoundError, StoreIOError: it cannot be read.
    """
    with pq.ParquetFile(io.BytesIO(read_whole(path)), page_checksum_verification=True) as file:
        about = file.metadata.metadata or {}
        if (version := int(about.get(b"schema_version", b"0"))) != SCHEMA_VERSION:
            raise StoreDamagedError(f"{path} has schema version {version}, not {SCHEMA_VERSION}: it is not used")
        groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    if about.get(KEY) != _joint(digest(group) for group in groups):
        raise ValueError(CHANGED)
    return pa.concat_tables([SCHEMA.empty_table(), *(group.cast(SCHEMA) for group in groups)])


def _found(root: Path) -> pa.Table | None:
    """What the file holds; None where that is of no use."""
    try:
        return read_snapshot(root / NAME)
    except StoreIOError as error:
        if isinstance(error, OSError):  # an object store that cannot be reached
            raise
        return None
    except Exception:  # damaged bytes may raise anything at all
        return None


def _standing(found: pa.Table | None, sources: set[str]) -> pa.Table:
    """Rows of the file whose own files are as they were."""
    if found is None:
        return SCHEMA.empty_table()
    return found.filter(pc.is_in(found[SOURCE], pa.array(sorted(sources), pa.string())))


def _known(table: pa.Table) -> set[str]:
    return set(table[SOURCE].to_pylist())


def _sources(root: Path) -> set[str]:
    """The rows' files as they are now."""
    return {f"{name} {identity}" for name, identity in identities(root / "rows", ".parquet").items()}


def _name(source: str) -> str:
    return source.rpartition(" ")[0]


def _fresh(root: Path, sources: Iterable[str], damaged: list[str] | None) -> Iterator[pa.Table]:
    """Rows from their own files, so many at a time; those that cannot be read raise, or stay out and are told."""
    waiting: dict[str, pa.Table] = {}
    for source in sources:
        try:
            waiting[source] = read_row(root / "rows" / _name(source))
        except (StoreDamagedError, StoreIOError) as error:
            if damaged is None or isinstance(error, OSError):
                raise
            damaged.append(str(error))
        if len(waiting) >= GROUP:
            yield _together(waiting)
            waiting = {}
    if waiting:
        yield _together(waiting)


def _together(rows: dict[str, pa.Table]) -> pa.Table:
    table = pa.concat_tables(rows.values()).combine_chunks()
    return table.append_column(SCHEMA.field(SOURCE), pa.array(rows)).cast(SCHEMA)


def _groups(table: pa.Table) -> Iterator[pa.Table]:
    """A table's rows, so many at a time."""
    for start in range(0, len(table), GROUP):
        yield table.slice(start, GROUP).combine_chunks()


def _joint(digests: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(digests)).hexdigest().encode()
