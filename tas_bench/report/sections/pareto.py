"""Accuracy against macs: every final training, the front of all, how much of the plane each method dominates."""

from __future__ import annotations

import pandas as pd

from tas_bench.report.parts import Cell, Note, Panel, Part, Plot, Section, Series, Table, number, text
from tas_bench.report.source import Source, of_problem
from tas_bench.report.stats import front, hypervolume, mean_interval
from tas_bench.report.table1 import Manifest, other_schedule, published


def pareto(source: Source) -> list[Part]:
    """One panel per problem, one table."""
    panels, lines = [], []
    finals = source.finals
    for problem in source.problems:
        mine = of_problem(finals, problem)
        if mine.empty:
            continue
        full = _unpruned(source.of(problem), problem)
        panels.append(_panel(source, mine, problem))
        if full:
            lines += [_line(source, mine, name, problem, full) for name in source.labels]
    if not panels:
        return []
    parts: list[Part] = [
        Plot(
            "pareto", "Accuracy against macs",
            "Test accuracy of final trainings against the macs of their sizes, and the front that none is beyond.",
            panels,
        )
    ]  # fmt: skip
    if lines:
        header = ("Method", "Problem", "Hypervolume", "Seeds")
        parts.append(Table("hypervolume", "Hypervolume of each method's final trainings", header, lines))
        parts.append(
            Note(
                "Hypervolume: accuracy in % times the share of the unpruned network's macs that is saved at it or "
                "above, of one seed's trainings in all transfer modes; mean ± 95 % interval over seeds that have "
                "them all."
            )
        )
    return parts


def _unpruned(used: pd.DataFrame, problem: Manifest) -> float | None:
    """The unpruned network's macs, from the teacher's row or from a budget that is a share of them."""
    teacher = used.loc[used["kind"] == "teacher", "macs"].dropna()
    if len(teacher):
        return float(teacher.iloc[0])
    budgets = used.loc[used["budget_cost"].fillna("macs") == "macs", "budget"].dropna()
    return float(budgets.iloc[0]) / float(problem["keep"]) if len(budgets) and problem["keep"] else None


def _panel(source: Source, mine: pd.DataFrame, problem: Manifest) -> Panel:
    series = []
    for name, label in source.labels.items():
        points = mine[mine["method"] == name].sort_values("macs")
        if len(points):
            x, y = (points["macs"] / 1e6).tolist(), points["accuracy"].tolist()
            series.append(Series(label, x, y, "points", source.colour(name)))
    edge = front(zip(mine["macs"] / 1e6, mine["accuracy"], strict=True))
    series.append(Series("front", [x for x, _ in edge], [y for _, y in edge], "steps", None, dashed=True))
    teacher = source.of(problem)
    teacher = teacher[teacher["kind"].eq("teacher") & teacher["accuracy"].notna()]
    if len(teacher):
        series.append(Series("unpruned", (teacher["macs"] / 1e6).tolist(), teacher["accuracy"].tolist(), "points"))
    for number_ in () if other_schedule(source.of(problem)) else (1, 3):  # whose accuracies would be far off
        paper = of_problem(published(f"table{number_}"), problem)
        if len(paper):
            x, y = (paper["macs"] / 1e6).tolist(), paper["accuracy"].tolist()
            series.append(Series(f"paper, Table {number_} (quoted)", x, y, "points", 5 + number_, hollow=True))
    return Panel(source.heading(problem), "Macs, millions", "Test accuracy, %", series)


def _line(source: Source, mine: pd.DataFrame, method: str, problem: Manifest, full: float) -> tuple[Cell, ...]:
    seeds = mine[mine["method"] == method].groupby("seed")
    areas = [
        hypervolume(zip(each["macs"], each["accuracy"], strict=True), full)
        for _, each in seeds if each["transfer"].nunique() == len(problem["transfers"])
    ]  # fmt: skip
    found = mean_interval(areas)
    where = source.heading(problem)
    volume = number(found.mean, "{:.2f}", found.half_width)
    return text(source.label(method)), text(where), volume, number(found.n, "{:.0f}")


SECTION = Section("pareto", "Accuracy against macs", 30, pareto)
