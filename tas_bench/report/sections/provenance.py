"""Where these figures come from: code, packages, devices, settings, and how to get them again."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tas_bench.report.parts import Note, Part, Section, Table, text
from tas_bench.report.source import Source
from tas_bench.text import duration, one_line


def provenance(source: Source) -> list[Part]:
    """Two tables and the command."""
    rows, manifest = source.rows, source.manifest
    facts = [("Sweep", manifest["name"]), ("Command", f"tas-bench run {manifest['name']} --results DIR")]
    if len(rows) and rows["ended"].notna().any():
        facts.append(("First job began", f"{rows['started'].min():%Y-%m-%d %H:%M} UTC"))
        facts.append(("Last job ended", f"{rows['ended'].max():%Y-%m-%d %H:%M} UTC"))
        facts.append(("Device time in all", duration(float(rows["device_seconds"].sum()))))
    for column, title in (("commit", "Commit"), ("device", "Device"), ("precision", "Precision")):
        for value, count in rows[column].value_counts().items():
            facts.append((title, f"{value} ({count} jobs)"))
    versions: Counter[tuple[str, str]] = Counter()
    for told, count in rows["versions"].value_counts().items():
        for package, version in _versions(told).items():
            versions[str(package), str(version)] += count
    facts += [(package, f"{version} ({count} jobs)") for (package, version), count in versions.items()]
    parts: list[Part] = [
        Table(
            "provenance",
            "Where these figures come from",
            ("What", "Which"),
            [(text(a), text(b)) for a, b in facts],
        )
    ]
    commits = rows["commit"].nunique()
    if commits > 1:
        parts.append(Note(f"Jobs of {commits} commits are together here; changed jobs have keys of their own."))
    settings = [(text(key), text(json.dumps(value))) for key, value in sorted(manifest["fixed"].items())]
    if settings:
        parts.append(Table("settings", "Settings of the sweep", ("Setting", "Value"), settings, long=True))
    return parts


def _versions(told: Any) -> dict[str, Any]:
    try:
        found = json.loads(told)
    except (ValueError, TypeError, RecursionError):
        return {"versions": one_line(told)}
    return found if isinstance(found, dict) else {"versions": one_line(told)}


SECTION = Section("provenance", "Provenance", 95, provenance)
