"""A folder in an object store, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, with the methods of a Path that are used.

An object is written whole or not at all, and only if there is none where that is asked for (a conditional PUT), so
it takes neither temporary files nor links. What the client raises becomes an OSError that is told in one line.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from upath.extensions import ProxyUPath

from tas_bench.errors import InputError, StoreIOError
from tas_bench.text import one_line, reason

PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
"""What speaks a scheme, of fsspec's family."""

EXTRAS = {"s3": "s3", "gs": "gcs"}
MARK = ".folder"
"""An empty object that makes a folder of a prefix."""

PLAIN: dict[type[Exception], int] = {FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST}
"""Errors that callers expect; all others end what is going on."""


THERE, CONFLICT = 412, 409
"""What an S3 server answers to a conditional PUT: there is one; another is being written, so ask again."""

AGAIN = 0.3
"""Seconds before it is asked again."""


class RemoteError(StoreIOError, OSError):
    """The object store cannot be reached, or refused."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def remote_of(text: str) -> Remote:
    """The path that a URL names.

    Raises:
        InputError: another scheme, no bucket, credentials in it, or the package that speaks it is missing.
    """
    scheme, _, rest = text.partition("://")
    bucket = rest.partition("/")[0]
    if scheme not in PACKAGES:
        raise InputError(f"results lie in a folder or under s3:// or gs://, not under '{scheme[:20]}://'")
    if "@" in bucket or ":" in bucket or "?" in rest:
        raise InputError(
            f"{scheme}:// takes BUCKET/PREFIX alone; credentials come from the environment, not the URL"
        )
    if not bucket:
        raise InputError(f"'{text}' names no bucket")
    if importlib.util.find_spec(PACKAGES[scheme]) is None:
        raise InputError(f"{scheme}:// needs {PACKAGES[scheme]}: pip install 'tas-bench[{EXTRAS[scheme]}]'")
    return Remote(text.rstrip("/"), use_listings_cache=False)


class Remote(ProxyUPath):
    """An object, or a prefix as a folder."""

    __slots__ = ()

    @contextlib.contextmanager
    def _plainly(self) -> Iterator[None]:
        try:
            yield
        except RemoteError:
            raise
        except Exception as error:  # each client has its own
            number = PLAIN.get(type(error), errno.EIO)
            text = reason(error)
            kind = OSError if type(error) in PLAIN else RemoteError
            raise kind(number, text, str(self)) from error

    # ---- reading

    def read_bytes(self) -> bytes:
        """The object."""
        with self._plainly():
            data: bytes = self.fs.cat_file(self.path)
            return data

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """The object, as text."""
        del newline
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is such an object, or a folder."""
        del follow_symlinks
        with self._plainly():
            try:
                self.fs.info(self.path, refresh=True)
            except FileNotFoundError:
                return False
            return True

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is the prefix of objects."""
        del follow_symlinks
        return bool(self.listed())

    def modified(self) -> float:
        """When it was written, on the store's clock."""
        with self._plainly():
            return float(self.fs.modified(self.path).timestamp())

    def listed(self) -> dict[str, dict[str, Any]]:
        """What lies below, by name, with what the store tells of it."""
        with self._plainly():
            try:
                found = self.fs.ls(self.path, detail=True, refresh=True)
            except FileNotFoundError:
                return {}
            return {info["name"].rpartition("/")[2]: info for info in found if info["name"] != self.path}

    def identities(self) -> dict[str, str]:
        """Objects below by name, with what changes when another takes its place."""
        files = {name: info for name, info in self.listed().items() if info["type"] == "file"}
        return {name: str(info.get("ETag") or info.get("etag")).strip('"') for name, info in files.items()}

    def glob(self, pattern: str, **_options: Any) -> Iterator[Remote]:
        """What lies below and fits a pattern, a level per part."""
        first, _, rest = pattern.partition("/")
        for name in self.listed():
            if fnmatchcase(name, first):
                yield from (self / name).glob(rest) if rest else (self / name,)

    # ---- writing

    def put(self, data: bytes) -> None:
        """Write it, in place of another if there is one."""
        with self._plainly():
            try:
                self.fs.pipe_file(self.path, data)
            except FileNotFoundError as error:  # there is no such bucket
                raise RemoteError(errno.ENOENT, one_line(error), str(self)) from error

    def create(self, data: bytes) -> bool:
        """Write it unless there is one; whether it did."""
        for last in (False, False, False, True):
            with self._plainly():
                try:
                    self.fs.pipe_file(self.path, data, mode="create")
                except Exception as error:  # each client has its own: the status tells
                    status = _status(error)
                    if status == THERE:
                        break
                    if status != CONFLICT or last:
                        raise
                else:
                    return True
            time.sleep(AGAIN)
        with contextlib.suppress(FileNotFoundError):  # deleted since
            return self.read_bytes() == data  # a reply was lost, and it was asked twice
        return False

    def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Write it, as text."""
        del newline
        self.put(data.encode(encoding or "utf-8", errors or "strict"))
        return len(data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete it."""
        if not missing_ok and not self.exists():
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        with self._plainly(), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path)

    def rename(self, target: Any, **_options: Any) -> None:  # type: ignore[override]
        """Copy it, and delete it."""
        with self._plainly():
            self.fs.cp_file(self.path, target.path)
        self.unlink(missing_ok=True)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make it a folder."""
        del mode, parents, exist_ok
        (self / MARK).create(b"")


def _status(error: Exception) -> int | None:
    """The status of a server's refusal, however the client named it."""
    if isinstance(error, FileExistsError):
        return THERE
    answer = getattr(error.__cause__, "response", {})
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
