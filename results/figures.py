"""How figures are told: means with intervals, rank correlations, tables."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from tas_bench.report.stats import Interval


def points(difference: Interval, how: str = ".2f", sign: str = "+z") -> str:
    """A mean with its interval; a difference shows its sign, another mean needs none."""
    if difference.mean is None:
        return ""
    spread = "" if difference.half_width is None else f" ± {difference.half_width:{how}}"
    return f"{difference.mean:{sign}{how}}{spread}"


def markdown(lines: Iterable[Iterable[str]]) -> str:
    """Lines of a table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rank_correlation(one: pd.Series[float], other: pd.Series[float]) -> str | None:
    """Spearman's, of the pairs that are whole; None where either is the same all over."""
    both = pd.DataFrame({"one": one, "other": other}).dropna()
    if min(both.nunique()) < 2:
        return None
    return f"{both['one'].corr(both['other'], method='spearman'):+z.2f}"
