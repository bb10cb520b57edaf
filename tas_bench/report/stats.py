"""Means with their uncertainty."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.special import stdtrit

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Interval:
    """A mean with the half width of its 95 % interval.

    Attributes:
        mean: None where there is nothing to take it of.
        half_width: None for n < 2, where the spread is unknown.
        n: how many values.
    """

    mean: float | None
    half_width: float | None
    n: int

    @property
    def signed(self) -> bool:
        """Whether it leaves out zero."""
        return self.mean is not None and self.half_width is not None and self.half_width < abs(self.mean)


def mean_interval(values: Iterable[float]) -> Interval:
    """Mean and 95 % Student t interval: half width t(0.975, n - 1) s / sqrt(n). Of finite values."""
    found = [float(value) for value in values if math.isfinite(value)]
    n = len(found)
    mean = statistics.fmean(found) if found else None
    if n < 2:
        return Interval(mean, None, n)
    return Interval(mean, float(stdtrit(n - 1, 0.975)) * statistics.stdev(found) / math.sqrt(n), n)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate; all there is for n = 0."""
    from scipy.stats import binomtest  # which takes a second to import

    if not n:
        return 0.0, 1.0
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


ENOUGH = 5
"""Fewer values than this settle nothing: intervals of so few rest on the spread of so few."""


def verdict(one: str, other: str, difference: Interval) -> str:
    """What paired differences, one less other, say in plain language."""
    mean, half, n = difference.mean, difference.half_width, difference.n
    if mean is None:
        return f"{one} against {other}: no seed on which both have ended"
    shown = round(mean, 2)
    first, second = (one, other) if shown >= 0 else (other, one)
    spread = "" if half is None else f" ± {half:.2f}"
    told = f"{first} {'>' if shown else '='} {second} by {abs(mean):.2f}{spread}, n = {n}"
    if half is None:
        return f"{told}: not settled, one pair tells nothing of the spread"
    if not difference.signed:
        return f"{told}: not settled, the interval holds 0"
    return f"{told}: {'settled' if n >= ENOUGH else f'not settled, fewer than {ENOUGH} pairs'}"


def is_settled(difference: Interval) -> bool:
    """Whether the sign of a mean difference is beyond doubt, as `verdict` has it."""
    return difference.signed and difference.n >= ENOUGH


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, gain) points that no other beats in both, by ascending cost."""
    kept: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or gain > kept[-1][1]:
            kept.append((cost, gain))
    return kept


def hypervolume(points: Iterable[tuple[float, float]], most: float) -> float:
    """The area that (cost, gain) points dominate, from gain 0 and cost `most`, in gain x share of most."""
    kept = front(point for point in points if point[0] <= most)
    ends = [*(cost for cost, _ in kept[1:]), most]
    return sum((end - cost) * gain for (cost, gain), end in zip(kept, ends, strict=False)) / most
