"""Pre-defined ratio: one keep-ratio for every layer, full depth (Table 1, "Pre-defined").

The largest ratio whose network does not exceed the budget: 12 / 25 / 50 channels for 60 % of ResNet-32's macs.
Where that misses the band, the smallest ratio above it that meets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tas_bench.errors import InputError
from tas_bench.jobs import Plan, Problem
from tas_bench.space import Size


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One ratio everywhere. It has no settings, and no random choice."""

    name: ClassVar[str] = "ratio"
    label: ClassVar[str] = "Pre-defined"

    def plan(self, problem: Problem, seed: int) -> Plan:  # noqa: ARG002
        """No job is needed."""
        yield from ()
        return uniform_size(problem)


def uniform_size(problem: Problem) -> Size:
    """Widths int(ratio x n) for the ratio that meets the budget best.

    Raises:
        InputError: no single ratio meets the band.
    """
    full = problem.backbone.full
    steps = sorted({i / n for n in set(full.widths) for i in range(1, n + 1)})
    sizes = [Size(tuple(max(1, int(r * n + 1e-9)) for n in full.widths), full.depths) for r in steps]
    low, high = problem.band
    in_band = [(macs, size) for size in sizes if low <= (macs := problem.macs(size)) <= high]
    if not in_band:
        nearest = min(sizes, key=lambda size: abs(problem.macs(size) - problem.budget))
        raise InputError(
            f"ratio: no single keep-ratio has {low / 1e6:.3f} M to {high / 1e6:.3f} M macs "
            f"(nearest {problem.macs(nearest) / 1e6:.3f} M); widen t or leave the method out"
        )
    within = [(macs, size) for macs, size in in_band if macs <= problem.budget]
    return max(within, key=lambda x: x[0])[1] if within else min(in_band, key=lambda x: x[0])[1]
