"""What a tuning found: on the terminal, and as Markdown, CSV, a picture and an Optuna study beside the rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from tas_bench.files import log_folder, remote, write_in_folder
from tas_bench.plans import NamedPlan, Plans
from tas_bench.reading import load
from tas_bench.replay import lookup_in
from tas_bench.report.cells import cells_of, heats
from tas_bench.report.drawn import drawn
from tas_bench.report.look import SCALES
from tas_bench.report.parts import Heat
from tas_bench.report.render import Grid, csv, markdown
from tas_bench.store import Store
from tas_bench.sweep import Sweep
from tas_bench.tune.advice import Advice, advise
from tas_bench.tune.figure import figure
from tas_bench.tune.study import importances, keep_study, pareto
from tas_bench.tune.tuning import Tuner, Tuning
from tas_bench.tune.views import points_of, searches_of, traces_of

if TYPE_CHECKING:
    from rich.console import Console

FEW = 30
"""Trials below which importances are said to be rough."""


@dataclass(frozen=True)
class Tuned:
    """One tuning of a sweep as far as its rows bring it: of one problem, from one seed.

    Attributes:
        name: of its plan; the study is named after it and the sweep.
    """

    name: str
    tuner: Tuner
    searches: pd.DataFrame
    traces: pd.DataFrame
    cells: pd.DataFrame

    @property
    def advice(self) -> Advice | None:
        """What to take."""
        return advise(self.tuner.trials, self.tuner.confirmed, self.tuner.tuning.axes)


def read(sweep: Sweep, results: Path, failed: bool = True) -> list[Tuned]:
    """The tunings of a sweep, by running their plans again; nothing is written.

    Args:
        failed: whether a job that failed is an answer: not while it may be tried again.

    Raises:
        StoreDamagedError: a row cannot be read back.
    """
    lookup = lookup_in(Store(results), lambda _key: failed)
    trajectories = load(results, table="trajectories")
    tuned: list[Tuned] = []
    for plan in sweep.plans():
        tuning = next((m for m in sweep.methods if m.name == plan.method), None)
        if isinstance(tuning, Tuning):
            tuner = Tuner(tuning, plan.problem, plan.seed)
            Plans([NamedPlan(plan.name, plan.method, plan.seed, plan.problem, tuner.plan())], lookup)
            searches, traces = searches_of(tuner, trajectories), traces_of(tuner, trajectories)
            logs = [axis.name for axis in tuning.axes if axis.log]
            cells = cells_of(searches, logs) if len(searches) else pd.DataFrame()
            tuned.append(Tuned(plan.name, tuner, searches, traces, cells))
    return tuned


def journal_of(results: Path) -> Path:
    """Where the studies lie; of an object store's results, on this machine."""
    return (results if remote(results) is None else log_folder(results)) / "_tune" / "optuna.log"


def keep_studies(sweep: Sweep, results: Path, failed: bool = True) -> list[Tuned]:
    """Bring the studies up to what the rows say."""
    tuned = read(sweep, results, failed)
    for one in tuned:
        keep_study(one.tuner, f"{sweep.name}-{one.name}", journal_of(results), points_of(one.traces))
    return tuned


def show(sweep: Sweep, results: Path, console: Console) -> None:
    """Print what was found, and write it into `_report`."""
    for one in keep_studies(sweep, results):
        grids = list(grids_of(one))
        for grid, paint in grids:
            console.print(Text(grid.title, style="bold"), _colored(grid, paint), sep="\n", soft_wrap=True)
        study = f"study '{sweep.name}-{one.name}': optuna-dashboard {journal_of(results)}"
        lines = [*notes_of(one), study]
        for line in lines:
            console.print(Text(line), soft_wrap=True)
        _write(one, sweep, results / "_report", [grid for grid, _ in grids], lines)
        console.print(Text(f"tables and picture: {results / '_report'}/tune-{one.name}.*"), soft_wrap=True)


def _write(one: Tuned, sweep: Sweep, folder: Path, grids: list[Grid], lines: list[str]) -> None:
    page = markdown(f"Tuning {sweep.heading}", grids, lines)
    picture_line = f"\n![heat maps, F_cost over epochs, trials](tune-{one.name}.png)\n" if len(one.cells) else ""
    write_in_folder(folder / f"tune-{one.name}.md", (page + picture_line).encode())
    write_in_folder(folder / f"tune-{one.name}.csv", csv(one.searches).encode())
    if len(one.cells):
        picture = figure(f"tune-{one.name}", one.cells, one.searches, one.traces, pareto(one.tuner))
        write_in_folder(folder / f"tune-{one.name}.png", drawn(picture)["png"])


# ---- tables

Paint = Callable[[int, int], str]
"""The style of a cell, by line and column."""


def grids_of(one: Tuned) -> Iterator[tuple[Grid, Paint]]:
    """Heat maps, the Pareto front and importances, as far as there is something to tell."""
    if not len(one.cells):
        return
    yield from map(_painted, heats(one.cells))
    if (front := _front(one)).lines:
        yield front, lambda _line, _column: ""
    if found := importances(one.tuner):
        names = [axis.name for axis in one.tuner.tuning.axes]
        lines = [(name, *(f"{shares.get(axis, 0):.0%}" for axis in names)) for name, shares in found.items()]
        n = sum(trial.state == "COMPLETE" for trial in one.tuner.trials)
        rough = f" (rough: {n} trials)" if n < FEW else ""
        yield Grid(f"what decides each objective: fANOVA{rough}", ("", *names), lines), lambda _line, _column: ""


def _painted(heat: Heat) -> tuple[Grid, Paint]:
    """A heat map as a table, and its colours."""
    low, high = heat.ends
    shades = SCALES[heat.scale]

    def shade(value: float) -> str:
        return "" if math.isnan(value) else f"black on {shades[round(2 * (value - low) / ((high - low) or 1))]}"

    styles = [["", *map(shade, line)] for line in heat.values]  # noqa: PD011 (of a Heat, not of a frame)
    header = (heat.y, *(f"{heat.x} = {column}" for column in heat.columns))
    lines = [(row, *words) for row, words in zip(heat.rows, heat.words, strict=True)]
    return Grid(f"{heat.title}: {heat.y} x {heat.x}", header, lines), lambda line, column: styles[line][column]


def _front(one: Tuned) -> Grid:
    """The trials that none other beats in every objective."""
    names = [axis.name for axis in one.tuner.tuning.axes]
    by_number = {trial.number: trial for trial in one.tuner.trials}
    lines = []
    for trial in (by_number[number] for number in pareto(one.tuner)):
        params = [f"{trial.params[name]:.4g}" for name in names]
        accuracy = "" if trial.accuracy is None else f"{trial.accuracy:.2%}"
        gap = "" if trial.gap is None else f"{trial.gap:.1%}"
        cost = "" if trial.cost is None else f"{trial.cost:.3g}"
        lines.append((str(trial.number), *params, f"{trial.hits} of {len(trial.runs)}", gap, accuracy, cost))
    header = ("trial", *names, "hits", "|F - R| / R", "accuracy", "search macs")
    return Grid(f"Pareto front: {', '.join(one.tuner.tuning.objectives)}", header, lines)


def notes_of(one: Tuned) -> list[str]:
    """What the tables do not say, and the advice."""
    trials, tuning = one.tuner.trials, one.tuner.tuning
    states = [trial.state for trial in trials]
    told = f"{len(trials)} of {tuning.count} trials by {tuning.sampler} (seed {one.tuner.seed})"
    told += "".join(
        f", {states.count(state)} {word}"
        for state, word in (("PRUNED", "given up"), ("FAIL", "failed"))
        if state in states
    )
    advice = one.advice
    return [told, *(advice.lines if advice is not None else ("no advice: no trial has come to its end",))]


def _colored(grid: Grid, paint: Paint) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(grid.header):
        table.add_column(Text(name), justify="right" if i else "left")
    for i, line in enumerate(grid.lines):
        table.add_row(*(Text(cell, style=paint(i, j)) for j, cell in enumerate(line)))
    return table
