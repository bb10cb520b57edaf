"""Table 2 of the paper: what sampling more candidates per step, |I|, costs and gains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tas_bench.report.ledger import RESULTS
from tas_bench.report.parts import Note, Panel, Part, Plot, Section, Series, Table, millions, number
from tas_bench.report.sections.comparisons import last_transfer
from tas_bench.report.source import Source, key_of
from tas_bench.report.stats import Interval, mean_interval
from tas_bench.report.table1 import Manifest, other_schedule, published

PAPER = ("cifar10", "resnet32")
HOURS, GB = 3600.0, 1e9


def samples(source: Source) -> list[Part]:
    """A table and a plot per problem, where every search of TAS has an |I| of its own."""
    searches = [name for name in source.labels if source.setting(name, "lambda_cost") is not None]
    drawn = {n: name for name in searches if (n := source.setting(name, "samples")) is not None}
    if len(drawn) < max(2, len(searches)):
        return []
    parts: list[Part] = []
    transfer = last_transfer(source) if len(source.finals) else None
    for problem in source.problems:
        used = source.of(problem)
        used = used[(used["kind"] != "final") | (used["transfer"] == transfer)]
        found = {n: _measured(used, drawn[n], source.manifest) for n in sorted(drawn)}
        same = (problem["dataset"], problem["backbone"]) == PAPER
        paper = published("table2").set_index("samples") if same else pd.DataFrame()
        where = source.heading(problem) + (f" ({transfer})" if transfer else "")
        parts += _parts(f"samples-{key_of(problem)}", where, found, paper)
        if same and (told := other_schedule(source.of(problem))):
            parts.append(Note(f"Differences are not like for like: {', '.join(told)}."))
    return [*parts, Note(NOTE)]


MEASURES: dict[str, tuple[str, str | Callable[[float], str], str | None]] = {
    "accuracy": ("Accuracy %", "{:.2f}", "accuracy"),
    "search": ("Search, device-hours", "{:.2f}", "search_hours"),
    "step": ("Step, ms", "{:.0f}", None),
    "memory": ("Memory, GB", "{:.2f}", "memory_gb"),
    "train": ("Training, device-hours", "{:.2f}", "train_hours"),
    "macs": ("Macs", millions, "macs"),
    "argmax": ("Argmax macs / R", "{:.3f}", None),
    "discrepancy": ("Discrepancy", "{:.3f}", None),
}
"""By name: title, how it is written, and the column of the paper's table."""

NOTE = (
    "A step updates the weights on one batch and the architecture on another. Macs are of the derived size, which "
    "is in the band even where the argmax is not; a search that diverged is no hit. Memory on a CPU is of the "
    "whole process, with all it keeps."
)


def _measured(used: pd.DataFrame, method: str, sweep: Manifest) -> dict[str, Interval]:
    mine = used[used["method"] == method]
    done = mine[mine["status"] == "ok"]
    search, final = done[~done["kind"].isin(RESULTS)], done[done["kind"] == "final"]
    told = mine[mine["kind"].eq("search") & mine["status"].isin(["ok", "diverged"])]
    batches = search["images"] / search["epochs"] / 2 / sweep["fixed"].get("recipe.batch", math.nan)
    steps = search["epochs"] * np.ceil(batches)
    in_macs = search["budget_cost"].eq("macs")
    frames = {
        "accuracy": final["accuracy"], "search": search.groupby("seed")["device_seconds"].sum() / HOURS,
        "memory": search.groupby("seed")["peak_memory"].max() / GB, "train": final["device_seconds"] / HOURS,
        "macs": search["macs"] if final.empty else final["macs"],
        "step": 1000 * (search["seconds_data"] + search["seconds_train"]) / steps,
        "argmax": (search["argmax_macs"] / search["budget"]).where(in_macs),
        "met": (told["derived"].eq("argmax") & told["status"].eq("ok")).astype(float),
        "discrepancy": search["discrepancy"],
    }  # fmt: skip
    return {name: mean_interval(frame.dropna()) for name, frame in frames.items()}


def _parts(name: str, where: str, found: dict[int, dict[str, Interval]], paper: pd.DataFrame) -> list[Part]:
    header = ["|I|", "Searches", "Finals", "Argmax in band"]
    for title, _, column in MEASURES.values():
        header += [f"{title} (ours)", f"{title} (paper)"] if len(paper) and column else [title]
    if len(paper):
        header.append("Difference in accuracy, points")
    lines = []
    for n, measured in found.items():
        met, searches = measured["met"].mean, measured["met"].n
        hits = number(None if met is None else met * searches, f"{{:.0f}} of {searches}")
        counts = (n, measured["search"].n, measured["accuracy"].n)
        line = [*(number(count, "{:.0f}") for count in counts), hits]
        for measure, (_, how, column) in MEASURES.items():
            line.append(number(measured[measure].mean, how, measured[measure].half_width))
            if len(paper) and column:
                line.append(number(paper[column].get(n), how))
        if len(paper):
            ours, theirs = measured["accuracy"].mean, paper["accuracy"].get(n)
            line.append(number(None if ours is None or theirs is None else ours - theirs, "{:+z.2f}"))
        lines.append(tuple(line))
    panels = [_panel(measure, found, paper) for measure in ("accuracy", "search", "memory")]
    return [
        Table(name, f"Candidates sampled per step: {where}", tuple(header), lines),
        Plot(
            name, f"What |I| costs and gains: {where}",
            "Accuracy, search time and memory against the number of candidates sampled per step.",
            [panel for panel in panels if panel.series],
        ),
    ]  # fmt: skip


def _panel(measure: str, found: dict[int, dict[str, Interval]], paper: pd.DataFrame) -> Panel:
    title, _, column = MEASURES[measure]
    ours = {n: measured[measure] for n, measured in found.items() if measured[measure].mean is not None}
    series: list[Series] = []
    if ours:
        means, spread = [i.mean for i in ours.values()], [i.half_width for i in ours.values()]
        series.append(Series("ours", list(ours), means, "line", 0, spread))
    if len(paper) and column:
        quoted: list[Any] = paper[column].tolist()
        series.append(Series("paper (quoted)", paper.index.tolist(), quoted, "line", 1, dashed=True))
    return Panel(title, "|I|", title, series)


SECTION = Section("samples", "Candidates per step (Table 2)", 24, samples)
