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


def mean_interval(values: Iterable[float]) -> Interval:
    """Mean and 95 % Student t interval: half width t(0.975, n - 1) s / sqrt(n)."""
    found = [float(value) for value in values]
    n = len(found)
    mean = statistics.fmean(found) if found else None
    if n < 2:
        return Interval(mean, None, n)
    return Interval(mean, float(stdtrit(n - 1, 0.975)) * statistics.stdev(found) / math.sqrt(n), n)
