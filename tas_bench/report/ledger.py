"""The search-cost ledger: what a search costs, teacher and finals beside it; and slots x wall = busy + idle.

All jobs that a plan asked for count for its method in full, also those that another plan asked for as well (a
shared supernet, a teacher): it is what the method would cost alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from tas_bench.report.stats import mean_interval

RESULTS = ("teacher", "final")
"""The jobs that are no search, but for a teacher that is pruned to find a size."""

REFERENCE = "tas"
"""Search costs are told relative to this method's."""

MEASURES = ("device_seconds", "train_macs")

PAPER_IMAGES = 50_000
PAPER_EPOCHS = {"search": 600, "supernet": 300, "candidate": 300, "teacher": 300}
"""The paper's schedule (section 4.1); a supernet's, which the paper lacks, like a training's."""

COLUMNS = {
    "method": "string", "n": "Int64", "jobs_mean": "Float64",
    **{
        f"{part}_{measure}_{what}": "Float64"
        for part in ("search", "teacher", "final")
        for measure in MEASURES
        for what in ("mean", "half_width")
    },
    "time_ratio": "Float64", "macs_ratio": "Float64", "paper_hours": "Float64",
}  # fmt: skip
"""The ledger's columns. `time_ratio` and `macs_ratio` are a search over the reference's of the same seed, means
over seeds that have both, so the speed-up of that; `paper_hours` an estimate: device-hours of the search at the
paper's schedule, at the rate it had here."""


def ledger(used: pd.DataFrame, sweep: Mapping[str, Any]) -> pd.DataFrame:
    """One line per method of a sweep, in its order: means over seeds whose search is over, with 95 % intervals.

    Final trainings are told of the seeds that have them in all transfer modes.

    Args:
        used: what the sweep's plans on one problem asked for, with its rows (`Source.of`).
    """
    lines, total, spent = [], training_images(used), {}
    ended = searched(used, sweep).drop_duplicates(["method", "seed", "job_id"])
    for method in (method["name"] for method in sweep["methods"]):
        mine = ended[ended["method"] == method]
        over = mine["seed"].unique()
        rest, finals = mine[~searching(mine)], mine[mine["kind"].eq("final") & mine["status"].notna()]
        whole = finals.groupby("seed")["transfer"].nunique() == len(sweep["transfers"])
        search, teachers = mine[searching(mine)], rest[rest["kind"] == "teacher"]
        line: dict[str, Any] = {"method": method, "n": len(over)}
        spent[method] = search.groupby("seed")[list(MEASURES)].sum().reindex(over, fill_value=0.0)
        for part, jobs, seeds in (
            ("search", search, over), ("teacher", teachers, over), ("final", finals, whole.index[whole]),
        ):  # fmt: skip
            for measure in MEASURES:
                sums = jobs.groupby("seed")[measure].sum().reindex(seeds, fill_value=0.0)
                interval = mean_interval(float(value) for value in sums)
                line[f"{part}_{measure}_mean"] = interval.mean
                line[f"{part}_{measure}_half_width"] = interval.half_width
        if len(over):
            line["jobs_mean"] = len(search) / len(over)
            line["paper_hours"] = paper_hours(search, total) / len(over) if total and len(search) else None
        lines.append(line)
    frame = pd.DataFrame(lines, columns=list(COLUMNS)).astype(COLUMNS)
    for measure, ratio in zip(MEASURES, ("time_ratio", "macs_ratio"), strict=True):
        if REFERENCE in spent:
            ratios = [mean_interval(each[measure] / spent[REFERENCE][measure]).mean for each in spent.values()]
            frame[ratio] = pd.array(ratios, dtype="Float64")
    return frame


def searched(used: pd.DataFrame, sweep: Mapping[str, Any]) -> pd.DataFrame:
    """What is left of `used` without plans whose search is not over: they would bend a mean over seeds."""
    plans = used.groupby(["method", "seed"])
    over = [plan for _, plan in plans if is_over(plan.drop_duplicates("job_id"), sweep)]
    return pd.concat(over) if over else used.iloc[:0]


def searching(used: pd.DataFrame) -> pd.Series[bool]:
    """Which jobs their methods asked for to find a size."""
    pruned = used["method"].isin(used.loc[used["kind"] == "pruning", "method"])
    return ~used["kind"].isin(RESULTS) | (used["kind"].eq("teacher") & pruned)


def is_over(plan: pd.DataFrame, sweep: Mapping[str, Any]) -> bool:
    """Whether a plan's search is over, with all its rows: it asks for teacher and final trainings thereafter.

    A search that needs the teacher asks for that first: it alone says nothing.
    A plan of a sweep that only searches may go on as long as it likes: it counts with what it has.
    """
    search = plan[~plan["kind"].isin(RESULTS)]
    went_on = (
        (plan["kind"] == "final").any()
        or 0 < len(search) < len(plan)
        or (not sweep["transfers"] and len(search) > 0)
    )
    return bool(went_on) and bool(search["status"].notna().all())


def training_images(used: pd.DataFrame) -> int | None:
    """Images of the training set, as trainings on the whole of it tell; None where none has ended."""
    trained = used[used["kind"].isin(RESULTS) & (used["epochs"] > 0) & used["images"].notna()]
    parts = zip(trained["images"], trained["epochs"], trained["job"], strict=True)
    return max((round(images / epochs / (1 - _holdout(job))) for images, epochs, job in parts), default=None)


def paper_hours(search: pd.DataFrame, images: int) -> float:
    """Device-hours of these jobs had each had the paper's epochs and images, at the rate they ran at here."""
    seconds = 0.0
    for kind, job, spent in zip(search["kind"], search["job"], search["device_seconds"].fillna(0), strict=True):
        planned = _epochs(json.loads(job)) if isinstance(job, str) else None
        longer = PAPER_EPOCHS[kind] / planned if planned and kind in PAPER_EPOCHS else 1.0
        seconds += spent * longer * PAPER_IMAGES / images
    return seconds / 3600


def _holdout(job: Any) -> float:
    """The share of the images that a training's description sets aside."""
    told = json.loads(job) if isinstance(job, str) else {}
    return float(told.get("recipe", {}).get("holdout", 0.0))


def _epochs(job: Any) -> int | None:
    """Epochs of the schedule that a job's description names first."""
    if isinstance(job, Mapping):
        recipe = job.get("recipe")
        if isinstance(recipe, Mapping) and isinstance(recipe.get("epochs"), int):
            return int(recipe["epochs"])
        return next((found for value in job.values() if (found := _epochs(value)) is not None), None)
    return None


def accounts(rows: pd.DataFrame, runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One line per run that the directory remembers: its slots, what they did, and what is not accounted for.

    Busy is the sum of the rows that began and ended under it, as the jobs counted; idle is the driver's count.
    What they lack of slots x wall is what nobody booked: a row being written, a job on its way to its worker, an
    attempt that did not end well.
    """
    lines, booked = [], _last_attempts(rows)
    for run in runs:
        under = booked[(rows["started"] >= run["started"]) & (rows["ended"] <= run["ended"])]
        busy, slots = float(under.sum()), float(run["slot_seconds"])
        lines.append(
            {
                "started": run["started"], "wall_seconds": run["wall_seconds"], "jobs": len(under),
                "slots": slots / run["wall_seconds"] if run["wall_seconds"] else 0.0, "slot_seconds": slots,
                "busy_seconds": busy, "idle_seconds": run["idle_seconds"],
                "unbooked": 1 - (busy + run["idle_seconds"]) / slots if slots else None,
            }
        )  # fmt: skip
    return pd.DataFrame(lines)


def _last_attempts(rows: pd.DataFrame) -> pd.Series[float]:
    """Device-seconds of each row's last attempt; its kind of job held so many slots at other rows' only ones."""
    wall = (rows["ended"] - rows["started"]).dt.total_seconds()
    only = rows["attempts"] == 1
    slots = (rows["device_seconds"] / wall)[only].groupby(rows["kind"]).median()
    last = wall * pd.to_numeric(rows["kind"].map(slots)).fillna(1.0)
    return rows["device_seconds"].where(only, last.clip(upper=rows["device_seconds"]))
