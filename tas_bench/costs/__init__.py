"""Costs of a network, one metric per file. A new file with a `Cost` in it is found by itself."""

from __future__ import annotations

from tas_bench.costs.layer import Cost
from tas_bench.discover import instances


def all_costs() -> dict[str, Cost]:
    """Every cost of this package, by name."""
    return instances(__name__, Cost)
