"""Figure 3 of the paper: how differentiable searches went, with and without the cost's constraint."""

from __future__ import annotations

import math

import pandas as pd

from tas_bench.report.parts import Panel, Part, Plot, Section, Series, Style, Table, number, text
from tas_bench.report.searches import searches
from tas_bench.report.sections.learning import thin
from tas_bench.report.source import Source, key_of, of_problem
from tas_bench.report.table1 import Manifest, tunings
from tas_bench.text import duration


def trajectories(source: Source) -> list[Part]:
    """Up to four panels per problem, and how the searches ended."""
    parts: list[Part] = []
    known = ["job_id", "dataset", "backbone", "method", "budget", "budget_cost"]
    found = source.trajectories.merge(source.used[known].drop_duplicates(), on="job_id")
    found = found[~found["method"].isin(tunings(source.manifest))]
    for problem in source.problems:
        mine = of_problem(found, problem)
        name, where = key_of(problem), source.heading(problem)
        if panels := _panels(source, mine, problem):
            alt = "Cost of the argmax size and discrepancy of the architecture parameters, by epoch of the search."
            parts.append(Plot(f"figure3-{name}", f"How the searches went: {where}", alt, panels))
        ended = searches(source.of(problem), problem)
        if len(ended):
            parts.append(_ends(f"searches-{name}", where, ended))
    return parts


def _panels(source: Source, mine: pd.DataFrame, problem: Manifest) -> list[Panel]:
    free = [name for name in source.labels if source.setting(name, "lambda_cost") == 0]
    panels = []
    for title, here in (
        ("with the cost's constraint", ~mine["method"].isin(free)),
        ("without", mine["method"].isin(free)),
    ):
        each = mine[here]
        if each.empty:
            continue
        cost = _series(source, each, "f_cost", 1e-6)
        if title != "without" and each["budget_cost"].fillna("macs").eq("macs").all():
            budget = float(each["budget"].iloc[0]) / 1e6
            ends = [float(each["epoch"].min()), float(each["epoch"].max())]
            for share, name in ((1 - problem["t"], "(1 - t) R"), (1 + problem["t"], "(1 + t) R")):
                cost.append(Series(name, ends, [share * budget] * 2, "rule", None, dashed=True))
        panels.append(Panel(f"F_cost, {title}", "Epoch", "Cost of the argmax size, millions", cost))
        gap = _series(source, each, "discrepancy", 1.0)
        panels.append(Panel(f"Discrepancy, {title}", "Epoch", "Gap between the two most probable", gap))
    return panels


def _series(source: Source, each: pd.DataFrame, measure: str, unit: float) -> list[Series]:
    """A broken line per method, a stretch per search: a mean would be in the band where no search is."""
    series = []
    for method in source.labels:
        mine = each[each["method"] == method].sort_values("epoch")
        if mine.empty:
            continue
        x: list[float] = []
        y: list[float | None] = []
        for _, search in mine.groupby("job_id", sort=False):
            kept = search.iloc[thin(len(search))]
            x += [*kept["epoch"].astype(float), math.nan]
            y += [*(unit * kept[measure]), None]
        label = f"{source.label(method)} (n = {mine['job_id'].nunique()})"
        style: Style = "line" if mine["epoch"].max() > 1 else "points"
        series.append(Series(label, x[:-1], y[:-1], style, source.colour(method)))
    return series


def _ends(name: str, where: str, ended: pd.DataFrame) -> Table:
    header = (
        "Method",
        "Argmax macs / R",
        "Argmax in band",
        "Discrepancy",
        "Supernet, %",
        "Device time",
        "Memory",
        "n",
    )
    lines = [
        (
            text(row.name),
            number(row.argmax_share_mean, "{:.3f}", row.argmax_share_half_width),
            number(row.met_mean, "{:.0%}"),
            number(row.discrepancy_mean, "{:.3f}", row.discrepancy_half_width),
            number(row.val_accuracy_mean, "{:.2f}", row.val_accuracy_half_width),
            number(row.device_seconds_mean, duration),
            number(row.peak_memory_mean, lambda peak: f"{peak / 2**30:.2f} GiB"),
            number(row.n, "{:.0f}"),
        )
        for row in ended.itertuples()
    ]
    return Table(name, f"How the searches ended: {where}", header, lines)


SECTION = Section("trajectories", "Differentiable searches (Figure 3)", 80, trajectories)
