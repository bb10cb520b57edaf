"""What was run of a sweep: on what, by which code, how far, and with what rate."""

from __future__ import annotations

import json

import pandas as pd

from tas_bench.report.source import Source
from tas_bench.text import duration


def scale(source: Source) -> str:
    """What was run, on what, by which code, and how far it is."""
    rows = source.rows[source.rows["job_id"].isin(source.used["job_id"])]  # no others' that were superseded
    commits = rows["commit"].fillna("of no clone").str.replace(r"^([0-9a-f]{10})[0-9a-f]+", r"\1", regex=True)
    code = ", ".join(f"{commit} ({count})" for commit, count in commits.value_counts(sort=False).items())
    asked = source.used.drop_duplicates("job_id")
    ended = f"{asked['status'].eq('ok').sum()} of the {len(asked)} jobs asked for so far ended well"
    spent = duration(float(rows["device_seconds"].sum()))
    lines = (
        f"Run: {run(source, rows)}", f"On: {machine(rows)}", f"Code, with jobs: {code}",
        f"Rows: {ended}, {spent} of device time{older(source, rows)}",
    )  # fmt: skip
    return "\n".join(f"- {line}." for line in lines)


def run(source: Source, rows: pd.DataFrame) -> str:
    """The problem, the schedules and the seeds."""
    fixed = source.manifest["fixed"]
    searches = sorted({str(value) for key, value in fixed.items() if key.endswith(".search_epochs")})
    told = [source.problems[0]["title"], f"searches for {', '.join(searches)} epochs"]
    if source.manifest["transfers"]:
        teachers = fixed["teacher_epochs"] or fixed["recipe.epochs"]
        told.append(f"teachers for {teachers}, finals for {fixed['recipe.epochs']}, tested on the whole test set")
    seeds = ", ".join(map(str, sorted(rows["seed"].unique())))
    return "; ".join([*told, f"batches of {fixed['recipe.batch']}", f"seeds {seeds}"])


def machine(rows: pd.DataFrame) -> str:
    """Processors, precisions with their seeds, torch, and cores to a job."""
    versions = sorted({f"torch {json.loads(told)['torch']}" for told in rows["versions"].dropna()})
    told = [*sorted(rows["device"].dropna().unique()), *precisions(rows), *versions]
    held = rows["device_seconds"] / (rows["ended"] - rows["started"]).dt.total_seconds()
    if (held := held[rows["attempts"] == 1]).notna().any():
        told.append(f"{held.median():.1f} cores to a job")
    return ", ".join(told)


def precisions(rows: pd.DataFrame) -> list[str]:
    """Each; of several, on which seeds, and how much longer than the fastest a training took for as many macs."""
    per_mac = (rows["seconds_train"] / rows["train_macs"]).where(rows["attempts"].eq(1) & rows["train_macs"].gt(0))
    times = per_mac[rows["kind"].ne("search")].groupby(rows["precision"]).median()
    if len(times) < 2:
        return sorted(rows["precision"].dropna().unique())
    told = []
    for name, longer in (times / times.min()).sort_values().items():
        seeds = ", ".join(map(str, sorted(rows.loc[rows["precision"] == name, "seed"].unique())))
        told.append(f"{name} (seeds {seeds}{f'; {longer:.1f} times the seconds per mac' if longer > 1 else ''})")
    return told


def older(source: Source, rows: pd.DataFrame) -> str:
    """Which finals learned from a teacher before the training that its row tells of; of one problem."""
    teachers = rows[rows["kind"] == "teacher"][["seed", "started"]]
    taught = source.finals[source.finals["transfer"] != "scratch"].merge(
        teachers, on="seed", suffixes=("", "_teacher")
    )
    early = taught[taught["started"] < taught["started_teacher"]]
    if early.empty:
        return ""
    named = early.assign(label=early["method"].map(source.label)).groupby("seed")["label"]
    whose = "; ".join(f"seed {seed}: {', '.join(dict.fromkeys(labels))}" for seed, labels in named)
    count = early["job_id"].nunique()
    return f"; {count} finals learned from a teacher that was trained again afterwards ({whose})"


def rate(source: Source) -> str:
    """The median rate of the architecture parameters, a line; nothing where no search has ended yet."""
    known = source.rows["arch_lr"].dropna()
    if known.empty:
        return ""
    scaled = f"- The rate of the architecture parameters is scaled up to {known.median():.2g}"
    return f"{scaled}, by this project and not by the paper, for a search of far fewer updates."
