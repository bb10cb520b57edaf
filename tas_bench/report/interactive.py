"""Panels as Plotly figures: plain dictionaries, which the page's script colours for light and dark."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from tas_bench.report.look import SCALES, colour_of, dash_of, mark_of
from tas_bench.report.parts import Heat, Panel, Series
from tas_bench.text import one_line

DIGITS = 6
SHAPES = {"steps": "hv", "levels": "hvh"}
MANY = 40
"""Points more than this are drawn small."""


def figure(panel: Panel | Heat) -> dict[str, Any]:
    """What `Plotly.newPlot` takes. Each trace's `meta` is its colour's number, for the script."""
    return _heat(panel) if isinstance(panel, Heat) else _panel(panel)


def _panel(panel: Panel) -> dict[str, Any]:
    axis: dict[str, Any] = {"automargin": True, "zeroline": False}
    layout = {
        "xaxis": axis | {"title": {"text": _name(panel.x)}} | ({"type": "log"} if panel.log_x else {}),
        "yaxis": axis | {"title": {"text": _name(panel.y)}},
        "barmode": "stack" if panel.stacked else "overlay",
        "showlegend": True,
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        "margin": {"l": 50, "r": 10, "t": 10, "b": 50},
        "hovermode": "closest",
        "dragmode": False,
    }
    traces = [trace for series in panel.series for trace in _traces(series)]
    return {"data": traces, "layout": layout}


def _heat(heat: Heat) -> dict[str, Any]:
    low, high = heat.ends
    trace = {
        "type": "heatmap", "x": [_name(c) for c in heat.columns], "y": [_name(r) for r in heat.rows],
        "z": [[_short(v) for v in row] for row in heat.values],
        "text": [[_name(word) for word in words] for words in heat.words],
        "texttemplate": "%{text}", "textfont": {"color": "#111111"}, "hovertemplate": "%{text}<extra></extra>",
        "colorscale": [[i / 2, colour] for i, colour in enumerate(SCALES[heat.scale])], "zmin": low, "zmax": high,
        "showscale": False, "xgap": 2, "ygap": 2,
    }  # fmt: skip
    axis: dict[str, Any] = {"automargin": True, "type": "category", "showgrid": False}
    layout = {
        "xaxis": axis | {"title": {"text": _name(heat.x)}},
        "yaxis": axis | {"title": {"text": _name(heat.y)}},
        "margin": {"l": 50, "r": 10, "t": 10, "b": 50}, "dragmode": False,
    }  # fmt: skip
    return {"data": [trace], "layout": layout}


def _traces(series: Series) -> list[dict[str, Any]]:
    colour, x, y = colour_of(series.colour), [_short(v) for v in series.x], [_short(v) for v in series.y]
    common = {"name": _name(series.name), "x": x, "y": y, "meta": series.colour}
    if series.style == "bars":
        bars: dict[str, Any] = common | {"type": "bar", "marker": {"color": colour}}
        return [bars | _whiskers(series)]
    scatter = common | {"type": "scatter"}
    if series.style == "points":
        symbol = mark_of(series.colour)[0] + ("-open" if series.hollow else "")
        marker = {"color": colour, "symbol": symbol, "size": 9 if len(x) < MANY else 5}
        return [scatter | {"mode": "markers", "marker": marker} | _whiskers(series)]
    line = {
        "color": colour, "width": 1 if series.style == "rule" else 2,
        "dash": dash_of(series.colour, series.dashed), "shape": SHAPES.get(series.style, "linear"),
    }  # fmt: skip
    drawn = scatter | {"mode": "lines", "line": line}
    if len(x) == 1:
        drawn = scatter | {"mode": "markers", "marker": {"color": colour, "symbol": mark_of(series.colour)[0]}}
    return [*_band(series, x), drawn]


def _whiskers(series: Series) -> dict[str, Any]:
    if not any(series.spread):
        return {}
    return {"error_y": {"type": "data", "array": [_short(v) for v in series.spread], "visible": True}}


def _band(series: Series, x: list[Any]) -> list[dict[str, Any]]:
    """The interval around a line, one closed outline."""
    ends = [
        (a, y - s, y + s) for a, y, s in zip(x, series.y, series.spread or (), strict=False) if s and y is not None
    ]
    if len(ends) < 2:
        return []
    outline = [*((a, low) for a, low, _ in ends), *((a, high) for a, _, high in reversed(ends))]
    return [
        {
            "type": "scatter", "mode": "lines", "x": [a for a, _ in outline], "y": [_short(b) for _, b in outline],
            "fill": "toself", "fillcolor": colour_of(series.colour), "opacity": 0.18, "line": {"width": 0},
            "hoverinfo": "skip", "showlegend": False, "meta": series.colour, "name": _name(series.name),
        }
    ]  # fmt: skip


def _name(text: str) -> str:
    """Text that Plotly shows as it is: it takes some tags."""
    return escape(one_line(text))


def _short(value: Any) -> Any:
    """A number in few digits, since the page is full of them; None for one that is none. Text as it is shown."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        return _name(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
