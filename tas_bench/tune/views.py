"""Tables of a tuning: one line per search, and its F_cost over epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from tas_bench.report.cells import inside, swing

if TYPE_CHECKING:
    from tas_bench.tune.tuning import Tuner


def searches_of(tuner: Tuner, trajectories: pd.DataFrame) -> pd.DataFrame:
    """One line per search: its trial, settings, and what became of it.

    `gap` is (F - R) / R of the argmax; `fresh` marks the seeds that confirm.
    """
    traces = {str(key): points for key, points in traces_of(tuner, trajectories).groupby("job_id")}
    swings = {key: swing(points["share"]) for key, points in traces.items()}
    insides = {key: inside(points) for key, points in traces.items()}
    lines: list[dict[str, Any]] = []
    for fresh, trials in ((False, tuner.trials), (True, tuner.confirmed)):
        for trial in trials:
            for run in trial.runs:
                lines.append(
                    {
                        "trial": trial.number, "state": trial.state, "fresh": fresh, "seed": run.job.seed,
                        "lambda_cost": run.settings.settings.lambda_cost, "t": run.job.problem.t, **trial.params,
                        "status": run.search.status, "stopped": run.stopped, "hit": run.hit, "gap": run.gap,
                        "oscillation": swings.get(run.key), "inside": insides.get(run.key),
                        "accuracy": run.accuracy, "search_macs": run.cost,
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
