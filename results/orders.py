"""Orders in the paper's Table 1 beside those in the rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tas_bench.report.sections.comparisons import Pair, compared, compared_transfers
from tas_bench.report.source import Source
from tas_bench.report.stats import ENOUGH, Interval
from tas_bench.report.table1 import published

VERDICTS = ("agrees", "disagrees", "same sign", "opposite sign", "undecided", "no pair yet")
"""What an order may come to; the first four tell a sign."""

PILOT_SEED = 0
"""The scale was chosen by what this seed showed in pilots."""


@dataclass(frozen=True)
class Order:
    """That one is above another.

    Attributes:
        theirs: points between the accuracies that the paper tells.
        ours, rest: paired differences over seeds, of all and of those that no pilot has seen.
    """

    name: str
    theirs: float
    ours: Interval
    rest: Interval

    @property
    def verdict(self) -> str:
        """Ours beside theirs, by sign."""
        if self.ours.mean is None:
            return "no pair yet"
        if not has_sign(self.ours):
            return "undecided"
        same = self.ours.mean * self.theirs > 0
        if self.ours.n < ENOUGH:
            return "same sign" if same else "opposite sign"
        return "agrees" if same else "disagrees"


def has_sign(difference: Interval) -> bool:
    """Whether the interval leaves out zero."""
    mean, half = difference.mean, difference.half_width
    return mean is not None and half is not None and half < abs(mean)


def orders_of(source: Source) -> list[Order]:
    """Of transfer modes, and of methods that the paper has accuracies of, the sweep's later above the earlier."""
    paper = published("table1").pivot_table("accuracy", "method", "transfer")
    both = [name for name in source.labels if name in paper.index]
    told = [name for name in source.manifest["transfers"] if name in paper]
    source = replace(source, manifest={**source.manifest, "transfers": told})
    seeds = [seed for seed in source.manifest["seeds"] if seed != PILOT_SEED]
    unseen = replace(source, manifest={**source.manifest, "seeds": seeds})
    found = []
    for pair, rest in zip(compared_transfers(source, both), compared_transfers(unseen, both), strict=True):
        theirs = (paper[pair.one] - paper[pair.other])[both].mean()
        found.append(Order(f"{pair.one} above {pair.other}", theirs, pair.difference, rest.difference))
    for transfer in told:
        for pair, rest in zip(later_first(source, transfer), later_first(unseen, transfer), strict=True):
            if pair.one in both and pair.other in both:
                name = f"{source.label(pair.one)} above {source.label(pair.other)}, {transfer}"
                theirs = paper.loc[pair.one, transfer] - paper.loc[pair.other, transfer]
                found.append(Order(name, theirs, pair.difference, rest.difference))
    return found


def later_first(source: Source, transfer: str) -> list[Pair]:
    """Pairs of methods, turned so that the one that the sweep names later comes first."""
    place = list(source.labels).index
    return [
        pair if place(pair.one) > place(pair.other)
        else Pair(pair.other, pair.one, replace(pair.difference, mean=negative(pair.difference.mean)))
        for pair in compared(source, transfer)
    ]  # fmt: skip


def negative(value: float | None) -> float | None:
    """Of a value that may be missing."""
    return None if value is None else -value


def orders_table(source: Source) -> str:
    """The orders as Markdown."""
    header = ["Order", "Paper (quoted), points", "Ours, points", "n", f"Without seed {PILOT_SEED}", ""]
    lines = [header, ["---", *["---:"] * 4, "---"]]
    for order in orders_of(source):
        ours = [points(order.ours), str(order.ours.n), points(order.rest)]
        lines.append([order.name, f"{order.theirs:+z.2f}", *ours, order.verdict])
    return markdown(lines)


def points(difference: Interval, how: str = ".2f", sign: str = "+z") -> str:
    """A mean with its interval; a difference shows its sign, another mean needs none."""
    if difference.mean is None:
        return ""
    spread = "" if difference.half_width is None else f" ± {difference.half_width:{how}}"
    return f"{difference.mean:{sign}{how}}{spread}"


def markdown(lines: Iterable[Iterable[str]]) -> str:
    """Lines of a table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
