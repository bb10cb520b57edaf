"""The report's sections, one per file. A new file with a `Section` in it is found by itself."""

from __future__ import annotations

from tas_bench.discover import instances
from tas_bench.report.parts import Section


def all_sections() -> list[Section]:
    """Every section of this package, in their order."""
    return sorted(instances(__name__, Section).values(), key=lambda section: section.place)
