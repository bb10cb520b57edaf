"""What finding a size costs: all jobs that a method's plan asked for, teacher and final trainings apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from tas_bench.report.parts import Cell, Note, Panel, Part, Plot, Section, Series, Table, number, text
from tas_bench.report.render import scaled
from tas_bench.report.sections.comparisons import REFERENCE
from tas_bench.report.source import RESULTS, Source
from tas_bench.report.stats import Interval, mean_interval
from tas_bench.report.table1 import Sweep, published
from tas_bench.text import duration

HEADER = ("Method", "Device time", "Training macs", "Against TAS", "Jobs", "Seeds", "Quoted GPU-hours")


@dataclass(frozen=True)
class Spent:
    """One method's searches: a line per seed whose search is over, and device-seconds by kind of job."""

    seeds: pd.DataFrame
    by_kind: pd.DataFrame


def search_cost(source: Source) -> list[Part]:
    """A table and bars per problem."""
    parts: list[Part] = []
    for problem in source.problems:
        spent = {name: _spent(source.of(problem), name, problem) for name in source.labels}
        name = f"search_cost-{problem['dataset']}-{problem['backbone']}"
        where = source.heading(problem)
        if any(len(each.seeds) for each in spent.values()):
            lines = [_line(source, name_, spent) for name_ in spent]
            parts.append(Table(name, f"Search cost: {where}", HEADER, lines))
        if (series := _bars(source, spent)) and any(map(any, (s.y for s in series))):
            panel = Panel(where, "", "Device-seconds per seed", series, stacked=True)
            alt = "Device-seconds of a method's search, mean over seeds, by kind of job."
            parts.append(Plot(name, f"Search cost by kind of job: {where}", alt, [panel]))
    devices = sorted(source.rows["device"].dropna().unique())
    if len(devices) > 1:
        parts.append(Note(f"Device times are of several devices ({', '.join(devices)}): compare training macs."))
    if parts:
        parts.append(
            Note(
                "Mean ± 95 % interval over the seeds whose search is over; start-up, evaluation and failed "
                "attempts included. Quoted: TAS (NeurIPS 2019), Table 2 (CIFAR-10, one V100), author response."
            )
        )
    return parts


def _spent(used: pd.DataFrame, method: str, problem: Sweep) -> Spent:
    mine = used[used["method"] == method]
    over = []
    for seed in problem["seeds"]:
        plan = mine[mine["seed"] == seed]
        search = plan[~plan["kind"].isin(RESULTS)]
        # a plan asks for its teacher and final trainings once its search is over
        done = len(plan) > len(search) or (not problem["transfers"] and len(search) > 0)
        if done and search["status"].notna().all():
            over.append(seed)
    search = mine[~mine["kind"].isin(RESULTS) & mine["seed"].isin(over)]
    measures = ["device_seconds", "train_macs"]
    seeds = search.groupby("seed")[measures].sum().reindex(over, fill_value=0)
    seeds["jobs"] = search.groupby("seed").size().reindex(over, fill_value=0)
    by_kind = search.pivot_table(values=measures[0], index="kind", columns="seed", aggfunc="sum", fill_value=0)
    return Spent(seeds, by_kind)


def _line(source: Source, method: str, spent: dict[str, Spent]) -> tuple[Cell, ...]:
    seeds = spent[method].seeds
    found = {measure: mean_interval(seeds[measure]) for measure in ("device_seconds", "train_macs", "jobs")}
    reference = spent[REFERENCE].seeds["train_macs"].mean() if REFERENCE in spent else None
    quoted = published("search_cost").drop_duplicates("method").set_index("method")
    hours = Cell("")
    if method in quoted.index:
        bound = quoted["bound"].fillna("")[method]
        hours = Cell(f"{bound} {quoted['gpu_hours'][method]:g}".strip(), float(quoted["gpu_hours"][method]))
    ratio = found["train_macs"].mean / reference if reference and found["train_macs"].mean is not None else None
    return (
        text(source.label(method)),
        _spread(found["device_seconds"], duration),
        _spread(found["train_macs"], scaled),
        number(ratio, "x {:.2f}"),
        number(found["jobs"].mean, "{:.4g}"),
        Cell(f"{len(seeds)} of {len(source.manifest['seeds'])}", float(len(seeds))),
        hours,
    )


def _spread(found: Interval, how: Callable[[float, float | None], str]) -> Cell:
    return number(found.mean, lambda mean: how(mean, found.half_width) if mean else "0")


def _bars(source: Source, spent: dict[str, Spent]) -> list[Series]:
    kinds = sorted({str(kind) for each in spent.values() for kind in each.by_kind.index})
    names = [source.label(name) for name in spent]
    means = {name: each.by_kind.mean(axis=1) for name, each in spent.items()}
    return [
        Series(kind, names, [float(means[name].get(kind, 0.0)) for name in spent], "bars", i)
        for i, kind in enumerate(kinds)
    ]


SECTION = Section("search_cost", "Search cost", 50, search_cost)
