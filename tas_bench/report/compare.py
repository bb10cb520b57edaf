"""Two results directories side by side: which cells of Table 1 changed, and whether beyond the noise of seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd
from scipy.special import stdtrit

from tas_bench.report.ledger import ledger
from tas_bench.report.render import Grid
from tas_bench.report.source import Source
from tas_bench.report.stats import Interval, mean_interval
from tas_bench.text import one_line

CELL = ["dataset", "backbone", "method", "transfer"]

COLUMNS = [
    *CELL, "first", "first_n", "second", "second_n", "difference", "half_width", "how", "verdict",
]  # fmt: skip
"""A cell's mean accuracies in percent, the second less the first with its 95 % interval, and what that says."""


def compare(first: Source, second: Source) -> pd.DataFrame:
    """One line per cell that either has: its final trainings that ended well.

    Where both have a seed, shared seeds alone are compared, one by one ("paired"), else the means (Welch).
    """
    both = [source.finals.set_index([*CELL, "seed"])["accuracy"] for source in (first, second)]
    cells = dict.fromkeys(index[:-1] for found in both for index in found.index)
    lines = []
    for cell in cells:
        one, other = (_of(found, cell) for found in both)
        shared = one.index.intersection(other.index)
        if len(shared):
            one, other, how = one[shared], other[shared], "paired"
            difference = mean_interval(other - one)
        else:
            how, difference = "Welch" if len(one) and len(other) else "", welch(list(one), list(other))
        lines.append(
            dict(zip(CELL, cell, strict=True))
            | {
                "first": one.mean(), "first_n": len(one), "second": other.mean(), "second_n": len(other),
                "difference": difference.mean, "half_width": difference.half_width, "how": how,
                "verdict": verdict(one, other, difference),
            }
        )  # fmt: skip
    return pd.DataFrame(lines, columns=COLUMNS)


def _of(accuracies: pd.Series[Any], cell: tuple[Any, ...]) -> pd.Series[Any]:
    """A cell's accuracies by seed."""
    mine = [index[:-1] == cell for index in accuracies.index]
    return accuracies[mine].groupby(level="seed").mean()


def welch(one: Sequence[float], other: Sequence[float]) -> Interval:
    """Mean of the second less that of the first, with Welch's 95 % interval; n is that of the smaller."""
    n = min(len(one), len(other))
    if n == 0:
        return Interval(None, None, 0)
    mean = statistics.fmean(other) - statistics.fmean(one)
    if n < 2:
        return Interval(mean, None, n)
    parts = [statistics.variance(values) / len(values) for values in (one, other)]
    whole = sum(parts)
    if whole == 0:
        return Interval(mean, 0.0, n)
    shares = ((part / whole) ** 2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True))
    return Interval(mean, float(stdtrit(1 / sum(shares), 0.975)) * math.sqrt(whole), n)


def verdict(one: pd.Series[Any], other: pd.Series[Any], difference: Interval) -> str:
    """What became of a cell, in a word or two."""
    if not len(one) or not len(other):
        return "only in the second" if len(other) else "only in the first"
    if one.sort_index().equals(other.sort_index()):
        return "the same"
    if difference.half_width is None:
        return "one seed: not settled"
    assert difference.mean is not None
    return "changed" if abs(difference.mean) > difference.half_width else "within noise"


def search_costs(first: Source, second: Source) -> pd.DataFrame:
    """Search costs of methods that both have, per problem: device-seconds and training macs, and their ratios."""
    lines = []
    for problem in first.problems:
        costs = [_costs(source, problem) for source in (first, second)]
        for method in [name for name in costs[0].index if name in costs[1].index]:
            line = {"dataset": problem["dataset"], "backbone": problem["backbone"], "method": method}
            for measure in ("device_seconds", "train_macs"):
                one, other = (cost.loc[method, f"search_{measure}_mean"] for cost in costs)
                known = pd.notna(one) and pd.notna(other) and one > 0
                line |= {f"first_{measure}": one, f"second_{measure}": other}
                line |= {f"{measure}_ratio": other / one if known else None}
            lines.append(line)
    return pd.DataFrame(lines)


def _costs(source: Source, problem: Any) -> pd.DataFrame:
    return ledger(source.of(problem), source.manifest).set_index("method")


def unlike(first: Source, second: Source) -> list[str]:
    """In what two directories differ besides their figures, one line each."""
    told = []
    fixed = [source.manifest["fixed"] for source in (first, second)]
    for key in sorted({*fixed[0], *fixed[1]}):
        one, other = (settings.get(key, "not there") for settings in fixed)
        if one != other:
            told.append(f"{key}: {one}, then {other}")
    for column in ("commit", "device", "precision", "versions"):
        one, other = (sorted(source.rows[column].dropna().unique()) for source in (first, second))
        if one != other:
            told.append(f"{column}: {', '.join(one) or 'none'}, then {', '.join(other) or 'none'}")
    return told


def cells_grid(cells: pd.DataFrame, first: Source, second: Source) -> Grid:
    """The cells as text."""
    labels, lines = second.labels | first.labels, []
    cell: Any
    for cell in cells.fillna({"difference": math.nan, "half_width": math.nan}).itertuples():
        spread = "" if math.isnan(cell.half_width) else f" ± {cell.half_width:.2f}"
        means = [
            f"{m:.2f} (n={n})" if n else "" for m, n in ((cell.first, cell.first_n), (cell.second, cell.second_n))
        ]
        difference = "" if math.isnan(cell.difference) else f"{cell.difference:+z.2f}{spread}"
        name = one_line(f"{labels.get(cell.method, cell.method)} {cell.transfer}")
        lines.append((name, f"{cell.dataset} {cell.backbone}", *means, difference, cell.how, cell.verdict))
    header = ("", "problem", "first", "second", "second - first", "by", "verdict")
    return Grid("Accuracy %, test images", header, lines)


def costs_grid(costs: pd.DataFrame, first: Source) -> Grid:
    """The search costs as text."""
    lines = []
    cost: Any
    for cost in costs.fillna(math.nan).itertuples():
        ratios = cost.device_seconds_ratio, cost.train_macs_ratio
        told = ["" if math.isnan(ratio) else f"x {ratio:.2f}" for ratio in ratios]
        lines.append((one_line(first.label(cost.method)), f"{cost.dataset} {cost.backbone}", *told))
    return Grid("Search cost, second / first", ("", "problem", "device time", "training macs"), lines)
