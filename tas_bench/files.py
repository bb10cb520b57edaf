"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tas_bench.errors import StoreIOError


def write_whole(path: Path, data: bytes) -> None:
    """Write beside `path`, sync it, and take its place.

    Raises:
        StoreIOError: the file system refused; `path` is left as it was.
    """
    temporary = temporary_of(path)
    try:
        write_synced(temporary, data)
        os.replace(temporary, path)
    except OSError as error:
        raise StoreIOError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def private() -> Iterator[None]:
    """Whatever this process and those it starts make meanwhile is the user's alone: 0700 and 0600."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file whose bytes are on the disk when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def temporary_of(path: Path) -> Path:
    """Where `write_whole` writes first: hidden, and told apart from other processes'."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
