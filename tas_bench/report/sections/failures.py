"""Jobs that failed, and what became of them."""

from __future__ import annotations

from typing import Any

from tas_bench.report.parts import Cell, Note, Part, Section, Table, number, text
from tas_bench.report.source import Source

MOST = 500
HEADER = ("Job", "Kind", "Method", "Transfer", "Problem", "Seed", "Attempts", "What became of it", "Error")


def failures(source: Source) -> list[Part]:
    """Jobs whose last attempt failed, then those that ended well after failures; warnings below."""
    jobs = source.used.drop_duplicates("job_id")
    bad = jobs[jobs["status"].notna() & jobs["status"].ne("ok")]
    late = jobs[jobs["status"].eq("ok") & jobs["attempts"].gt(1)]
    lines = [_line(source, row) for frame in (bad, late) for row in frame.head(MOST).itertuples()]
    parts: list[Part] = []
    if lines:
        parts.append(Table("failures", "Failed jobs, and jobs that took several attempts", HEADER, lines))
        parts.append(Note("The command that ran the sweep tries failed jobs again; jobs that ended well stand."))
    elif len(jobs):
        parts.append(Note("No job failed.", "good"))
    warned = jobs[jobs["warning"].notna()]
    if len(warned):
        counts = warned["warning"].value_counts().head(MOST)
        told = [(text(line), number(count, "{:.0f}")) for line, count in counts.items()]
        parts.append(Table("warnings", "Warnings of jobs that ended", ("Warning", "Jobs"), told))
    return parts


def _line(source: Source, row: Any) -> tuple[Cell, ...]:
    link, attempts = source.logs.get(row.job_id, (None, ()))
    earlier = [str(attempt.get("how", "?")) for attempt in attempts]
    became = f"{row.status}" if row.status != "ok" else "ended well"
    if earlier:
        became += f" (attempts: {', '.join(earlier)})"
    return (
        text(row.job_id[:10], link),
        text(row.kind),
        text(source.label(row.method)),
        text(row.transfer),
        text(f"{row.dataset}, {row.backbone}"),
        number(row.seed, "{:.0f}"),
        number(row.attempts, "{:.0f}"),
        text(became),
        text(row.error),
    )


SECTION = Section("failures", "Failures", 90, failures)
