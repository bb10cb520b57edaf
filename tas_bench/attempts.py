"""The log of a job's attempts: when each began and where, what became of it and what it cost.

One small file per job, replaced whole by the one process that runs the job, or by the driver once that is dead: no
file is appended to by two, so it is safe on NFS and in object stores. A job that ends well at its first
attempt leaves none.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
from pathlib import Path
from typing import Any

from tas_bench.files import write_whole

Attempt = dict[str, Any]
"""`started`, `host`, `pid`; once it has ended `how` and, where that is known, `seconds` of device time."""

STOPPED = "stopped with its run"


class Attempts:
    """The attempts at one job.

    Args:
        earlier: the row of an earlier attempt; counts where there is no log of it.
    """

    def __init__(self, results: Path, key: str, earlier: dict[str, Any] | None = None) -> None:
        self.path = results / "_attempts" / f"{key}.json"
        self.all = self._read(earlier)

    def _read(self, earlier: dict[str, Any] | None) -> list[Attempt]:
        # Where there is none, or a damaged one: it is but a log.
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            return [{**attempt} for attempt in json.loads(self.path.read_bytes())["attempts"]]
        if earlier is None:
            return []
        well = earlier["status"] == "ok"  # then its weights are lost, and what they cost is counted anew
        first = {"how": earlier["status"], "seconds": 0.0 if well else earlier["device_seconds"]}
        return [first, *({"how": "not known"} for _ in range(earlier["attempts"] - 1))]

    @property
    def seconds(self) -> float:
        """Device-seconds of all attempts that have ended, as far as they are known."""
        return sum(attempt.get("seconds") or 0.0 for attempt in self.all)

    @property
    def under_way(self) -> bool:
        """Whether the last attempt has begun and not ended."""
        return bool(self.all) and "how" not in self.all[-1]

    @property
    def count(self) -> int:
        """Attempts so far, the present one included."""
        return len(self.all)

    def begin(self) -> None:
        """An attempt begins here and now.

        Raises:
            StoreIOError: the file system refused.
        """
        self._close()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self.all.append({"started": now, "host": socket.gethostname(), "pid": os.getpid()})
        self._write()

    def end(self, how: str, seconds: float) -> None:
        """The last attempt has ended, not well.

        Raises:
            StoreIOError: the file system refused.
        """
        if not self.all or "how" in self.all[-1]:  # it died before it could say that it began
            self.all.append({})
        self.all[-1] |= {"how": how, "seconds": seconds}
        self._write()

    def close(self) -> None:
        """Attempts that have not ended did so with their run.

        Raises:
            StoreIOError: the file system refused.
        """
        self._close()
        self._write()

    def drop(self) -> None:
        """The job has ended well: what is in its row need not be kept."""
        if self.count <= 1:
            with contextlib.suppress(OSError):
                self.path.unlink()
        else:
            self.all[-1] |= {"how": "ok"}
            self._write()

    def _close(self) -> None:
        for attempt in self.all:
            attempt.setdefault("how", STOPPED)

    def _write(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        write_whole(self.path, json.dumps({"attempts": self.all}, indent=1).encode())


def close_left(results: Path) -> None:
    """Mark attempts of earlier runs as ended; called by who holds the directory, before it begins any.

    Raises:
        StoreIOError: the file system refused.
    """
    for key in under_way(results):
        Attempts(results, key).close()


def under_way(results: Path) -> dict[str, Attempt]:
    """Attempts that have not ended, by job id, as far as their logs tell: a killed run may leave some."""
    found = {}
    for path in (results / "_attempts").glob("*.json"):
        attempts = Attempts(results, path.stem)
        if attempts.under_way and {"started", "host", "pid"} <= attempts.all[-1].keys():  # or it is damaged
            found[path.stem] = attempts.all[-1]
    return found
