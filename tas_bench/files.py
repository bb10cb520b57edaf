"""Files that are written whole or not at all, on any POSIX file system, NFS among them, or in an object store.

What is no `Path` here is a `remote.Remote`, which has the methods of one that are used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tas_bench.errors import StoreIOError

if TYPE_CHECKING:
    from tas_bench.remote import Remote

REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""What a file system says that is there but takes no files."""

LEFT = 60.0
"""Seconds after which a temporary file of another host's process was left by it."""


def path_of(text: str) -> Path:
    """The folder that a text names: a path, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.

    Raises:
        InputError: a URL that cannot be used.
    """
    if "://" not in text:
        return Path(text)
    from tas_bench.remote import remote_of

    return cast("Path", remote_of(text))


def remote(path: object) -> Remote | None:
    """The path, if it is one of an object store."""
    return None if isinstance(path, Path) else cast("Remote", path)


def read_whole(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        StoreIOError: the file system refused, which tells nothing of the file.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, StoreIOError):
        raise
    except OSError as error:
        raise StoreIOError(f"cannot read {path}: {error.strerror or error}") from error


def write_whole(path: Path, data: bytes, unless: Callable[[], bool] = lambda: False) -> bool:
    """Write beside `path`, sync it, and take its place.

    Args:
        unless: asked last; where it is so, `path` is left as it was.

    Returns:
        Whether it was written.

    Raises:
        StoreIOError: the file system refused; `path` is left as it was.
    """
    if (there := remote(path)) is not None:
        if unless():
            return False
        there.put(data)
        return True
    temporary = temporary_of(path)
    try:
        write_synced(temporary, data)
        if unless():
            return False
        os.replace(temporary, path)
        return True
    except OSError as error:
        raise StoreIOError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_in_folder(path: Path, data: bytes) -> None:
    """Write a whole file or none of it, and its folder where there is none.

    Raises:
        StoreIOError: the file system refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreIOError(f"cannot write {path}: {error.strerror}") from error
    write_whole(path, data)


@contextlib.contextmanager
def private() -> Iterator[None]:
    """Whatever this process and those it starts make meanwhile is the user's alone: 0700 and 0600."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def create(path: Path, data: bytes) -> bool:
    """Write a file unless there is one: of several who try at once, one succeeds.

    Returns:
        Whether it did.

    Raises:
        OSError: the file system refused.
    """
    if (there := remote(path)) is not None:
        return there.create(data)
    temporary = temporary_of(path)
    try:
        write_synced(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return _same(temporary, path)  # a server's reply was lost, and it was asked twice
        sync_folder(path.parent)
        return True
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except FileNotFoundError:
        return False


def write_synced(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file whose bytes are on the disk when this returns."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make a folder's entries last."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def identities(folder: Path, ending: str) -> dict[str, str]:
    """Files of a folder by name, each with what changes when another takes its place; hidden ones left out.

    Raises:
        StoreIOError: the file system refused.
    """
    if (there := remote(folder)) is not None:
        listed = there.identities().items()
        return {name: one for name, one in listed if name.endswith(ending) and not name.startswith(".")}
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name.endswith(ending) and not entry.name.startswith(".")]
            return {entry.name: _identity(_stat(entry)) for entry in found}
    except OSError as error:
        raise StoreIOError(f"cannot read {folder}: {error.strerror or error}") from error


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError:  # a link that leads nowhere is told from other files, and named by who reads it
        return entry.stat(follow_symlinks=False)


def _identity(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"


def cache_folder() -> Path:
    """What this machine keeps of ours: $XDG_CACHE_HOME (or ~/.cache) /tas_bench."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tas_bench"


def log_folder(results: Path) -> Path:
    """Where a run logs: beside the rows or, since no line can be added to an object, in this machine's cache."""
    if remote(results) is None:
        return results / "_log"
    found = cache_folder() / "log" / re.sub(r"[^A-Za-z0-9.]+", "-", str(results))[-200:]
    found.mkdir(parents=True, exist_ok=True)
    return found


def temporary_of(path: Path) -> Path:
    """Where a file is written first: hidden, and told apart from all others', also of other containers."""
    token = f"{process_space()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{path.name}.{token}.{socket.gethostname()}.{os.getpid()}.tmp")


def process_space() -> str:
    """Tells one container's process ids from another's, and one boot's from the next."""
    return hashlib.sha256(f"{boot_id()} {pid_space()}".encode()).hexdigest()[:8]


def boot_id() -> str:
    """Tells one start of this host from the next; "" where that cannot be read."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def pid_space() -> str:
    """Tells one container's process ids from another's; "" where that cannot be read."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def temporaries(folder: Path) -> list[Path]:
    """Files in a folder that a writer has not finished."""
    return sorted(folder.glob(".*.tmp"))


def is_left(temporary: Path) -> bool:
    """Whether a temporary file's writer is known to be gone: it ended here, or has been silent for a minute."""
    before, _, pid = temporary.name.removesuffix(".tmp").rpartition(".")
    ours = re.search(rf"\.{process_space()}-\w{{8}}\.{re.escape(socket.gethostname())}$", before)
    if ours and re.fullmatch(r"\d{1,9}", pid) and not is_running(int(pid)):
        return True
    try:
        return now(temporary.parent) - stamp(temporary) > LEFT
    except FileNotFoundError:
        return True


def is_running(pid: int) -> bool:
    """Whether this machine has that process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def stamp(path: Path) -> float:
    """When a file was written last, on the clock of where it lies."""
    there = remote(path)
    return path.stat().st_mtime if there is None else there.modified()


def renew(path: Path) -> None:
    """Set a file's time stamp to now, on that clock; an object is written anew, with nothing in it."""
    if (there := remote(path)) is not None:
        there.put(b"")
    else:
        os.utime(path)


def now(folder: Path) -> float:
    """The time as the folder's file system tells it, which may be another machine's."""
    probe = temporary_of(folder / "clock")
    try:
        if (there := remote(probe)) is not None:
            there.put(b"")
        else:
            probe.touch()
        return stamp(probe)
    finally:
        probe.unlink(missing_ok=True)
