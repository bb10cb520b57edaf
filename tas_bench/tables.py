"""Tables as parquet files, weights as safetensors: what a results directory is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tas_bench.digest import NAME, check_digest, check_weights, weights_digest, with_digest
from tas_bench.errors import StoreDamagedError, StoreIOError
from tas_bench.files import read_whole
from tas_bench.schema import CURVE_KEYS, ROWS, SCHEMA_VERSION
from tas_bench.text import reason

if TYPE_CHECKING:
    from torch import Tensor


LOST = "delete it, as `tas-bench check --repair` does: {} is lost, its row stands"
REMEDIES = {
    "rows": "delete it and its job runs again",
    "_uses": "delete it and the next run of its sweep writes it again",
    "_curves": LOST.format("this learning curve"),
    "_trajectories": LOST.format("this trajectory"),
}
"""What to do about a damaged file, by its folder."""

PACKED = "pack it again, or take it from where it came"


def read_table(path: Path, schema: pa.Schema | None, packed: bool = False) -> pa.Table:
    """One file, checksums verified, cast to the schema; or, packed, what all files of a folder held.

    Raises:
        StoreDamagedError: it cannot be read back, or was written by a newer tas_bench.
        StoreIOError: the file system refused.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(read_whole(path)), page_checksum_verification=True) as file:
            version = int((file.schema_arrow.metadata or {}).get(b"schema_version", b"0"))
            if version > SCHEMA_VERSION:
                raise StoreDamagedError(f"{path} has schema version {version}; upgrade tas_bench to read it")
            table = file.read(use_threads=False)
            check_digest(table)
            if schema is ROWS and len(table) != 1 and not packed:
                raise ValueError(f"{len(table)} rows in it, not one")
            if schema is None:
                table.select(CURVE_KEYS.names)  # or it is no curve
                return table
            if strange := set(table.column_names) - set(schema.names):
                raise ValueError(f"unknown column {min(strange)}")
            for name in set(schema.names) - set(table.column_names) if 0 < version < SCHEMA_VERSION else ():
                table = table.append_column(name, pa.nulls(len(table)))  # a later version added it
            table = table.select(schema.names)
            return table if table.schema.equals(schema) else table.cast(schema)
    except StoreIOError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise StoreDamagedError(
            f"{path} is damaged ({reason(error, 120)}); {PACKED if packed else REMEDIES[path.parent.name]}"
        ) from error


def read_row(path: Path) -> pa.Table:
    """A committed row, which is of the job that its file is named after. Raises as `read_table`."""
    table = read_table(path, ROWS)
    if (found := table["job_id"][0].as_py()) != path.stem:
        hint = "delete it, or let `tas-bench check --repair` put it aside"
        raise StoreDamagedError(f"{path} is of job {found}: renamed, or a copy; {hint}")
    return table


def read_weights(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Tensors of a weights file, compared with their digest.

    Raises:
        StoreDamagedError: they cannot be read back.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = read_whole(path)
        check_weights(data)
        return {name: tensor.to(device) for name, tensor in load(data).items()}
    except StoreIOError:
        raise
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreDamagedError(
            f"{path} is damaged ({reason(error, 120)}); delete it, what needs it trains it again"
        ) from error


def whole_weights(path: Path) -> bool:
    """Whether a weights file is there and as it was written; a damaged one is made anew."""
    try:
        read_weights(path)
    except StoreDamagedError:
        return False
    return True


def table_bytes(table: pa.Table) -> bytes:
    """A parquet file with checksums."""
    sink = pa.BufferOutputStream()
    pq.write_table(with_digest(table), sink, write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def row_bytes(row: Mapping[str, Any]) -> bytes:
    """A row as a file of its own."""
    return table_bytes(pa.Table.from_pylist([dict(row)], schema=ROWS))


def weights_bytes(weights: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> bytes:
    """Tensors as a safetensors file, with its metadata if there is any, and a digest."""
    from safetensors.torch import save

    tensors, metadata = {k: v.detach().cpu().contiguous() for k, v in weights.items()}, dict(about or {})
    return save(tensors, metadata | {NAME: weights_digest(save(tensors, metadata))})


def curve_table(job_id: str, curve: Sequence[Mapping[str, float]]) -> pa.Table:
    """A learning curve, one row per epoch."""
    measures = [k for k in curve[0] if k != "epoch"]
    schema = pa.schema([*CURVE_KEYS, *(pa.field(m, pa.float64()) for m in measures)])
    return pa.Table.from_pylist([{"job_id": job_id, **point} for point in curve], schema=schema)
