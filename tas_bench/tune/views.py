"""Tables of a tuning: one line per search, its F_cost over epochs, and cells of two settings for heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tas_bench.tune.advice import wilson
from tas_bench.tune.space import Axis

if TYPE_CHECKING:
    from tas_bench.tune.tuning import Tuner

DISTINCT = 8
"""Values of a setting that a heat map has a line for; more of them go into `BINS`."""

BINS = 5


def searches_of(tuner: Tuner, trajectories: pd.DataFrame) -> pd.DataFrame:
    """One line per search: its trial, settings, and what became of it.

    `gap` is (F - R) / R of the argmax; `oscillation` the mean change of F_cost from an epoch to the next over the
    second half of the search, as a share of R; `fresh` marks the seeds that confirm.
    """
    swings = {
        str(key): _swing(points["share"]) for key, points in traces_of(tuner, trajectories).groupby("job_id")
    }
    lines: list[dict[str, Any]] = []
    for fresh, trials in ((False, tuner.trials), (True, tuner.confirmed)):
        for trial in trials:
            for run in trial.runs:
                lines.append(
                    {
                        "trial": trial.number, "state": trial.state, "fresh": fresh, "seed": run.job.seed,
                        "lambda_cost": run.settings.settings.lambda_cost, "t": run.job.problem.t, **trial.params,
                        "status": run.search.status, "stopped": run.stopped, "hit": run.hit, "gap": run.gap,
                        "oscillation": swings.get(run.key), "accuracy": run.accuracy, "search_macs": run.cost,
                        "discrepancy": run.search.discrepancy, "device_seconds": run.search.device_seconds,
                        "warning": run.search.warning, "job_id": run.key,
                    }
                )  # fmt: skip
    return pd.DataFrame(lines)


def traces_of(tuner: Tuner, trajectories: pd.DataFrame) -> pd.DataFrame:
    """F_cost of every search over its epochs, as a share of R, with lambda_cost and t."""
    runs = {run.key: run for trial in (*tuner.trials, *tuner.confirmed) for run in trial.runs}
    found = trajectories.loc[trajectories["job_id"].isin(runs), ["job_id", "epoch", "f_cost"]].copy()
    found["share"] = found.pop("f_cost") / tuner.problem.budget
    found["lambda_cost"] = [runs[key].settings.settings.lambda_cost for key in found["job_id"]]
    found["t"] = [runs[key].job.problem.t for key in found["job_id"]]
    return found


def points_of(traces: pd.DataFrame) -> dict[str, list[float]]:
    """|F - R| / R after every epoch, by search."""
    return {str(key): (one["share"] - 1).abs().tolist() for key, one in traces.groupby("job_id")}


def cells_of(
    searches: pd.DataFrame, axes: Sequence[Axis], rows: str = "lambda_cost", columns: str = "t"
) -> pd.DataFrame:
    """One line per cell of two settings: searches, hits, hit-rate with Wilson's interval, means of the measures.

    Searches that failed for their machine's sake are left out, diverged ones are no hits.
    """
    told = searches[searches["status"].isin(["ok", "diverged"])].copy()
    logs = {axis.name: axis.log for axis in axes}
    for name in (rows, columns):
        told[name] = _places(told[name], logs.get(name, False))
    grouped = told.groupby([rows, columns], observed=True)
    cells = grouped.agg(
        n=("hit", "size"), hits=("hit", "sum"), gap=("gap", "mean"), oscillation=("oscillation", "mean"),
        accuracy=("accuracy", "mean"), stopped=("stopped", "sum"),
    ).reset_index()  # fmt: skip
    cells["hit_rate"] = cells["hits"] / cells["n"]
    bounds = [wilson(int(hits), int(n)) for hits, n in zip(cells["hits"], cells["n"], strict=True)]
    cells["hit_low"], cells["hit_high"] = ([pair[i] for pair in bounds] for i in (0, 1))
    return cells


def _swing(shares: pd.Series[float]) -> float | None:
    steps = np.abs(np.diff(shares.to_numpy(dtype=float)))
    late = steps[len(steps) // 2 :]
    return float(late.mean()) if len(late) else None


def _places(values: pd.Series[float], log: bool) -> pd.Series[Any]:
    """Values as ordered labels: themselves where they are few, else bins of equal width."""
    known = sorted(values.unique())
    if len(known) <= DISTINCT:
        labels = [f"{value:g}" for value in values]
        names = [f"{value:g}" for value in known]
    else:
        spread = np.geomspace if log else np.linspace
        edges = spread(known[0], known[-1], BINS + 1)
        names = [f"{low:.3g} - {high:.3g}" for low, high in pairwise(edges)]
        labels = [names[i] for i in np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BINS - 1)]
    ordered = pd.CategoricalDtype(list(dict.fromkeys(names)), ordered=True)  # nearly equal values may read alike
    return pd.Series(labels, index=values.index).astype(ordered)
