"""What a running sweep or a long step shows: a live display on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Self

from rich import progress as bars
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tas_bench.text import duration, one_line

if TYPE_CHECKING:
    from types import TracebackType

PLAIN_EVERY = 10.0
"""Seconds between plain lines, at least."""

SILENT = 300.0
"""Seconds without a plain line after which an epoch's end brings one."""

SHOWN = 12
"""Running jobs shown, at most."""


def seconds_left(means: Mapping[str, float], counts: Mapping[str, int], others: int, slots: int) -> float | None:
    """Estimate the time until jobs are done; None before any job has ended.

    Never less than one job's time, since the last jobs cannot be shared out further.

    Args:
        means: seconds of a job, by kind; a kind that has none yet takes as long as the others on average.
        counts: jobs to be done, by kind.
        others: and of kinds that are not known.
        slots: jobs side by side.
    """
    if not others and not any(counts.values()):
        return 0.0
    if not means:
        return None
    usual = sum(means.values()) / len(means)
    each = [(means.get(kind, usual), count) for kind, count in counts.items() if count] + [(usual, others)]
    longest = max(mean for mean, count in each if count)
    return max(longest, sum(mean * count for mean, count in each) / max(1, slots))


class Progress:
    """Shows how far a sweep is. A context manager; every method returns at once.

    Args:
        console: where to show it; a terminal gets a live display, anything else plain lines, seldom.
        total_hint: jobs in all, where known: methods are generators and may ask for more.
        quiet: show nothing.
    """

    def __init__(self, console: Console, total_hint: int | None, quiet: bool) -> None:
        self._console, self._total_hint, self._quiet = console, total_hint, quiet
        self._lock = threading.Lock()
        self._labels: dict[str, str] = {}
        self._epochs: dict[str, tuple[int, int]] = {}
        self._best: dict[str, str] = {}
        self._failures: deque[str] = deque(maxlen=3)
        self._done = self._running = self._waiting = self._plans_left = 0
        self._failed = self._concurrency = 0
        self._timed: dict[str, tuple[int, float]] = {}
        self._kinds: Mapping[str, int] = {}
        self._start = self._said = monotonic()
        self._live: Live | None = None
        self._due: float | None = None
        self._told = ""

    def __enter__(self) -> Self:
        self._start = self._said = monotonic()
        if self._console.is_terminal and not self._quiet:
            self._live = Live(
                get_renderable=self._view, console=self._console, refresh_per_second=2, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self.counts() != self._told:
            self._say()

    def job_started(self, job_id: str, label: str) -> None:
        """A job runs now."""
        with self._lock:
            self._labels[job_id] = one_line(label)

    def job_ticked(self, job_id: str, done: int, total: int) -> None:
        """A running job has done that many of its epochs."""
        with self._lock:
            self._epochs[job_id] = (done, total)
        if self._live is None and monotonic() - self._said >= SILENT:
            self._say()

    def job_finished(self, job_id: str, label: str, status: str, seconds: float, kind: str = "") -> None:
        """A job ended, well or not."""
        self.job_stopped(job_id)
        with self._lock:
            if status == "ok":
                count, spent = self._timed.get(kind, (0, 0.0))
                self._timed[kind] = count + 1, spent + seconds
            else:
                self._failed += 1
                self._failures.append(f"{one_line(status)}: {one_line(label)}")

    def job_stopped(self, job_id: str) -> None:
        """A job does not run any more, for now: its worker died."""
        with self._lock:
            self._labels.pop(job_id, None)
            self._epochs.pop(job_id, None)

    def update(
        self, done: int, running: int, waiting: int, plans_left: int, kinds: Mapping[str, int] | None = None
    ) -> None:
        """Where the sweep stands: jobs done, running and waiting, and plans not yet at their end.

        Args:
            kinds: those that run and wait, by kind.
        """
        with self._lock:
            self._kinds = {"": running + waiting} if kinds is None else kinds
            ended = plans_left < self._plans_left
            self._done, self._running, self._waiting, self._plans_left = done, running, waiting, plans_left
            self._concurrency = max(self._concurrency, running)
        now = monotonic()
        if self._due is None and (ended or now - self._said >= PLAIN_EVERY):
            self._due = now
        filling = waiting > 0 and running < self._concurrency  # the next call tells of what a free slot got
        if self._live is None and self._due is not None and (not filling or now - self._due >= PLAIN_EVERY):
            self._say()

    def best(self, method: str, text: str) -> None:
        """The best a method has found so far, by validation accuracy."""
        with self._lock:
            self._best[one_line(method)] = one_line(text)

    def counts(self) -> str:
        """Where the sweep stands."""
        total = f" of about {self._total_hint}" if (self._total_hint or 0) > self._done else ""
        through = sum(done / total for done, total in self._epochs.values()) / max(1, self._running)
        others = {
            "failed": self._failed,
            f"running ({through:.0%} through)" if through else "running": self._running,
            "waiting": self._waiting,
            "plans left": self._plans_left,
        }
        told = [f"{count} {what}" for what, count in others.items() if count]
        return ", ".join([f"{self._done}{total} jobs done", *told])

    def times(self) -> str:
        """How long it has taken, and how long it may take yet."""
        means = {kind: seconds / count for kind, (count, seconds) in self._timed.items()}
        others = max(0, (self._total_hint or 0) - self._done - sum(self._kinds.values()))
        left = seconds_left(means, self._kinds, others, self._concurrency)
        sure = self._total_hint and self._kinds.keys() <= means.keys()
        rest = f", {'about' if sure else 'at least'} {duration(left)} left" if left else ""
        return f"{duration(monotonic() - self._start)} so far{rest}"

    def _say(self) -> None:
        self._due = None
        if self._quiet:
            return
        self._said, self._told = monotonic(), self.counts()
        self._console.print(Text(f"{self._told}; {self.times()}"), soft_wrap=True)

    def _view(self) -> RenderableType:
        with self._lock:
            jobs = Table.grid(padding=(0, 2))
            for job_id, label in list(self._labels.items())[:SHOWN]:
                done, total = self._epochs.get(job_id, (0, 0))
                epoch = Text(f"epoch {done}/{total}" if total else "starting")
                jobs.add_row(Text(label), ProgressBar(total or 1, done, width=20), epoch)
            more = len(self._labels) - SHOWN
            lines = [f"and {more} more"] if more > 0 else []
            lines += [f"best so far, {method}: {text}" for method, text in self._best.items()]
            lines += self._failures
            return Group(Text(f"{self.counts()}\n{self.times()}", style="bold"), jobs, *map(Text, lines))


class _Left(bars.ProgressColumn):
    """The time left, which goes on between two steps."""

    def render(self, task: bars.Task) -> Text:
        end = task.fields["end"]
        return Text("" if end is None else f"about {duration(max(0.0, end - monotonic()))} left")


@contextlib.contextmanager
def bar(what: str, steps: int, console: Console, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on a terminal, else a line now and then.

    Yields:
        What to tell how many steps are done, and how many of them were before it all began.
    """
    if not quiet:
        console.print(Text(what), soft_wrap=True)
    columns = (bars.BarColumn(), bars.MofNCompleteColumn(), _Left())
    display = bars.Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
    task, began = display.add_task("", total=steps, end=None), monotonic()
    said = began

    def tell(done: int, before: int) -> None:
        nonlocal said
        now = monotonic()
        left = (now - began) / max(1, done - before) * (steps - done)
        display.update(task, completed=done, end=now + left)
        if not quiet and display.disable and now - said >= PLAIN_EVERY:
            said = now
            console.print(f"{done} of {steps}, about {duration(left)} left", highlight=False)

    with display:
        yield tell
