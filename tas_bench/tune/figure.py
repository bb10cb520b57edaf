"""The picture of a tuning: heat maps of error and hit-rate, F_cost over epochs, the Pareto front."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(cells: pd.DataFrame, searches: pd.DataFrame, traces: pd.DataFrame, front: Collection[int]) -> Figure:
    """Draw it.

    Args:
        cells, searches, traces: see `views`.
        front: numbers of the trials on the Pareto front.
    """
    from matplotlib.figure import Figure

    whole = Figure(figsize=(11, 8), layout="constrained")
    error, hits, lines, scatter = whole.subplots(2, 2).flat
    most = 1.6 * max(0.05, float(cells["gap"].abs().max()))  # pale enough to read on
    told = [f"{gap:+.1%}" for gap in cells["gap"]]
    _heat(error, cells, "gap", told, "(F - R) / R of the argmax, mean", ("RdBu_r", -most, most))
    told = [f"{hits} of {n}" for hits, n in zip(cells["hits"], cells["n"], strict=True)]
    _heat(hits, cells, "hit_rate", told, "argmax in the band", ("RdYlGn", 0.0, 1.0))
    _lines(lines, traces)
    _scatter(scatter, searches, front)
    return whole


def _heat(
    axes: Axes, cells: pd.DataFrame, value: str, told: list[str], title: str, colors: tuple[str, float, float]
) -> None:
    """A heat map of lambda_cost x t, every cell with its words."""
    rows, columns = (cells[name].cat.remove_unused_categories() for name in ("lambda_cost", "t"))
    grid = np.full((len(rows.cat.categories), len(columns.cat.categories)), np.nan)
    grid[rows.cat.codes, columns.cat.codes] = cells[value]
    name, low, high = colors
    axes.imshow(grid, cmap=name, vmin=low, vmax=high, aspect="auto", origin="lower", alpha=0.8)
    for row, column, words in zip(rows.cat.codes, columns.cat.codes, told, strict=True):
        axes.text(column, row, words, ha="center", va="center", color="black")
    axes.set_xticks(range(grid.shape[1]), list(columns.cat.categories))
    axes.set_yticks(range(grid.shape[0]), list(rows.cat.categories))
    axes.set(title=title, xlabel="t", ylabel="lambda_cost")


def _lines(axes: Axes, traces: pd.DataFrame) -> None:
    """F_cost over epochs, one line per search, one colour per lambda_cost."""
    import matplotlib as mpl

    known = sorted(traces["lambda_cost"].unique())
    palette = mpl.colormaps["viridis"](np.linspace(0, 0.9, max(1, len(known))))
    named: set[float] = set()
    for _, one in traces.groupby("job_id"):
        lambda_cost = float(one["lambda_cost"].iloc[0])
        label = f"lambda_cost = {lambda_cost:g}" if lambda_cost not in named and len(known) <= 8 else None
        named.add(lambda_cost)
        axes.plot(one["epoch"], one["share"], color=palette[known.index(lambda_cost)], lw=1, label=label)
    axes.axhline(1, color="black", lw=0.8, ls="--")
    if named and len(known) <= 8:
        axes.legend(fontsize="small")
    axes.set(title="F_cost over epochs", xlabel="epoch", ylabel="F_cost / R")


def _scatter(axes: Axes, searches: pd.DataFrame, front: Collection[int]) -> None:
    """Trials by error and accuracy (or search cost, where none was trained)."""
    tried = searches[~searches["fresh"] & (searches["state"] == "COMPLETE")]
    judged = bool(tried["accuracy"].notna().any())
    means: Any = tried.assign(gap=tried["gap"].abs()).groupby("trial")[["gap", "accuracy", "search_macs"]].mean()
    height = 100 * means["accuracy"] if judged else means["search_macs"] / 1e12
    best = means.index.isin(list(front))
    axes.scatter(100 * means["gap"][~best], height[~best], color="0.6", label="trials")
    axes.scatter(100 * means["gap"][best], height[best], color="C3", label="Pareto front")
    for number in means.index[best]:
        axes.annotate(
            str(number), (100 * means["gap"][number], height[number]), (4, 4), textcoords="offset points"
        )
    axes.legend(fontsize="small")
    axes.set(
        title="Trials",
        xlabel="|F - R| / R, %",
        ylabel="validation accuracy, %" if judged else "search cost, T macs",
    )
