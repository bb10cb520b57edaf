"""Plots as PNG and SVG, by Matplotlib."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from tas_bench.report.interactive import MANY
from tas_bench.report.look import SCALES, colour_of, dash_of, mark_of
from tas_bench.report.parts import Heat, Panel, Plot, Series
from tas_bench.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg")
COLUMNS = 2
DRAWSTYLES = {"steps": "steps-post", "levels": "steps-mid"}
STYLES = {"solid": "-", "dash": "--", "dot": ":"}


def drawn(plot: Plot) -> dict[str, bytes]:
    """A plot as files, by their endings."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(len(plot.panels) / COLUMNS)
    columns = min(COLUMNS, len(plot.panels))
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for i, panel in enumerate(plot.panels, 1):
        axes = figure.add_subplot(rows, columns, i)
        if isinstance(panel, Heat):
            _paint(axes, panel)
        else:
            _draw(axes, panel)
        axes.set_title(_plain(panel.title), fontsize=10)
        axes.set_xlabel(_plain(panel.x))
        axes.set_ylabel(_plain(panel.y))
    found = {}
    with rc_context({"svg.hashsalt": plot.name, "svg.fonttype": "none"}):
        for ending in FORMATS:
            sink = io.BytesIO()
            about = {"Title": one_line(plot.title)} | ({"Date": None} if ending == "svg" else {})
            figure.savefig(sink, format=ending, dpi=120, metadata=about)
            found[ending] = sink.getvalue()
    return found


def _draw(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator

    below: dict[Any, float] = {}
    for series in panel.series:
        _add(axes, series, below if panel.stacked else {})
    if panel.log_x:
        axes.set_xscale("log")
    elif panel.x == "Epoch":
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.grid(alpha=0.3)
    if panel.series:
        axes.legend(fontsize=7)


def _paint(axes: Axes, heat: Heat) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    low, high = heat.ends
    scale = LinearSegmentedColormap.from_list(heat.scale, list(SCALES[heat.scale]))
    axes.imshow(heat.values, cmap=scale, vmin=low, vmax=high, aspect="auto", origin="lower")
    for row, words in enumerate(heat.words):
        for column, word in enumerate(words):
            axes.text(column, row, _plain(word), ha="center", va="center", color="black", fontsize=8)
    axes.set_xticks(range(len(heat.columns)), [_plain(name) for name in heat.columns])
    axes.set_yticks(range(len(heat.rows)), [_plain(name) for name in heat.rows])


def _add(axes: Axes, series: Series, below: dict[Any, float]) -> None:
    x = [_plain(v) if isinstance(v, str) else v for v in series.x]
    y = [math.nan if v is None else v for v in series.y]
    spread = [0.0 if v is None else v for v in series.spread] if any(series.spread) else None
    colour, name = colour_of(series.colour), _plain(series.name)
    if series.style == "bars":
        base = [below.get(at, 0.0) for at in x]
        axes.bar(x, y, bottom=base, color=colour, yerr=spread, label=name)
        below.update({at: start + more for at, start, more in zip(x, base, y, strict=True)})
        return
    mark, dash = mark_of(series.colour)[1], STYLES[dash_of(series.colour, series.dashed)]
    if series.style == "points" or len(x) == 1:
        face = "none" if series.hollow else colour
        axes.errorbar(
            x,
            y,
            spread,
            fmt=mark,
            color=colour,
            markerfacecolor=face,
            markersize=5 if len(x) < MANY else 3,
            label=name,
        )
        return
    how = DRAWSTYLES.get(series.style, "default")
    width = 0.8 if series.style == "rule" else 1.5
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=width, drawstyle=how, label=name)
    if spread:
        low, high = ([v + sign * s for v, s in zip(y, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _plain(text: str) -> str:
    """Text that is not taken for mathematics, nor, with an underscore first, kept out of the legend."""
    told = one_line(text).replace("$", r"\$")
    return f"\u200b{told}" if told.startswith("_") else told
