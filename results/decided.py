"""What searches decided, and how far apart methods must be to be told apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

import pandas as pd
from figures import markdown
from scipy.special import stdtrit

from tas_bench.report.source import Source

UNDECIDED = 0.05
"""Two candidates whose probabilities are less apart are as good as equal."""

HEADER = (
    "Seed", "Gap of widths", f"Widths with a gap below {UNDECIDED:g}", "Gaps of depths", "Epoch", "F / R", "E / R",
    "Depths", "Widths that changed",
)  # fmt: skip


def decided(source: Source) -> str:
    """Every search at its last two epochs, as Markdown."""
    lines = [HEADER, ["---:"] * len(HEADER)]
    for search, trace in traces(source):
        end = trace.iloc[-1]
        gaps = pd.Series(end["discrepancies"])
        widths, depths = gaps[: len(end["widths"])], gaps[len(end["widths"]) :]
        few = f"{(widths < UNDECIDED).sum()} of {len(widths)}"
        told = [str(search["seed"]), f"{widths.mean():.3f}", few, ", ".join(f"{gap:.2f}" for gap in depths)]
        for before, row in pairwise(trace.tail(3).to_dict("records")):
            shares = [f"{row[cost] / search['budget']:.3f}" for cost in ("f_cost", "e_cost")]
            changed = sum(one != other for one, other in zip(before["widths"], row["widths"], strict=True))
            lines.append([*told, str(row["epoch"]), *shares, ", ".join(map(str, row["depths"])), str(changed)])
            told = [""] * len(told)
    return markdown(lines)


def traces(source: Source) -> Iterator[tuple[pd.Series, pd.DataFrame]]:
    """Searches that ended well, by method and seed, each with how it went, epoch by epoch."""
    used = source.used[source.used["kind"].eq("search") & source.used["status"].eq("ok")]
    logged = dict(list(source.trajectories.sort_values("epoch").groupby("job_id")))
    for _, search in used.sort_values(["method", "seed"]).iterrows():
        if search["job_id"] in logged:
            yield search, logged[search["job_id"]]


def width_gaps(source: Source) -> pd.DataFrame:
    """Method, seed and the mean gap between the two most probable widths at the end, a line per search."""
    lines = [
        (search["method"], search["seed"], float(end["discrepancies"][: len(end["widths"])].mean()))
        for search, end in ((search, trace.iloc[-1]) for search, trace in traces(source))
    ]
    return pd.DataFrame(lines, columns=["method", "seed", "gap"])


def resolution(accuracy: pd.DataFrame) -> tuple[float, int] | None:
    """Half width of the 95 % interval of the difference of any two columns, their spread pooled over all.

    Args:
        accuracy: a line per seed; seeds that lack a column are left out.

    Returns:
        Points, of what means of lines and of columns leave over, and how many seeds are whole; None where fewer
        than two of either are.
    """
    whole = accuracy.dropna()
    seeds, columns = whole.shape
    free = (seeds - 1) * (columns - 1)
    if seeds < 2 or columns < 2:
        return None
    left = whole - whole.mean() + whole.to_numpy().mean()
    left = left.sub(whole.mean(axis="columns"), axis="index")
    spread = math.sqrt(float((left**2).to_numpy().sum()) / free)
    return float(stdtrit(free, 0.975)) * spread * math.sqrt(2 / seeds), seeds


def late(source: Source) -> str:
    """When a search got the second half of its discrepancy, medians over searches; a sentence."""
    counts, epochs, taus = [], [], []
    for _, trace in traces(source):
        gaps = trace["discrepancy"].tolist()
        first = 1 + max((i for i, gap in enumerate(gaps) if gap < gaps[-1] / 2), default=-1)
        counts.append(len(gaps) - first)
        epochs.append(len(gaps))
        taus.append(trace["tau"].iloc[first])
    if not epochs:
        return ""
    when = f"the last {median(counts):g} of {median(epochs):g} epochs, from a temperature of {median(taus):.2g} on"
    return f"The second half of it came in {when} (medians over searches)."
