"""Orders in the paper's Table 1 beside those in the rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd
from figures import markdown, points

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
        theirs: points between the accuracies that the paper tells, of transfer modes their mean over methods.
        ours, rest: paired differences over seeds, of all and of those that no pilot has seen.
    """

    one: str
    other: str
    where: str
    theirs: float
    ours: Interval
    rest: Interval

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.one} above {self.other}{self.where}"

    @property
    def verdict(self) -> str:
        """Ours beside theirs, by sign."""
        if self.ours.mean is None:
            return "no pair yet"
        if not self.ours.signed:
            return "undecided"
        same = self.ours.mean * self.theirs > 0
        if self.ours.n < ENOUGH:
            return "same sign" if same else "opposite sign"
        return "agrees" if same else "disagrees"


def orders_of(source: Source) -> list[Order]:
    """Of transfer modes and of methods that the paper has accuracies of, turned as it has them."""
    paper = published("table1").pivot_table("accuracy", "method", "transfer")
    both = [name for name in source.labels if name in paper.index]
    told = [name for name in source.manifest["transfers"] if name in paper]
    source = replace(source, manifest={**source.manifest, "transfers": told})
    seeds = [seed for seed in source.manifest["seeds"] if seed != PILOT_SEED]
    unseen = replace(source, manifest={**source.manifest, "seeds": seeds})
    means = paper.loc[both].mean()
    found = [
        turned(pair, rest, means, pair.one, pair.other, "")
        for pair, rest in zip(compared_transfers(source, both), compared_transfers(unseen, both), strict=True)
    ]
    for transfer in told:
        found += [
            turned(pair, rest, paper[transfer], source.label(pair.one), source.label(pair.other), f", {transfer}")
            for pair, rest in zip(compared(source, transfer), compared(unseen, transfer), strict=True)
            if pair.one in both and pair.other in both
        ]
    return found


def turned(pair: Pair, rest: Pair, paper: pd.Series[float], one: str, other: str, where: str) -> Order:
    """A pair of these labels as an order, whichever of both the paper has above."""
    gap = float(paper[pair.one] - paper[pair.other])
    if gap > 0:
        return Order(one, other, where, gap, pair.difference, rest.difference)
    return Order(other, one, where, -gap, negative(pair.difference), negative(rest.difference))


def negative(difference: Interval) -> Interval:
    """The other way round."""
    return difference if difference.mean is None else replace(difference, mean=-difference.mean)


def orders_table(source: Source) -> str:
    """The orders as Markdown."""
    header = ["Order", "Paper (quoted), points", "Ours, points", "n", f"Without seed {PILOT_SEED}", ""]
    lines = [header, ["---", *["---:"] * 4, "---"]]
    for order in orders_of(source):
        ours = [points(order.ours), str(order.ours.n), points(order.rest)]
        lines.append([order.name, f"{order.theirs:+z.2f}", *ours, order.verdict])
    return markdown(lines)
