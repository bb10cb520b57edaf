"""Colours, marks and dashes, so that one method looks the same in every plot of every form."""

from __future__ import annotations

LIGHT = ("#0b62a4", "#b8450c", "#0f7a55", "#8e3b86", "#8a6100", "#7a4a21", "#5b52b8", "#a8324a")
DARK = ("#6bb8f0", "#ff9d5c", "#4fd6a3", "#ec9fe0", "#e6c34a", "#d2a679", "#b0a8ff", "#ff8fa3")
"""On white and on near black, each at least 4.5 to 1; what has no number is grey."""

_BAD, _MIDDLE, _GOOD = "#f4a582", "#f7f7f7", "#92c5de"
SCALES = {
    "zero": ("#92c5de", _MIDDLE, "#f4a582"), "high": (_BAD, _MIDDLE, _GOOD), "share": (_BAD, _MIDDLE, _GOOD),
    "low": (_GOOD, _MIDDLE, _BAD),
}  # fmt: skip
"""Colours of heat maps, told apart by the colour-blind and pale enough to read black words on."""

GREY = {"light": "#5c6166", "dark": "#aab0b7"}
MARKS = (
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("cross", "P"),
    ("x", "X"),
    ("star", "*"),
)
"""For Plotly and for Matplotlib."""

DASHES = ("solid", "dash", "dot")


def colour_of(number: int | None) -> str:
    """On paper."""
    return GREY["light"] if number is None else LIGHT[number % len(LIGHT)]


def mark_of(number: int | None) -> tuple[str, str]:
    """Shape of points, so that colour is not all that tells them apart."""
    return MARKS[0] if number is None else MARKS[number % len(MARKS)]


def dash_of(number: int | None, dashed: bool) -> str:
    """Dashes of a line: those that share a colour differ in them."""
    return DASHES[1] if dashed else DASHES[0 if number is None else number // len(LIGHT) % len(DASHES)]
