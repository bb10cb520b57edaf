"""What a run's slots did: slots x wall = busy + idle. One small file per driver, replaced whole as it goes on.

Slots are CPU cores, or GPUs where jobs have them. A driver counts what it gave out and took back; rows count for
themselves, so that the two can be compared.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
import uuid
from pathlib import Path
from typing import Any

from tas_bench.errors import StoreIOError
from tas_bench.files import write_whole

FOLDER = "_runs"

WRITE_EVERY = 5.0
"""Seconds between two writes: what a killed driver's account lacks at most."""


class Usage:
    """A driver's account, from its start on."""

    def __init__(self, results: Path) -> None:
        self.started = datetime.datetime.now(datetime.UTC)
        name = f"{self.started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self.path = results / FOLDER / f"{name}.json"
        self.clock = self.counted = time.monotonic()
        self.slot_seconds, self.written = 0.0, self.clock

    def write(self, slots: float, busy_seconds: float, last: bool = False) -> None:
        """Count, and every `WRITE_EVERY` seconds keep what is known; where the disk is full, others say so.

        Args:
            slots: that have been there since the last call.
            busy_seconds: slot-seconds that jobs have held so far.
        """
        now = time.monotonic()
        self.slot_seconds += slots * (now - self.counted)
        self.counted = now
        if not last and now - self.written < WRITE_EVERY:
            return
        self.written = now
        record = {
            "started": self.started.isoformat(),
            "ended": datetime.datetime.now(datetime.UTC).isoformat(),
            "wall_seconds": now - self.clock,
            "slot_seconds": self.slot_seconds,
            "busy_seconds": busy_seconds,
            "idle_seconds": self.slot_seconds - busy_seconds,
        }
        with contextlib.suppress(StoreIOError):
            write_whole(self.path, json.dumps(record, indent=1).encode())


def runs(results: Path) -> list[dict[str, Any]]:
    """The accounts of all drivers, oldest first; those that cannot be read are left out, being but a log."""
    found = []
    for path in sorted((results / FOLDER).glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
            for stamp in ("started", "ended"):
                record[stamp] = datetime.datetime.fromisoformat(record[stamp])
            found.append(record)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            continue
    return found
