"""A tuning's searches by lambda_cost and t: how often the argmax met the budget, and how far off it was."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from tas_bench.backbones import all_backbones
from tas_bench.backbones.backbone import Backbone
from tas_bench.report.cells import cells_of, heats, inside, lines, swing
from tas_bench.report.parts import Cell, Note, Part, Plot, Section, Table, number, text
from tas_bench.report.sections.sizes import channels
from tas_bench.report.source import Source, key_of
from tas_bench.report.table1 import Manifest, tunings

HEADER = (
    "lambda_cost", "t", "Argmax in the band", "95 % interval", "Epochs in the band", "(F - R) / R of the argmax",
    "|F - R| / R", "Oscillation of F_cost / R", "Validation accuracy %",
)  # fmt: skip


def tuning(source: Source) -> list[Part]:
    """A plot and a table per problem and tuning."""
    tuned = tunings(source.manifest)
    parts = [part for problem in source.problems for name in tuned for part in _tuned(source, problem, name)]
    told = "F is the cost of the argmax size, R the budget; where it misses the band, the derived size does not."
    if any(source.setting(name, "confirm") for name in tuned):
        told += " Searches that confirm a recommendation are among them."
    return [*parts, Note(told)] if parts else []


def _tuned(source: Source, problem: Manifest, name: str) -> list[Part]:
    used, where = source.of(problem), source.heading(problem)
    searches = tuned_searches(used[used["method"] == name], all_backbones().get(problem["backbone"]))
    if searches.empty:
        return []
    traces = source.trajectories.merge(searches[["job_id", "budget", "lambda_cost", "t"]], on="job_id")
    traces["share"] = traces["f_cost"] / traces["budget"]
    by_search = dict(list(traces.groupby("job_id")))
    for column, measure in (("oscillation", lambda each: swing(each["share"])), ("inside", inside)):
        found = {key: measure(each) for key, each in by_search.items()}
        searches[column] = pd.to_numeric(searches["job_id"].map(found))
    over = [str(axis) for axis in source.setting(name, "over")]
    cells = cells_of(searches, [axis.partition("=")[0] for axis in over if axis.endswith(":log")])
    if cells.empty:
        return [Note(f"{where}: no search has ended but for a fault of its machine.", "bad")]
    key = f"{name}-{key_of(problem)}"
    title, alt = (
        f"Searches by lambda_cost and t: {where}",
        "Heat maps over lambda_cost and t, and F_cost over epochs.",
    )
    return [Plot(key, title, alt, [*heats(cells), lines(traces, searches)]), _table(key, title, cells)]


def tuned_searches(used: pd.DataFrame, backbone: Backbone | None = None) -> pd.DataFrame:
    """A line per search: its lambda_cost and t, and what became of it.

    Args:
        backbone: of the searches, for the accuracies of what they found.
    """
    found = used[used["kind"].eq("search") & used["status"].notna()].drop_duplicates("job_id").copy()
    jobs = [_search(job) for job in found["job"]]
    found["lambda_cost"] = [job["settings"]["lambda_cost"] for job in jobs]
    found["t"] = [job["problem"]["t"] for job in jobs]
    epochs = pd.Series([job["settings"]["search_epochs"] for job in jobs], index=found.index)
    found["stopped"] = found["status"].eq("ok") & found["epochs"].lt(epochs)
    found["hit"] = found["status"].eq("ok") & ~found["stopped"] & found["derived"].ne("in-band")
    found["gap"] = found["argmax_macs"].fillna(found["macs"]) / found["budget"] - 1
    trained = used[used["kind"].eq("candidate") & used["status"].eq("ok")]
    accuracy = dict(zip(_sizes(trained, backbone), trained["val_accuracy"], strict=True))
    found["accuracy"] = pd.to_numeric(
        pd.Series([accuracy.get(size) for size in _sizes(found, backbone)], index=found.index)
    )
    return found


def _search(job: Any) -> dict[str, Any]:
    """A job as it stands in its row; of a search that may be given up, the search itself."""
    told = json.loads(job)
    return dict(told.get("search", told))


def _sizes(used: pd.DataFrame, backbone: Backbone | None) -> list[tuple[object, ...]]:
    """What joins a training to its search: the job's seed and what is kept of every layer."""
    keys: list[tuple[object, ...]] = []
    row: Any
    for row in used.itertuples():
        kept = channels(row.widths, row.depths, backbone) if backbone and row.status == "ok" else None
        keys.append((row.job_id,) if kept is None else (_search(row.job)["seed"], *kept))
    return keys


def _table(name: str, title: str, cells: pd.DataFrame) -> Table:
    rows: list[tuple[Cell, ...]] = []
    cell: Any
    for cell in cells.itertuples():
        hits = number(cell.hits, f"{{:.0f}} of {cell.n}")
        interval = text(f"{cell.hit_low:.0%} to {cell.hit_high:.0%}")
        gap = number(cell.gap, "{:+z.1%}", cell.gap_half_width)
        shares = [number(share, "{:.1%}") for share in (cell.distance, cell.oscillation)]
        before = text(cell.lambda_cost), text(cell.t), hits, interval, number(cell.inside, "{:.0%}")
        rows.append((*before, gap, *shares, number(100 * cell.accuracy)))
    if cells["accuracy"].isna().all():  # sizes were not trained
        return Table(name, title, HEADER[:-1], [row[:-1] for row in rows])
    return Table(name, title, HEADER, rows)


SECTION = Section("tuning", "lambda_cost and t", 26, tuning)
