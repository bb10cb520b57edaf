"""Latency of the deployed network on one device: nanoseconds per image, looked up layer by layer.

`tas_bench.latency` measures a table once per device and keeps it as parquet, one row per layer configuration. Its
key stands in the cost's name, "latency:KEY", and so in the hash of every job that depends on it. Entries are
added, never changed; a table that was lost and measured again has another key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tas_bench import files
from tas_bench.costs.layer import Cost, Layer
from tas_bench.errors import InputError, StoreDamagedError
from tas_bench.space import IntArray
from tas_bench.text import reason

LATENCY = "latency"
"""The cost's name before a table is settled."""


class Config(NamedTuple):
    """All that decides a layer's latency: what one measurement is of."""

    role: str
    kernel: int
    stride: int
    positions_in: int
    positions: int
    norm: bool
    bias: bool
    depthwise: bool
    c_in: int
    c_out: int


def config(layer: Layer, c_in: int, c_out: int) -> Config:
    """A layer at the widths of a size."""
    where = layer.positions_in, layer.positions
    return Config(
        layer.role, layer.kernel, layer.stride, *where, layer.norm, layer.bias, layer.depthwise, c_in, c_out
    )


Form = tuple[Any, ...]
"""A configuration but for its widths."""


def _form(layer: Layer) -> Form:
    return config(layer, 0, 0)[:-2]


SCHEMA = pa.schema(
    [
        pa.field("role", pa.string(), nullable=False),
        *(
            pa.field(name, pa.int64(), nullable=False)
            for name in ("kernel", "stride", "positions_in", "positions")
        ),
        *(pa.field(name, pa.bool_(), nullable=False) for name in ("norm", "bias", "depthwise")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("c_in", "c_out", "nanoseconds")),
    ]
)


@dataclass(frozen=True)
class _Pairs:
    """What is known of one form of layer: nanoseconds (inputs, outputs), -1 where not measured.

    Attributes:
        rows, columns: place of a width in `known`, by width; the last place of both is of unknown widths.
    """

    rows: IntArray
    columns: IntArray
    known: IntArray

    def look_up(self, c_in: IntArray, c_out: IntArray) -> IntArray:
        """Nanoseconds for every pair, -1 where not measured."""
        row = self.rows[np.clip(c_in, 0, len(self.rows) - 1)]
        return self.known[row, self.columns[np.clip(c_out, 0, len(self.columns) - 1)]]


@dataclass(frozen=True)
class Table:
    """What was measured on one device.

    Attributes:
        setting: device, torch, precision, batch, threads: what all entries share.
        entries: nanoseconds per image.
    """

    path: Path
    setting: Mapping[str, Any]
    entries: Mapping[Config, int]

    @property
    def key(self) -> str:
        """Its name: its file's, without the suffix."""
        return self.path.stem

    @property
    def cost(self) -> Cost:
        """The cost that looks up here."""
        return Cost(f"{LATENCY}:{self.key}", self.of_layer)

    def of_layer(self, layer: Layer, c_in: Any, c_out: Any) -> Any:
        """Nanoseconds per image of a layer.

        Raises:
            InputError: it was not measured.
        """
        pairs = self._forms.get(_form(layer))
        ins, outs = np.broadcast_arrays(np.asarray(c_in, np.int64), np.asarray(c_out, np.int64))
        found = np.full(ins.shape, -1) if pairs is None else pairs.look_up(ins, outs)
        if (found < 0).any():
            place = np.unravel_index(np.argmin(found), found.shape)
            what = f"{layer.role}, {layer.kernel} x {layer.kernel}, {ins[place]} to {outs[place]} channels"
            raise InputError(
                f"latency table {self.key} has no entry for a layer of this size ({what}, {layer.positions} "
                "positions): only candidate widths of the measured backbone and images are known"
            )
        return found if found.ndim else int(found)

    @cached_property
    def _forms(self) -> dict[Form, _Pairs]:
        by_form: dict[Form, list[tuple[int, int, int]]] = {}
        for entry, nanoseconds in self.entries.items():
            by_form.setdefault(entry[:-2], []).append((entry.c_in, entry.c_out, nanoseconds))
        return {form: _pairs(np.array(found)) for form, found in by_form.items()}


def _pairs(found: IntArray) -> _Pairs:
    """From rows of (input width, output width, nanoseconds)."""

    def places(widths: IntArray) -> tuple[IntArray, IntArray]:
        distinct, place = np.unique(widths, return_inverse=True)
        by_width = np.full(distinct[-1] + 2, len(distinct))
        by_width[distinct] = np.arange(len(distinct))
        return by_width, place

    (rows, row), (columns, column) = places(found[:, 0]), places(found[:, 1])
    known = np.full((row.max() + 2, column.max() + 2), -1)
    known[row, column] = found[:, 2]
    return _Pairs(rows, columns, known)


# ---- the cache


def cache_folder() -> Path:
    """Where the tables lie: $XDG_CACHE_HOME (or ~/.cache) /tas_bench/latency."""
    return files.cache_folder() / "latency"


def find_latency(name: str) -> Cost:
    """The cost "latency:KEY".

    Raises:
        InputError: no table is named, or it is not on this machine.
        StoreDamagedError: it cannot be read.
    """
    key = name.partition(":")[2]
    if not key:
        raise InputError(
            "latency is measured first: `tas-bench run` and `tas-bench cost` do so, or name latency:KEY"
        )
    path = cache_folder() / f"{key}.parquet"
    if not re.fullmatch(r"[\w-][\w.-]{0,199}", key, re.ASCII) or not path.is_file():
        raise InputError(
            f"no latency table '{key:.80}' in {cache_folder()}: copy it from the machine that measured it"
        )
    return _cached(path, path.stat().st_mtime_ns).cost


@lru_cache(maxsize=8)
def _cached(path: Path, _changed: int) -> Table:
    return read_table(path)


def read_table(path: Path) -> Table:
    """Read a table.

    Raises:
        StoreDamagedError: it cannot be read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read().select(SCHEMA.names).cast(SCHEMA)
            setting = json.loads((file.schema_arrow.metadata or {})[b"setting"])
        columns = [column.to_pylist() for column in table.columns]
        entries = {Config(*values): nanoseconds for *values, nanoseconds in zip(*columns, strict=True)}
        if len(entries) < len(table) or min(entries.values(), default=0) < 0:
            raise ValueError("an entry is there twice or negative")
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise StoreDamagedError(
            f"latency table {path} is damaged ({reason(error, 120)}); delete it and it is measured anew"
        ) from error
    return Table(path, setting, entries)


def write_table(table: Table) -> None:
    """Write a table whole or not at all.

    Raises:
        StoreIOError: the file system refused.
    """
    rows = [{**entry._asdict(), "nanoseconds": value} for entry, value in table.entries.items()]
    found = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({"setting": json.dumps(dict(table.setting))}))
    sink = pa.BufferOutputStream()
    pq.write_table(found, sink, write_page_checksum=True)
    files.write_in_folder(table.path, sink.getvalue().to_pybytes())
