"""The picture of a tuning: heat maps of error and hit-rate, F_cost over epochs, the Pareto front."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from tas_bench.report.cells import heats, lines
from tas_bench.report.parts import Heat, Panel, Plot, Series


def figure(
    name: str, cells: pd.DataFrame, searches: pd.DataFrame, traces: pd.DataFrame, front: Collection[int]
) -> Plot:
    """Draw it.

    Args:
        cells: see `report.cells`.
        searches, traces: see `views`.
        front: numbers of the trials on the Pareto front.
    """
    panels: list[Panel | Heat] = [*heats(cells), lines(traces, searches), _trials(searches, front)]
    alt = "Heat maps over lambda_cost and t, F_cost over epochs, and trials by error and accuracy."
    return Plot(name, "Tuning", alt, panels)


def _trials(searches: pd.DataFrame, front: Collection[int]) -> Panel:
    """Trials by error and accuracy (or search cost, where none was trained)."""
    tried = searches[~searches["fresh"] & (searches["state"] == "COMPLETE")]
    judged = bool(tried["accuracy"].notna().any())
    means: Any = tried.assign(gap=tried["gap"].abs()).groupby("trial")[["gap", "accuracy", "search_macs"]].mean()
    height = 100 * means["accuracy"] if judged else means["search_macs"] / 1e12
    best = means.index.isin(list(front))
    series = [
        Series(label, (100 * means["gap"][here]).tolist(), height[here].tolist(), "points", colour)
        for label, here, colour in (("trials", ~best, None), ("Pareto front", best, 1))
        if here.any()
    ]
    y = "validation accuracy, %" if judged else "search cost, T macs"
    return Panel("Trials", "|F - R| / R, %", y, series)
