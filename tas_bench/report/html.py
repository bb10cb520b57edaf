"""The report as one page that needs nothing beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from tas_bench.report.interactive import figure
from tas_bench.report.look import DARK, GREY, LIGHT
from tas_bench.report.parts import Note, Part, Plot, Section, Table
from tas_bench.report.source import Source
from tas_bench.text import own_version

PLACEHOLDER = "<!-- plotly -->"


@dataclass(frozen=True)
class Made:
    """A section with what it says."""

    section: Section
    parts: list[Part]


def page(source: Source, made: list[Made]) -> str:
    """The page, with Plotly inside where it has a plot."""
    from jinja2 import Environment

    where = files("tas_bench.report") / "page"
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["plot"] = lambda part: isinstance(part, Plot)
    environment.tests["note"] = lambda part: isinstance(part, Note)
    environment.filters["panel"] = lambda panel: script_safe(figure(panel))
    parts = [part for each in made for part in each.parts]
    text = environment.from_string((where / "page.html").read_text(encoding="utf-8")).render(
        title=f"Report of {source.manifest['name']}",
        problems=[problem["title"] for problem in source.problems],
        made=made,
        time=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        version=own_version(),
        look=script_safe({"light": LIGHT, "dark": DARK, "grey": GREY}),
    )
    text = text.replace("/* style */", (where / "page.css").read_text(encoding="utf-8"))
    text = text.replace("/* script */", (where / "page.js").read_text(encoding="utf-8"))
    plots = any(isinstance(part, Plot) for part in parts)
    return text.replace(PLACEHOLDER, f"<script>{_plotly()}</script>" if plots else "")


def script_safe(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends that."""
    from markupsafe import Markup

    told = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(told.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")
