"""Every job, with its log where there is one."""

from __future__ import annotations

from typing import Any

from tas_bench.report.parts import Cell, Note, Part, Section, Table, millions, number, text
from tas_bench.report.source import Source
from tas_bench.text import duration

MOST = 4000
"""Lines of the table; `tas_bench.load` reads them all."""

HEADER = (
    "Job", "Kind", "Asked for by", "Transfer", "Problem", "Seed",
    "State", "Attempts", "Accuracy %", "Macs", "Device time", "Log",
)  # fmt: skip


def jobs(source: Source) -> list[Part]:
    """One line per job that was asked for."""
    used = source.used
    asked = used.groupby("job_id", sort=False)["method"].agg(lambda names: ", ".join(dict.fromkeys(names)))
    each = used.drop_duplicates("job_id").assign(asked=lambda frame: frame["job_id"].map(asked))
    lines = [_line(source, row) for row in each.head(MOST).itertuples()]
    if not lines:
        return []
    parts: list[Part] = [Table("jobs", "All jobs", HEADER, lines, long=True)]
    if len(each) > MOST:
        parts.append(Note(f"The first {MOST:,} of {len(each):,} jobs; tas_bench.load(DIR) reads them all."))
    return parts


def _line(source: Source, row: Any) -> tuple[Cell, ...]:
    accuracy = row.test_accuracy if row.test_accuracy == row.test_accuracy else row.val_accuracy
    link, _ = source.logs.get(row.job_id, (None, ()))
    return (
        text(row.job_id[:10]),
        text(row.kind),
        text(row.asked),
        text(row.transfer),
        text(f"{row.dataset}, {row.backbone}"),
        number(row.seed, "{:.0f}"),
        text(row.status if isinstance(row.status, str) else "waiting"),
        number(row.attempts, "{:.0f}"),
        number(None if accuracy is None else 100 * accuracy),
        number(row.macs, millions),
        number(row.device_seconds, duration),
        text("attempts" if link else "", link),
    )


SECTION = Section("jobs", "Jobs", 92, jobs)
