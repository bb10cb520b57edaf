"""What the sweep has found so far, in sentences."""

from __future__ import annotations

from typing import Any

from tas_bench.report.ledger import REFERENCE
from tas_bench.report.parts import Note, Part, Section, number
from tas_bench.report.sections.comparisons import compared, last_transfer
from tas_bench.report.source import Source
from tas_bench.report.stats import ENOUGH, is_settled, verdict
from tas_bench.report.table1 import table1


def summary(source: Source) -> list[Part]:
    """How far it is, which differences are settled, and whether the budget was met."""
    found: list[Part] = [_progress(source)]
    found += [Note(f"Left out of this report: {line}", "bad") for line in source.damaged]
    finals = source.finals
    if finals.empty:
        searching = not source.manifest["transfers"]
        why = "the sweep has no final trainings" if searching else "no final training has ended well yet"
        return [*found, Note(f"No accuracy to report: {why}.", "plain" if searching else "bad")]
    transfer = last_transfer(source)
    for pair in compared(source, transfer):
        if REFERENCE in (pair.one, pair.other) or len(source.labels) <= 2:
            one, other = (f"{source.label(name)} ({transfer})" for name in (pair.one, pair.other))
            told = verdict(one, other, pair.difference)
            found.append(Note(f"Accuracy, points: {told}.", "good" if is_settled(pair.difference) else "plain"))
    found += _beside_the_paper(source, transfer)
    low, high = (1 - source.manifest["t"]) * finals["budget"], (1 + source.manifest["t"]) * finals["budget"]
    outside = int((~finals["cost"].between(low, high)).sum())
    count = f"{outside} of {len(finals)} final sizes miss" if outside else "No final size misses"
    band = f"the budget's band of ± {100 * source.manifest['t']:g} %"
    found.append(Note(f"{count} {band}.", "bad" if outside else "good"))
    seeds = finals.groupby(["dataset", "backbone", "method", "transfer"])["seed"].nunique().min()
    if seeds < ENOUGH:
        found.append(Note(f"n < {ENOUGH}: intervals are wide; do not rank by the means alone."))
    return found


def _beside_the_paper(source: Source, transfer: str) -> list[Part]:
    """The reference method's accuracy, where the paper has one of the same network and data."""
    told: list[Part] = []
    for problem in source.problems:
        lines = table1(source.of(problem), problem)
        mine = lines[lines["method"].eq(REFERENCE) & lines["transfer"].eq(transfer) & lines["difference"].notna()]
        row: Any
        for row in mine.itertuples():
            ours = number(row.accuracy_mean, "{:.2f}", row.accuracy_half_width, f"% (n = {row.n})").text
            paper = f"the paper's {row.paper_accuracy:.2f} % (one run, quoted)"
            what = f"{row.name}, {source.heading(problem)}"
            told.append(Note(f"{what}: {ours}, {row.difference:+z.2f} points from {paper}."))
    return told


def _progress(source: Source) -> Note:
    jobs = source.used.drop_duplicates("job_id")
    counts = jobs["status"].fillna("waiting").value_counts()
    if not counts.get("ok", 0):
        state = "no job has ended well" if len(counts.index.difference(["waiting"])) else "no job has ended yet"
        return Note(f"{len(jobs)} jobs asked for so far: {state}.", "bad")
    others = "".join(f", {count} {status}" for status, count in counts.items() if status != "ok")
    done = f"{counts['ok']} of {len(jobs)} jobs asked for so far ended well{others}"
    failed = counts.index.difference(["ok", "waiting"])
    return Note(f"{done}.", "bad" if len(failed) else "plain")


SECTION = Section("summary", "Summary", 10, summary)
