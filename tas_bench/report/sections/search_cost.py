"""What finding a size costs: the ledger of every problem, and what the slots of every run did."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tas_bench.report.ledger import REFERENCE, accounts, ledger, searched, searching
from tas_bench.report.parts import Cell, Note, Panel, Part, Plot, Section, Series, Table, number, text
from tas_bench.report.render import scaled
from tas_bench.report.source import Source, key_of
from tas_bench.report.table1 import published
from tas_bench.text import duration

HEADER = (
    "Method", "Search: device time", "Search: training macs", "Device time / TAS", "Macs / TAS", "Jobs",
    "Teacher: device time", "Finals: device time", "Hours at the paper's schedule (estimate)", "Quoted GPU-hours",
    "Quoted / TAS", "Seeds",
)  # fmt: skip
RUNS = ("Run", "Wall", "Slots", "Jobs", "Busy", "Idle", "Not booked")


def search_cost(source: Source) -> list[Part]:
    """A table and bars per problem; a table of runs."""
    parts: list[Part] = []
    for problem in source.problems:
        used, where = source.of(problem), source.heading(problem)
        costs = ledger(used, problem)
        if not costs["n"].any():
            continue
        name = f"search_cost-{key_of(problem)}"
        lines = [_line(source, row) for row in costs.itertuples()]
        parts.append(Table(name, f"Search cost: {where}", HEADER, lines))
        series = _bars(source, searched(used, problem))
        if any(map(any, (s.y for s in series))):
            panel = Panel(where, "", "Device-seconds per seed", series, stacked=True)
            alt = "Device-seconds of a method's search, mean over seeds whose search is over, by kind of job."
            parts.append(Plot(name, f"Search cost by kind of job: {where}", alt, [panel]))
    devices = sorted(source.rows["device"].dropna().unique())
    if len(devices) > 1:
        parts.append(Note(f"Device times are of several devices ({', '.join(devices)}): compare training macs."))
    if parts:
        parts += [Note(line) for line in NOTES]
    if len(runs := accounts(source.rows, source.runs)):
        caption = "Slots x wall = busy + idle: busy as the rows tell, idle as the drivers counted"
        parts.append(Table("runs", caption, RUNS, [_run(row) for row in runs.itertuples()]))
    return parts


NOTES = (
    "Mean ± 95 % interval over the seeds whose search is over (finals: over those that have them in all modes); "
    "start-up, failed attempts and evaluation included, which in device time, not in macs, is a pass over the "
    "validation half after every epoch of a candidate. A shared supernet counts in full for every method that "
    "uses it: what the method would cost alone. Over TAS: mean of the ratios on the same seed.",
    "Estimate: the device time it had here, were each training as long as the paper's (300 epochs; searches 600) "
    "on 50,000 images. Quoted: TAS (NeurIPS 2019), Table 2 (CIFAR-10, one V100), author response.",
)


def _line(source: Source, row: Any) -> tuple[Cell, ...]:
    quoted = published("search_cost").drop_duplicates("method").set_index("method")
    hours, ratio = Cell(""), Cell("")
    if row.method in quoted.index:
        bound = quoted["bound"].fillna("")[row.method]
        told = float(quoted["gpu_hours"][row.method])
        hours = Cell(f"{bound} {told:g}".strip(), told)
        times = told / float(quoted["gpu_hours"][REFERENCE])
        ratio = Cell(f"{bound} x {times:.3g}".strip(), times)
    return (
        text(source.label(row.method)),
        _spread(row.search_device_seconds_mean, row.search_device_seconds_half_width),
        number(row.search_train_macs_mean, lambda m: scaled(m, _known(row.search_train_macs_half_width))),
        number(row.time_ratio, "x {:.2f}"),
        number(row.macs_ratio, "x {:.2f}"),
        number(row.jobs_mean, "{:.4g}"),
        _spread(row.teacher_device_seconds_mean, row.teacher_device_seconds_half_width),
        _spread(row.final_device_seconds_mean, row.final_device_seconds_half_width),
        number(row.paper_hours, "{:.3g}"),
        hours,
        ratio,
        Cell(f"{row.n} of {len(source.manifest['seeds'])}", float(row.n)),
    )


def _run(row: Any) -> tuple[Cell, ...]:
    return (
        text(f"{row.started:%Y-%m-%d %H:%M:%S}"),
        number(row.wall_seconds, duration),
        number(row.slots, "{:.3g}"),
        number(row.jobs, "{:.0f}"),
        number(100 * row.busy_seconds / row.slot_seconds if row.slot_seconds else None, "{:.1f} %"),
        number(100 * row.idle_seconds / row.slot_seconds if row.slot_seconds else None, "{:.1f} %"),
        number(None if row.unbooked is None else 100 * row.unbooked, "{:.1f} %"),
    )


def _spread(mean: Any, half_width: Any) -> Cell:
    return number(mean, lambda value: duration(value, _known(half_width)) if value else "0")


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _bars(source: Source, used: pd.DataFrame) -> list[Series]:
    search = used[searching(used)]
    sums = search.groupby(["kind", "method", "seed"])["device_seconds"].sum()
    means = sums.groupby(["kind", "method"]).mean()
    labels = [source.label(name) for name in source.labels]
    return [
        Series(kind, labels, [float(means.get((kind, name), 0.0)) for name in source.labels], "bars", i)
        for i, kind in enumerate(sorted(set(search["kind"])))
    ]


SECTION = Section("search_cost", "Search cost", 50, search_cost)
