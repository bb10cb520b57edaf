"""Table 1 of the paper as a view of the rows: every method's size through every transfer mode.

DataFrame in, DataFrame out; the paper's own figures come from `published/` beside this file.

`sweep` is the manifest of a results directory, `narrowed` to one problem: name, title, dataset, backbone, keep,
t, seeds, methods (name and label of each, in display order) and transfers (likewise).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pandas as pd

from tas_bench.costs.layer import noun
from tas_bench.report.ledger import RESULTS, ledger
from tas_bench.report.stats import Interval, mean_interval

Manifest = Mapping[str, Any]

PAPER = {"dataset": "cifar100", "backbone": "resnet32"}
PAPER_EPOCHS = 300
PAPER_KEEP = 0.6
"""Table 1 prunes "about 40 % FLOPs"."""

SUFFIXES = {"scratch": "", "init": " w/ Init", "kd": " w/ KD"}
"""Transfer modes as the paper writes them behind a method's name."""

COLUMNS = {
    "name": "string",
    "method": "string",
    "transfer": "string",
    "macs_mean": "Float64",
    "cost_mean": "Float64",
    "in_band": "Float64",
    "accuracy_mean": "Float64",
    "accuracy_half_width": "Float64",
    "n": "Int64",
    "planned": "Int64",
    "failed": "Int64",
    "paper_macs": "Float64",
    "paper_accuracy": "Float64",
    "difference": "Float64",
    "search_device_seconds_mean": "Float64",
    "search_device_seconds_half_width": "Float64",
    "search_train_macs_mean": "Float64",
    "search_train_macs_half_width": "Float64",
    "search_train_macs_ratio": "Float64",
    "search_n": "Int64",
}
"""The table's columns. Accuracies and `difference` are percent, half widths of 95 % intervals."""


def budget_noun(sweep: Manifest) -> str:
    """What the sweep's budget counts, in a word; a manifest without a word about it is of macs."""
    return noun(sweep.get("cost", "macs"))


def tunings(sweep: Manifest) -> list[str]:
    """Methods that tune settings: their searches differ by more than seeds, and have a section of their own."""
    return [method["name"] for method in sweep["methods"] if f"{method['name']}.over" in sweep["fixed"]]


def published(name: str) -> pd.DataFrame:
    """Figures quoted from the paper, by the name of their file: `table1`, `table2`, `search_cost` ..."""
    with (files(__package__) / "published" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def narrowed(manifest: Manifest) -> list[Manifest]:
    """The manifest of a results directory, once for every problem of its sweep."""
    images = manifest["train_subset"]
    images = "" if images is None else f" ({images:,} training images)"
    return [
        {**manifest, **p}
        | {
            "title": f"{manifest['title']}: {p['dataset']}{images}, {p['backbone']}, "
            f"{1 - p['keep']:.0%} of {budget_noun(manifest)} pruned"
        }
        for p in manifest["problems"]
    ]


def table1(used: pd.DataFrame, sweep: Manifest) -> pd.DataFrame:
    """One line per method and transfer mode, in the manifest's order, with `COLUMNS`.

    A partial sweep has blanks: `n` counts the seeds whose final training ended well, `search_n` those whose
    search is over and has all its rows. A failed search job counts with what it cost as far as that is known.
    `failed` counts the failed jobs a line rests on: those of its searches and of its own final trainings.

    Args:
        used: what the sweep's plans on one problem asked for, with its rows (`Source.of`).
    """
    quoted = published("table1").set_index(["method", "transfer"])
    comparable = why_no_difference(sweep) is None
    costs = ledger(used, sweep).rename(columns={"n": "search_n", "macs_ratio": "search_train_macs_ratio"})
    costs = costs.set_index("method")[[name for name in costs if name in COLUMNS and name != "method"]]
    lines = []
    for method in sweep["methods"]:
        for transfer in sweep["transfers"]:
            line = _accuracy(used, method["name"], transfer, sweep) | costs.loc[method["name"]].to_dict()
            line["name"] = method["label"] + SUFFIXES.get(transfer, f" w/ {transfer}")
            if (method["name"], transfer) in quoted.index:
                paper = quoted.loc[(method["name"], transfer)]
                line |= {"paper_macs": paper["macs"], "paper_accuracy": paper["accuracy"]}
                if comparable and line["accuracy_mean"] is not None:
                    line["difference"] = line["accuracy_mean"] - paper["accuracy"]
            lines.append(line)
    return _frame(lines)


def teacher_row(used: pd.DataFrame) -> pd.DataFrame:
    """The unpruned network as a line of the same columns; no line where the sweep asked for no teacher."""
    teachers = used[used["kind"] == "teacher"].drop_duplicates("job_id")
    line = {"name": "Unpruned (teacher)", "method": "teacher", "planned": len(teachers)}
    return _frame([line | _finished(teachers) | {"failed": _failures(teachers)}] if len(teachers) else [])


def why_no_difference(sweep: Manifest) -> str | None:
    """Why the paper's accuracies are not comparable with these; None where they are."""
    if any(sweep[key] != value for key, value in PAPER.items()):
        return "paper's figures are CIFAR-100, ResNet-32; no difference is taken"
    return None


def unlike_the_paper(
    used: pd.DataFrame, sweep: Manifest, keep: float = PAPER_KEEP, epochs: int = PAPER_EPOCHS
) -> str | None:
    """In what trainings differ from the paper's, on the same data set and backbone; None if in nothing."""
    told = other_schedule(used, epochs)
    if abs(sweep["keep"] - keep) > 0.05:
        told.append(f"{sweep['keep']:.0%} of the {budget_noun(sweep)} kept instead of about {keep:.0%}")
    elif budget_noun(sweep) != "macs":
        told.append(f"a budget in {budget_noun(sweep)} instead of macs")
    return f"differences are not like for like: {', '.join(told)}" if told else None


def other_schedule(used: pd.DataFrame, paper: int = PAPER_EPOCHS) -> list[str]:
    """In what the schedule of teachers and finals differs from the paper's."""
    trained = used[used["kind"].isin(["teacher", "final"])]
    epochs = sorted({int(n) for n in trained["epochs"].dropna()} - {paper})
    images = sorted({int(n) for n in trained["train_subset"].dropna()})
    return [f"{n:,} training images" for n in images] + [f"{n} epochs instead of {paper}" for n in epochs]


def _accuracy(used: pd.DataFrame, method: str, transfer: str, sweep: Manifest) -> dict[str, Any]:
    """Sizes and accuracies of one method's final trainings in one transfer mode."""
    mine = used[used["method"] == method]
    finals = mine[(mine["kind"] == "final") & (mine["transfer"] == transfer)]
    low, high = ((1 + sign * sweep["t"]) * finals["budget"] for sign in (-1, 1))
    inside = (low <= finals["cost"]) & (finals["cost"] <= high)
    return {
        "method": method,
        "transfer": transfer,
        "planned": len(sweep["seeds"]),
        "in_band": _mean(inside[_ok(finals)]).mean,
        "failed": _failures(pd.concat([mine[~mine["kind"].isin(RESULTS)], finals])),
        **_finished(finals),
    }


def _finished(trainings: pd.DataFrame) -> dict[str, Any]:
    done = trainings[_ok(trainings)]
    accuracy = _mean(100 * done["test_accuracy"])
    return {
        "macs_mean": _mean(done["macs"]).mean,
        "cost_mean": _mean(done["cost"]).mean,
        "accuracy_mean": accuracy.mean,
        "accuracy_half_width": accuracy.half_width,
        "n": accuracy.n,
    }


def _ok(used: pd.DataFrame) -> pd.Series[bool]:
    return (used["status"] == "ok") & used["test_accuracy"].notna()


def _failures(used: pd.DataFrame) -> int:
    failed = used[used["status"].notna() & (used["status"] != "ok")]
    return int(failed["job_id"].nunique())


def _mean(values: pd.Series[Any]) -> Interval:
    return mean_interval(float(value) for value in values.dropna())


def _frame(lines: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype(COLUMNS)
