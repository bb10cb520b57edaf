"""A file's digest in its own metadata: of tables, weights and JSON.

Parquet's checksums are of pages: a flipped bit in the footer renames a column, or hides rows, and nobody is told.
Safetensors and JSON have none at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

KEY = b"content_sha256"
NAME = KEY.decode()
CHANGED = "its values are not those that were written"


def with_digest(table: pa.Table) -> pa.Table:
    """The table, with its digest in its metadata."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: digest(table)})


def check_digest(table: pa.Table) -> None:
    """Compare a table that was read with the digest that came with it; files of earlier days have none.

    Raises:
        ValueError: it is another table.
    """
    written = (table.schema.metadata or {}).get(KEY)
    if written is not None and written != digest(table):
        raise ValueError(CHANGED)


def digest(table: pa.Table) -> bytes:
    """Of names and values, whatever the layout in memory."""
    rows = table.to_pylist()  # of a row or two many times as fast as to_pydict
    text = json.dumps({name: [row[name] for row in rows] for name in table.column_names}, default=str)
    return hashlib.sha256(text.encode()).hexdigest().encode()


def sealed(value: Mapping[str, Any]) -> bytes:
    """An object as JSON, with its digest."""
    return f"{json.dumps({**value, NAME: _of_json(value)}, indent=1)}\n".encode()


def unsealed(data: bytes) -> dict[str, Any]:
    """What `sealed` was given; of earlier days there is no digest in it.

    Raises:
        ValueError: it is damaged.
    """
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    if found.pop(NAME, None) not in (None, _of_json(found)):
        raise ValueError(CHANGED)
    return found


def _of_json(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def weights_digest(data: bytes) -> str:
    """Of a safetensors file: names, types, shapes, bytes and metadata, but for the digest there."""
    header, rest = _parts(data)
    about = header.pop("__metadata__", {})
    about.pop(NAME, None)
    found = hashlib.sha256(json.dumps([header, about], sort_keys=True).encode())
    found.update(rest)
    return found.hexdigest()


def check_weights(data: bytes) -> None:
    """Compare a safetensors file with the digest in it; files of earlier days have none.

    Raises:
        ValueError: it holds something else.
    """
    try:
        written = _parts(data)[0].get("__metadata__", {}).get(NAME)
        if written not in (None, weights_digest(data)):
            raise ValueError(CHANGED)
    except (AttributeError, TypeError) as error:
        raise ValueError("its header is none") from error


def _parts(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and numbers of a safetensors file."""
    view = memoryview(data)
    end = 8 + int.from_bytes(view[:8], "little")
    header: dict[str, Any] = json.loads(bytes(view[8:end]))
    return header, view[end:]
