"""Pre-defined ratio: one keep-ratio for every layer, full depth (Table 1, "Pre-defined").

The largest ratio whose network does not exceed the budget: 12 / 25 / 50 channels for 60 % of ResNet-32's macs.
Where that misses the band, the smallest ratio above it that meets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tas_bench.budget import Band
from tas_bench.errors import InputError
from tas_bench.jobs import Plan, Problem
from tas_bench.space import Size


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One ratio everywhere. It has no settings, and no random choice."""

    name: ClassVar[str] = "ratio"
    label: ClassVar[str] = "Pre-defined"

    def outside(self, problem: Problem) -> list[Size]:
        """Ratios other than the space's."""
        return uniform_sizes(problem)

    def plan(self, problem: Problem, seed: int) -> Plan:  # noqa: ARG002
        """No job is needed."""
        yield from ()
        return uniform_size(problem)


def uniform_size(problem: Problem) -> Size:
    """Widths int(ratio x n) for the ratio that meets the budget best.

    Raises:
        InputError: no single ratio meets the band.
    """
    band, budget, sizes = Band.of(problem), problem.budget, uniform_sizes(problem)
    costs = [band.cost.of(problem.layers, size) for size in sizes]
    in_band = [(cost, size) for cost, size in zip(costs, sizes, strict=True) if band.low <= cost <= band.high]
    if not in_band:
        nearest = min(costs, key=lambda cost: abs(cost - budget))
        raise InputError(
            f"ratio: no single keep-ratio has {band} (nearest {band.cost.amount(nearest)}); "
            "widen t or leave the method out"
        )
    within = [(cost, size) for cost, size in in_band if cost <= budget]
    return max(within, key=lambda x: x[0])[1] if within else min(in_band, key=lambda x: x[0])[1]


def uniform_sizes(problem: Problem) -> list[Size]:
    """Widths int(ratio x n) at full depth, for every ratio that makes a difference, ascending."""
    full = problem.backbone.full
    steps = sorted({i / n for n in set(full.widths) for i in range(1, n + 1)})
    return [Size(tuple(max(1, int(r * n + 1e-9)) for n in full.widths), full.depths) for r in steps]
