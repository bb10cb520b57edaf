"""Anytime curves: the best validated accuracy so far against what the search has spent."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tas_bench.report.ledger import searched, searching
from tas_bench.report.parts import Note, Panel, Part, Plot, Section, Series, Style
from tas_bench.report.sections.learning import thin
from tas_bench.report.source import Source, key_of

SPENT = {"device_seconds": "Device-seconds", "train_macs": "Training macs"}
BY_WEIGHTS_OF_THEIR_OWN = ("candidate",)
"""Kinds whose accuracy is of a network trained alone; others share a supernet's weights, and are drawn dashed."""

NOT_JUDGED = ("teacher", "pruning")
"""What is pruned was trained on the validation images too."""


def anytime(source: Source) -> list[Part]:
    """Two panels per problem."""
    parts: list[Part] = []
    for problem in source.problems:
        used, ended = source.of(problem), searched(source.of(problem), problem)
        under_way = used[~used["method"].isin(ended["method"]) & used["status"].notna()]
        mine = pd.concat([ended[searching(ended)], under_way[searching(under_way)]])
        judged = mine["val_accuracy"].where(~mine["kind"].isin(NOT_JUDGED))
        if judged.isna().all():
            continue
        panels = [
            Panel(title, title, "Best so far, %", _series(source, mine.assign(val_accuracy=judged), by, ended))
            for by, title in SPENT.items()
        ]
        where = source.heading(problem)
        alt = "Best validation accuracy so far against device-seconds and against training macs, per method."
        name = f"anytime-{key_of(problem)}"
        parts.append(Plot(name, f"Best validated accuracy so far: {where}", alt, panels))
    if parts:
        parts.append(
            Note(
                "Mean over seeds whose search is over, if there is one; jobs one after another in the order they "
                "ended. Dashed, hollow: accuracies in a supernet, which say little of what the size reaches when "
                "it is trained alone."
            )
        )
    return parts


def _series(source: Source, jobs: pd.DataFrame, by: str, ended: pd.DataFrame) -> list[Series]:
    series = []
    for name in source.labels:
        mine = jobs[jobs["method"] == name]
        runs = [run for _, each in mine.groupby("seed") if len((run := _run(each, by))[0])]
        if runs:
            x, y = mean_of(runs)
            alone = set(mine["kind"]) <= set(BY_WEIGHTS_OF_THEIR_OWN)
            style: Style = "steps" if len(x) > 1 else "points"
            label = source.label(name) + ("" if name in set(ended["method"]) else ", under way")
            series.append(Series(label, x, y, style, source.colour(name), dashed=not alone, hollow=not alone))
    return series


def _run(jobs: pd.DataFrame, by: str) -> tuple[np.ndarray, np.ndarray]:
    """One seed's search: what was spent when each job ended, and the best until then, from the first one on.

    What failed and what is not judged itself, a supernet, has cost as well.
    """
    jobs = jobs.sort_values("ended")
    best = (100 * jobs["val_accuracy"].where(jobs["status"].eq("ok"))).cummax().ffill()
    spent = jobs[by].fillna(0).cumsum()
    return spent[best.notna()].to_numpy(float), best.dropna().to_numpy(float)


def mean_of(runs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[list[float], list[float]]:
    """Mean over runs of step functions, from where the last of them has begun; of points, the mean point."""
    if all(len(x) == 1 for x, _ in runs):
        return [float(np.mean([x for x, _ in runs]))], [float(np.mean([y for _, y in runs]))]
    begin = max(x[0] for x, _ in runs)
    grid = np.unique(np.concatenate([x[x >= begin] for x, _ in runs]))
    grid = grid[thin(len(grid))]
    best = [y[np.searchsorted(x, grid, side="right") - 1] for x, y in runs]
    return grid.tolist(), np.mean(best, axis=0).tolist()


SECTION = Section("anytime", "Search, at any time", 60, anytime)
