"""What the paper claims beside what the rows say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tas_bench.report.ledger import REFERENCE
from tas_bench.report.sections.comparisons import compared, compared_transfers
from tas_bench.report.source import Source
from tas_bench.report.stats import ENOUGH, Interval
from tas_bench.report.table1 import published

VERDICTS = ("agrees", "disagrees", "same sign", "opposite sign", "undecided", "no pair yet")
"""What a claim may come to; the first four tell a sign."""

PILOT_SEED = 0
"""The scale was chosen by what this seed showed in pilots."""


@dataclass(frozen=True)
class Claim:
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
        if self.ours.half_width is None or self.ours.half_width >= abs(self.ours.mean):
            return "undecided"
        same = self.ours.mean * self.theirs > 0
        if self.ours.n < ENOUGH:
            return "same sign" if same else "opposite sign"
        return "agrees" if same else "disagrees"


def claims_of(source: Source) -> list[Claim]:
    """The paper's: better transfer modes, and TAS above each rival it has accuracies of."""
    paper = published("table1").pivot_table("accuracy", "method", "transfer")
    both = [name for name in source.labels if name in paper.index]
    told = [name for name in source.manifest["transfers"] if name in paper]
    source = replace(source, manifest={**source.manifest, "transfers": told})
    seeds = [seed for seed in source.manifest["seeds"] if seed != PILOT_SEED]
    unseen = replace(source, manifest={**source.manifest, "seeds": seeds})
    found = []
    for pair, rest in zip(compared_transfers(source, both), compared_transfers(unseen, both), strict=True):
        theirs = (paper[pair.one] - paper[pair.other])[both].mean()
        found.append(Claim(f"{pair.one} above {pair.other}", theirs, pair.difference, rest.difference))
    for transfer in source.manifest["transfers"]:
        for pair, rest in zip(compared(source, transfer), compared(unseen, transfer), strict=True):
            if pair.one == REFERENCE and pair.other in both:
                name = f"{source.label(pair.one)} above {source.label(pair.other)}, {transfer}"
                theirs = paper.loc[pair.one, transfer] - paper.loc[pair.other, transfer]
                found.append(Claim(name, theirs, pair.difference, rest.difference))
    return found


def claims_table(source: Source) -> str:
    """The claims as Markdown."""
    header = ["Claim", "Paper (quoted), points", "Ours, points", "n", f"Without seed {PILOT_SEED}", ""]
    lines = [header, ["---", *["---:"] * 4, "---"]]
    for claim in claims_of(source):
        ours = [points(claim.ours), str(claim.ours.n), points(claim.rest)]
        lines.append([claim.name, f"{claim.theirs:+z.2f}", *ours, claim.verdict])
    return markdown(lines)


def points(difference: Interval, how: str = ".2f") -> str:
    """A mean difference with its interval."""
    if difference.mean is None:
        return ""
    spread = "" if difference.half_width is None else f" ± {difference.half_width:{how}}"
    return f"{difference.mean:+z{how}}{spread}"


def markdown(lines: Iterable[Iterable[str]]) -> str:
    """Lines of a table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
