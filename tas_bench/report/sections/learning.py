"""Learning curves, means over the jobs of a method and kind; where some ended earlier, over the longest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from tas_bench.report.parts import Panel, Part, Plot, Section, Series
from tas_bench.report.source import Source, key_of, of_problem

POINTS = 120
"""Epochs that are drawn of a long curve."""

MEASURES = {"val_accuracy": "Validation accuracy, %", "train_accuracy": "Training accuracy, %"}
"""The first that a kind has is drawn."""


def learning(source: Source) -> list[Part]:
    """A plot per problem, a panel per kind of job and transfer mode."""
    curves = source.curves.reindex(columns=["job_id", "epoch", *MEASURES])
    known = ["job_id", "dataset", "backbone", "method", "kind", "transfer"]
    found = curves.merge(source.used[known].drop_duplicates(), on="job_id")
    found.loc[found["kind"] == "teacher", "method"] = "teacher"  # every method asked for it
    found = found.drop_duplicates(["job_id", "epoch", "method"])
    parts: list[Part] = []
    for problem in source.problems:
        mine = of_problem(found, problem)
        panels = []
        for (kind, transfer), each in mine.groupby(["kind", mine["transfer"].fillna("")], sort=False):
            measure = next((name for name in MEASURES if each[name].notna().any()), None)
            if measure:
                title = f"{kind} {transfer}".strip()
                panels.append(Panel(title, "Epoch", MEASURES[measure], _series(source, each, measure)))
        if panels:
            name, where = f"learning-{key_of(problem)}", source.heading(problem)
            panels.sort(key=lambda panel: panel.title)
            alt = "Accuracy by epoch, mean over jobs, a line per method, a panel per kind of job."
            parts.append(Plot(name, f"Learning curves: {where}", alt, panels))
    return parts


def _series(source: Source, each: pd.DataFrame, measure: str) -> list[Series]:
    series = []
    for method, curve in each.groupby("method", sort=False):
        ends = curve.groupby("job_id")["epoch"].transform("max")
        longest = curve[ends == ends.max()]  # one set of trainings along the whole line
        jobs, more = longest["job_id"].nunique(), curve["job_id"].nunique() > longest["job_id"].nunique()
        values = (100 * longest[measure]).groupby(longest["epoch"]).agg(["mean", "std", "count"])
        half = values["std"] * stdtrit(np.maximum(values["count"] - 1, 1), 0.975) / np.sqrt(values["count"])
        keep = thin(len(values))
        x: list[Any] = values.index[keep].tolist()
        spread = [] if jobs < 2 else [None if np.isnan(h) else float(h) for h in half.iloc[keep]]
        label = f"{source.label(str(method))} (n = {jobs}{', the longest' if more else ''})"
        y = values["mean"].iloc[keep].tolist()
        series.append(Series(label, x, y, "line", source.colour(str(method)), spread))
    return series


def thin(count: int) -> np.ndarray:
    """Indices of at most `POINTS` of `count` points, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(int))


SECTION = Section("learning", "Learning curves", 70, learning)
