"""What a report is made of: notes, tables and plots, as plain values that HTML, LaTeX and PNG are drawn of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from tas_bench.text import one_line

if TYPE_CHECKING:
    from tas_bench.report.source import Source

Value = float | str | None
Style = Literal["line", "steps", "levels", "points", "bars", "rule"]
Tone = Literal["plain", "good", "bad"]
Scale = Literal["zero", "high", "low", "share"]


@dataclass(frozen=True)
class Cell:
    """A cell: what is read, what it is sorted by and files hold, and where it leads."""

    text: str
    value: Value = None
    link: str | None = None


@dataclass(frozen=True)
class Table:
    """A table with a line per thing; its first column names it.

    Attributes:
        name: of its files.
        long: shown folded, since it is long.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    lines: Sequence[tuple[Cell, ...]]
    long: bool = False


@dataclass(frozen=True)
class Series:
    """One line, cloud of points or row of bars of a panel.

    Attributes:
        colour: whoever has the same number looks the same in every plot; None is drawn in grey.
        spread: half widths of intervals, a band along a line, whiskers elsewhere.
    """

    name: str
    x: Sequence[Any]
    y: Sequence[float | None]
    style: Style = "line"
    colour: int | None = None
    spread: Sequence[float | None] = ()
    dashed: bool = False
    hollow: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    series: list[Series]
    log_x: bool = False
    stacked: bool = False


@dataclass(frozen=True)
class Heat:
    """A panel with a cell for every pair of two settings, coloured by a value and labelled with words.

    Attributes:
        columns, rows: the settings' values, from the left and from below.
        values, words: by row, then by column; nan where there is nothing.
        scale: "zero" is best at 0; "high" and "low" are best at the greatest and the least; "share" is best at 1.
    """

    title: str
    x: str
    y: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: list[list[float]]
    words: list[list[str]]
    scale: Scale = "high"

    @property
    def ends(self) -> tuple[float, float]:
        """Values that take the first and the last colour of the scale."""
        known = [v for row in self.values for v in row if math.isfinite(v)] or [0.0]
        most = max(0.05, *map(abs, known))
        return {"zero": (-most, most), "share": (0.0, 1.0)}.get(self.scale, (min(known), max(known)))


@dataclass(frozen=True)
class Plot:
    """Panels that belong together.

    Attributes:
        name: of its files.
        alt: what it shows, for those who do not see it.
    """

    name: str
    title: str
    alt: str
    panels: Sequence[Panel | Heat]


@dataclass(frozen=True)
class Note:
    """A sentence; `tone` stresses what is good or bad news."""

    text: str
    tone: Tone = "plain"


Part = Note | Table | Plot


@dataclass(frozen=True)
class Section:
    """A section: a file in `sections/` that holds one is found by itself.

    Attributes:
        place: sections stand in this order.
        make: what it says of the results; nothing where it has nothing to say, and then it is left out.
    """

    name: str
    title: str
    place: int
    make: Callable[[Source], list[Part]] = field(compare=False)


def text(value: Any, link: str | None = None) -> Cell:
    """A cell of text."""
    told = "" if value is None or (not isinstance(value, str) and pd.isna(value)) else one_line(value)
    return Cell(told, told, link)


def number(value: Any, how: str | Callable[[float], str] = "{:.2f}", spread: Any = None, n: str = "") -> Cell:
    """A cell with a number, its interval and how many values it is of; empty where there is none."""
    if value is None or pd.isna(value):
        return Cell(n)
    write = how.format if isinstance(how, str) else how
    told = write(value)
    if spread is not None and not pd.isna(spread):
        told += f" ± {write(spread).removeprefix('+')}"
    return Cell(f"{told} {n}".strip(), float(value))


def millions(macs: float) -> str:
    """Macs in millions."""
    return f"{macs / 1e6:,.2f} M"
