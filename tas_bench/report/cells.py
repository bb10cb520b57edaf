"""Searches by lambda_cost and t: how often and how well they met the budget, as tables and heat maps."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from tas_bench.report.parts import Heat, Panel, Series
from tas_bench.report.stats import mean_interval, wilson

ROWS, COLUMNS = "lambda_cost", "t"

DISTINCT = 8
"""Values of a setting that a heat map has a line for; more of them go into `BINS`."""

BINS = 5


def cells_of(searches: pd.DataFrame, logs: Collection[str] = ()) -> pd.DataFrame:
    """One line per cell of lambda_cost and t: searches, hits, hit-rate with Wilson's interval, means of measures.

    `distance` is the mean of gaps without their sign, `inside` that of the searches' shares of epochs in the band.
    Searches that failed for their machine's sake are left out, diverged ones are no hits.

    Args:
        logs: settings whose values are binned on a logarithmic scale.
    """
    told = searches[searches["status"].isin(["ok", "diverged"])].copy()
    for name in (ROWS, COLUMNS):
        told[name] = _places(told[name], name in logs)
    grouped = told.groupby([ROWS, COLUMNS], observed=True)
    cells = grouped.agg(
        n=("hit", "size"), hits=("hit", "sum"), gap=("gap", "mean"),
        gap_half_width=("gap", lambda gaps: mean_interval(gaps.dropna()).half_width),
        distance=("gap", lambda gaps: gaps.abs().mean()), inside=("inside", "mean"),
        oscillation=("oscillation", "mean"), accuracy=("accuracy", "mean"), stopped=("stopped", "sum"),
    ).reset_index()  # fmt: skip
    cells["hit_rate"] = cells["hits"] / cells["n"]
    bounds = [wilson(int(hits), int(n)) for hits, n in zip(cells["hits"], cells["n"], strict=True)]
    cells["hit_low"], cells["hit_high"] = ([pair[i] for pair in bounds] for i in (0, 1))
    return cells


def swing(shares: pd.Series[float]) -> float | None:
    """Oscillation of F_cost: mean change from an epoch to the next over the second half, as a share of R."""
    steps = np.abs(np.diff(shares.to_numpy(dtype=float)))
    late = steps[len(steps) // 2 :]
    return float(late.mean()) if len(late) else None


def inside(traces: pd.DataFrame) -> float:
    """The share of a search's epochs after which its argmax was in the band: of `share` (F_cost / R) and `t`."""
    return float(((traces["share"] - 1).abs() <= traces["t"]).mean())


def heats(cells: pd.DataFrame) -> list[Heat]:
    """Heat maps of error, hit-rate and, where it is known, oscillation and accuracy."""
    hits = [f"{hits} of {n}" for hits, n in zip(cells["hits"], cells["n"], strict=True)]
    gaps = [f"{gap:+z.1%}" for gap in cells["gap"]]
    maps = [
        _heat(cells, "gap", gaps, "(F - R) / R of the argmax, mean", "zero"),
        _heat(cells, "hit_rate", hits, "argmax in the band", "share"),
    ]
    for name, title, scale in (
        ("oscillation", "oscillation of F_cost / R", "low"), ("accuracy", "validation accuracy", "high")
    ):  # fmt: skip
        if cells[name].notna().any():
            maps.append(_heat(cells, name, [f"{value:.1%}" for value in cells[name]], title, scale))
    return maps


def _heat(cells: pd.DataFrame, value: str, told: list[str], title: str, scale: Any) -> Heat:
    rows, columns = (cells[name].cat.remove_unused_categories() for name in (ROWS, COLUMNS))
    shape = len(rows.cat.categories), len(columns.cat.categories)
    values, words = np.full(shape, np.nan), np.full(shape, "", dtype=object)
    values[rows.cat.codes, columns.cat.codes] = cells[value]
    words[rows.cat.codes, columns.cat.codes] = [
        w if pd.notna(v) else "" for w, v in zip(told, cells[value], strict=True)
    ]
    names = tuple(rows.cat.categories), tuple(columns.cat.categories)
    return Heat(title, COLUMNS, ROWS, names[1], names[0], values.tolist(), words.tolist(), scale)


def lines(traces: pd.DataFrame, searches: pd.DataFrame) -> Panel:
    """F_cost over epochs, the mean over searches of a lambda_cost that were not given up.

    Args:
        traces: `job_id`, `epoch`, `share` (F_cost / R) and `lambda_cost`, a line per epoch of a search.
        searches: `job_id` and `stopped`.
    """
    series = []
    traces = traces[~traces["job_id"].isin(searches.loc[searches["stopped"], "job_id"])]
    places = _places(traces["lambda_cost"], log=True)
    for number, (name, each) in enumerate(traces.groupby(places, observed=True)):
        means = each.groupby("epoch")["share"].mean()
        series.append(Series(f"lambda_cost {name}", means.index.tolist(), means.tolist(), "line", number))
    if series:
        ends = [float(traces["epoch"].min()), float(traces["epoch"].max())]
        series.append(Series("R", ends, [1.0, 1.0], "rule", None, dashed=True))
    return Panel("F_cost over epochs, mean over searches", "epoch", "F_cost / R", series)


def _places(values: pd.Series[float], log: bool) -> pd.Series[Any]:
    """Values as ordered labels: themselves where they are few, else bins of equal width."""
    known = sorted(values.unique())
    if len(known) <= DISTINCT:
        labels = [f"{value:g}" for value in values]
        names = [f"{value:g}" for value in known]
    else:
        spread = np.geomspace if log and known[0] > 0 else np.linspace
        edges = spread(known[0], known[-1], BINS + 1)
        names = [f"{low:.3g} - {high:.3g}" for low, high in pairwise(edges)]
        labels = [names[i] for i in np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BINS - 1)]
    ordered = pd.CategoricalDtype(list(dict.fromkeys(names)), ordered=True)  # nearly equal values may read alike
    return pd.Series(labels, index=values.index).astype(ordered)
