"""SIGINT and SIGTERM, noted when they come and acted upon when it is safe."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn, Self


class Interrupted(BaseException):
    """A signal asked the run to stop."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Signals:
    """Notes SIGINT and SIGTERM for `check` to raise: an error raised inside Ray's C++ would be garbled.

    A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self.noted: list[int] = []
        self.old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self.old.items():
            signal.signal(signum, handler)

    def take(self) -> None:
        """Handle the signals from now on; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self.old.setdefault(signum, signal.getsignal(signum))
                signal.signal(signum, self._note)

    def check(self) -> None:
        """Raise `Interrupted` if a signal came."""
        if self.noted:
            raise Interrupted(self.noted[0])

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        if self.noted:
            os._exit(128 + signum)
        self.noted.append(signum)


@contextlib.contextmanager
def raised_at_once() -> Iterator[None]:
    """Raise `Interrupted` where SIGINT or SIGTERM finds the main thread: for work that may be cut anywhere."""

    def stop(signum: int, _frame: FrameType | None) -> NoReturn:
        raise Interrupted(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)
