"""Methods in pairs, and transfer modes in pairs, over the seeds and problems that both have finished."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from tas_bench.report.ledger import REFERENCE
from tas_bench.report.parts import Note, Part, Section, Table, number, text
from tas_bench.report.source import Source
from tas_bench.report.stats import ENOUGH, Interval, mean_interval, verdict
from tas_bench.report.table1 import SUFFIXES

MANY = 6
"""Of more methods, `REFERENCE` among them, pairs with that alone are told."""


@dataclass(frozen=True)
class Pair:
    """Two methods or transfer modes, and one's accuracy less the other's in points.

    Attributes:
        over: the methods that a transfer mode's mean is over, where it is not over all.
    """

    one: str
    other: str
    difference: Interval
    over: tuple[str, ...] = ()


def comparisons(source: Source) -> list[Part]:
    """One table per transfer mode, and one of them."""
    tables: list[Part] = []
    for transfer in source.manifest["transfers"]:
        caption = f"Accuracy of final trainings ({transfer}), same seed and problem"
        tables += _table(source, f"comparisons-{transfer}", caption, compared(source, transfer))
    caption = "Accuracy by transfer mode, mean over methods, same seed and problem"
    tables += _table(source, "comparisons", caption, compared_transfers(source))
    if tables:
        tables.append(
            Note(
                "Mean ± 95 % interval (Student's t) of the differences. Settled: the interval leaves out 0, and "
                f"there are {ENOUGH} pairs or more. Of 20 such verdicts on equal methods, one is wrong on average."
            )
        )
    return tables


def _table(source: Source, name: str, caption: str, pairs: list[Pair]) -> list[Part]:
    lines = [
        (
            text(f"{source.label(pair.one)} - {source.label(pair.other)}{_over(source, pair)}"),
            number(pair.difference.mean, "{:+z.2f}", pair.difference.half_width),
            number(pair.difference.n, "{:.0f}"),
            text(verdict(source.label(pair.one), source.label(pair.other), pair.difference)),
        )
        for pair in pairs
        if pair.difference.n
    ]
    return [Table(name, caption, ("Pair", "Difference, points", "Pairs", "Verdict"), lines)] if lines else []


def _over(source: Source, pair: Pair) -> str:
    return f" (of {', '.join(map(source.label, pair.over))})" if pair.over else ""


def compared(source: Source, transfer: str) -> list[Pair]:
    """Every pair of methods, or, where methods are many, those with the reference."""
    finals = source.finals
    mine = finals[finals["transfer"] == transfer]
    keys = ["dataset", "backbone", "seed"]
    by_method = {name: mine[mine["method"] == name].set_index(keys)["accuracy"] for name in source.labels}
    names = sorted(source.labels, key=lambda name: name != REFERENCE)
    every = len(names) <= MANY or REFERENCE not in names
    pairs = [pair for pair in combinations(names, 2) if every or REFERENCE in pair]
    return [Pair(one, other, mean_interval((by_method[one] - by_method[other]).dropna())) for one, other in pairs]


def compared_transfers(source: Source, methods: Iterable[str] | None = None) -> list[Pair]:
    """Every pair of transfer modes, the later one first: means over methods, the same ones on every seed.

    Args:
        methods: these, on the seeds where all have ended; else those that have ended on every seed where any has.
    """
    modes: list[str] = list(source.manifest["transfers"])
    keys = ["dataset", "backbone", "seed"]
    wide = source.finals.pivot_table("accuracy", [*keys, "method"], "transfer").reindex(columns=modes)
    found = []
    for one, other in combinations(reversed(modes), 2):
        cells = (wide[one] - wide[other]).dropna().unstack("method")
        whole = cells.dropna(axis="columns") if methods is None else cells.reindex(columns=list(methods)).dropna()
        over = tuple(map(str, whole)) if len(whole.columns) < len(source.labels) else ()
        found.append(Pair(one, other, mean_interval(whole.mean(axis="columns").dropna()), over))
    return found


def last_transfer(source: Source) -> str:
    """The transfer mode that verdicts are told of: the last with an accuracy, of the paper's if there is one."""
    there = set(source.finals["transfer"])
    last = [name for name in reversed(source.manifest["transfers"]) if name in there]
    return next((name for name in last if name in SUFFIXES), last[0])


SECTION = Section("comparisons", "Methods in pairs", 40, comparisons)
