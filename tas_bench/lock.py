"""Who holds a results directory: a file that tells the holder, whose time stamp it renews while it lives.

Nothing here asks for more than NFS gives: a file is created by a link, which one of two makes, and a holder on
another machine is judged by the time stamp of its file, read on the server's clock.

A dead holder's lock is taken over in two steps, so that of two who find it one wins. Who creates the file
`_lock.after.TOKEN`, named after the dead one's token, is its heir, and writes `_lock` anew. The holder is thus who
stands at the end of the line from `_lock` on.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tas_bench.errors import InputError, StoreIOError
from tas_bench.files import boot_id, create, is_running, now, pid_space, remote, renew, stamp, write_whole

NAME = "_lock"
RENEW = 5.0
"""Seconds between two signs of life."""

STALE = 60.0
"""Seconds without one after which a holder may be declared dead, with `--break-lock`."""

LONGEST = 100
"""Heirs that a line may have: each was killed between two writes."""


@dataclass(frozen=True)
class Holder:
    """Who holds a directory, as others see it; its last sign of life came `age_seconds` ago."""

    host: str
    pid: int
    token: str
    age_seconds: float


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """What stands in a lock's file.

    Attributes:
        boot: tells one start of the host from the next; `space`: one container's process ids from another's.
        start: tells a process from a later one of the same id.
    """

    host: str
    pid: int
    token: str
    boot: str = ""
    space: str = ""
    start: str = ""
    since: str = ""

    def is_dead(self, age: float) -> bool:
        """Whether it was a process of this machine that is gone; only what can be read proves it.

        Args:
            age: seconds since its last sign of life: another boot of this host, or another host of its name.
        """
        if self.host != socket.gethostname() or not self.pid:
            return False
        if self.boot and boot_id() not in ("", self.boot):
            return age >= STALE
        if self.space and self.space != pid_space():
            return False
        return not is_running(self.pid) or (self.start != "" and _start(self.pid) not in ("", self.start))


class Lock:
    """A directory that is held.

    Attributes:
        lost: somebody else holds it: this process was taken for dead.
    """

    def __init__(self, root: Path, token: str, taken_over: bool) -> None:
        self.root, self.token, self.taken_over, self.lost = root, token, taken_over, False
        self._renewed, self._stop = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()

    def held(self) -> bool:
        """Whether the directory is still ours; if the file system has not answered for a minute, it is not."""
        self._renew()
        return not self.lost and time.monotonic() - self._renewed < STALE

    def _beat(self) -> None:
        while not self.lost and not self._stop.wait(RENEW):
            self._renew()

    def _renew(self) -> None:
        with contextlib.suppress(OSError):  # it may answer again
            if self._is_ours():
                renew(_sign(self.root, self.token))
                self._renewed = time.monotonic()
            else:
                self.lost = True

    def _is_ours(self) -> bool:
        last = _last(self.root)
        return last is not None and last[1].token == self.token

    def release(self) -> None:
        """Let go of it."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._is_ours():
                (self.root / NAME).unlink()
            if remote(self.root) is not None:
                _sign(self.root, self.token).unlink(missing_ok=True)


@contextlib.contextmanager
def hold(root: Path, break_stale: bool = False) -> Iterator[Lock]:
    """Hold a directory. A lock whose process on this machine is gone is taken over.

    Args:
        break_stale: take over one that has given no sign of life for a minute, too.

    Raises:
        InputError: another run holds it.
        OSError, StoreIOError: the file system refused.
    """
    mine = _Mark(
        host=socket.gethostname(), pid=os.getpid(), token=uuid.uuid4().hex, boot=boot_id(), space=pid_space(),
        start=_start(os.getpid()), since=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    data = json.dumps(asdict(mine)).encode()
    lock = Lock(root, mine.token, _take(root, mine.token, data, break_stale))
    try:
        yield lock
    finally:
        lock.release()


def holder_of(root: Path) -> Holder | None:
    """Who holds a directory; None where nobody does, or a process of this machine did that is gone."""
    try:
        while (last := _last(root)) is not None:
            path, mark = last
            with contextlib.suppress(FileNotFoundError):  # it has just let go, or moved on: look again
                age = _age(path, mark.token)
                return None if mark.is_dead(age) else Holder(mark.host, mark.pid, mark.token, age)
        return None
    except OSError as error:
        raise StoreIOError(f"cannot read {root / NAME}: {error.strerror or error}") from error


def _take(root: Path, token: str, data: bytes, break_stale: bool) -> bool:
    """Become the holder; whether of a lock that another left."""
    while True:
        last = _last(root)
        if last is None:
            if create(root / NAME, data):
                return False
            continue  # another was faster: look who
        path, mark = last
        try:
            age = _age(path, mark.token)
        except FileNotFoundError:
            continue  # its holder has just moved on
        if not mark.is_dead(age):
            _check_age(f"{root} is in use by {mark.host}:{mark.pid}", age, break_stale)
        heir = _heir(root, mark.token)
        if create(heir, data) and (last := _last(root)) and last[1].token == token:
            write_whole(root / NAME, data)
            for earlier in root.glob(f"{NAME}.*"):
                earlier.unlink(missing_ok=True)
            return True
        with contextlib.suppress(FileNotFoundError):  # of a line that another has ended meanwhile
            if _mark(heir.read_bytes()).token == token:
                heir.unlink()


def _check_age(who: str, age: float, break_stale: bool) -> None:
    """Refuse to take the place of what may be alive."""
    if age < STALE:
        raise InputError(f"{who} (sign of life {age:.0f} s ago)")
    if not break_stale:
        hint = "if that run is gone for good, --break-lock takes its place"
        raise InputError(f"{who}, without a sign of life for {age:.0f} s; {hint}")


def _last(root: Path) -> tuple[Path, _Mark] | None:
    """The end of the line of holders, and where it stands."""
    path, found = root / NAME, None
    with contextlib.suppress(FileNotFoundError):
        for _ in range(LONGEST):
            found = path, _mark(path.read_bytes())
            path = _heir(root, found[1].token)
    return found


def _heir(root: Path, token: str) -> Path:
    return root / f"{NAME}.after.{token}"


def _mark(data: bytes) -> _Mark:
    """What a lock's file says; of earlier days it says HOST:PID."""
    try:
        known = json.loads(data)
        texts = {name: str(known[name]) for name in _Mark.__dataclass_fields__ if name != "pid"}
        mark = _Mark(pid=int(known["pid"]), **texts)
        if not (mark.token.isalnum() and 0 < mark.pid < 2**31):
            raise ValueError("no lock of ours")
        return mark
    except (ValueError, TypeError, KeyError, OverflowError):
        host, _, pid = data.decode(errors="replace").strip().rpartition(":")
        token = hashlib.sha256(data).hexdigest()[:32]
        number = int(pid) if pid.isascii() and pid.isdigit() and len(pid) < 9 else 0
        return _Mark(host=host if number else "an unknown host", pid=number, token=token)


def _sign(root: Path, token: str) -> Path:
    """What a holder renews: its lock; an object beside it, since to renew one is to write over what is there."""
    return root / NAME if remote(root) is None else root / f"{NAME}.alive.{token}"


def _age(path: Path, token: str) -> float:
    """Seconds since the holder renewed its lock or wrote it, on the clock that did."""
    renewed = stamp(path)
    with contextlib.suppress(FileNotFoundError):
        renewed = max(renewed, stamp(_sign(path.parent, token)))
    try:
        clock = now(path.parent)
    except OSError:  # somebody who may only read
        clock = time.time()
    return max(0.0, clock - renewed)


def _start(pid: int) -> str:
    """When a process began, in the kernel's count; "" where that cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19] if fields[0] not in "ZX" else "ended, and waits for its parent"
