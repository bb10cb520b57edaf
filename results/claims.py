"""What the paper claims beside what the rows say, and what came out in a line per sweep."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

import pandas as pd

from tas_bench.report.ledger import REFERENCE
from tas_bench.report.sections.comparisons import compared, compared_transfers
from tas_bench.report.source import Source
from tas_bench.report.stats import ENOUGH, Interval, mean_interval
from tas_bench.report.table1 import published

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
        lines.append([claim.name, f"{claim.theirs:+.2f}", *ours, claim.verdict])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def points(difference: Interval) -> str:
    """A mean difference with its interval."""
    if difference.mean is None:
        return ""
    return f"{difference.mean:+.2f}" + ("" if difference.half_width is None else f" ± {difference.half_width:.2f}")


# ---------------------------------------------------------------- what came out


def came_out_of_table1(source: Source) -> str:
    """How many of the paper's orders are ours too, and TAS beside its rivals."""
    claims = claims_of(source)
    likewise = [claim.name for claim in claims if claim.verdict in ("same sign", "agrees")]
    otherwise = [claim.name for claim in claims if claim.verdict in ("opposite sign", "disagrees")]
    told = [
        f"{len(names)} {how}" + (f" ({'; '.join(names)})" if names else "")
        for names, how in ((likewise, "likewise"), (otherwise, "the other way round"))
    ]
    left = len(claims) - len(likewise) - len(otherwise)
    lines = [
        f"Of {len(claims)} orders that the paper claims, the rows show {', '.join(told)}; {left} are undecided."
    ]
    for transfer in source.manifest["transfers"]:
        pairs = [pair for pair in compared(source, transfer) if pair.one == REFERENCE]
        apart = ", ".join(f"{points(pair.difference)} to {source.label(pair.other)}" for pair in pairs)
        lines.append(f"{source.label(REFERENCE)}, {transfer}, in points: {apart} (n = {pairs[0].difference.n}).")
    searches = source.used[source.used["kind"].eq("search") & source.used["status"].eq("ok")]
    return bullets([*lines, f"Searches of {source.label(REFERENCE)}: {ends(searches)}."])


def came_out_of_table2(source: Source) -> str:
    """What the least |I| and the most come to beside the paper's choice."""
    chosen, done = 2, source.used[source.used["status"].eq("ok")]
    done = done.assign(drawn=[source.setting(name, "samples") for name in done["method"]])
    searches = {int(n): mine for n, mine in done[done["kind"] == "search"].groupby("drawn")}
    finals = done[done["kind"] == "final"]
    accuracy = {n: finals[finals["drawn"] == n].set_index("seed")["accuracy"] for n in searches}
    lines, most = [], max(searches, default=chosen)
    if chosen in searches and most != chosen:
        apart = [
            f"{points(mean_interval((accuracy[n] - accuracy[chosen]).dropna()))} (|I| = {n})"
            for n in searches if n != chosen
        ]  # fmt: skip
        times = searches[most]["seconds_train"].mean() / searches[chosen]["seconds_train"].mean()
        hours = published("table2").set_index("samples")["search_hours"]
        lines = [
            f"Accuracy less that of |I| = {chosen}, in points: {', '.join(apart)}.",
            f"A step with |I| = {most} takes {times:.2f} times as long as with |I| = {chosen}; "
            f"the paper's search (quoted) {hours[most] / hours[chosen]:.2f} times.",
        ]
    return bullets([*lines, *(f"Searches with |I| = {n}: {ends(mine)}." for n, mine in searches.items())])


def came_out_of_tolerance(source: Source) -> str:
    """In how many searches the argmax met its budget, by lambda_cost and by t."""
    used = source.used
    searches = used[used["kind"].eq("search") & used["status"].isin(["ok", "diverged"])].drop_duplicates("job_id")
    jobs = searches["job"].map(json.loads)
    hit = searches["derived"].eq("argmax") & searches["status"].eq("ok")
    settings = {"lambda_cost": ("settings", "lambda_cost"), "t": ("problem", "t")}
    values = {name: jobs.map(lambda job, a=a, b=b: job[a][b]) for name, (a, b) in settings.items()}
    lines = [f"The argmax was in the band at the end of {hit.sum()} of {len(hit)} searches."]
    for name, value in values.items():
        cells = [
            f"{hit[value == each].sum()} of {(value == each).sum()} ({each:g})" for each in sorted(set(value))
        ]
        lines.append(f"By {name}: {', '.join(cells)}.")
    return bullets(lines)


def by_depth(source: Source) -> str:
    """How judged sizes' depth goes with their accuracy, and the depth of what each method chose."""
    used = source.used[source.used["status"].eq("ok")]
    used = used.assign(blocks=used["depths"].map(lambda depths: None if depths is None else int(sum(depths))))
    judged, finals = used[used["kind"] == "candidate"], used[used["kind"] == "final"]
    told = [
        f"{mine['blocks'].corr(mine['val_accuracy'], method='spearman'):+.2f} (seed {seed}, n = {len(mine)})"
        for seed, mine in judged.groupby("seed")
        if len(set(mine["blocks"])) > 1
    ]
    chosen = finals.drop_duplicates(["method", "seed"]).groupby("method")["blocks"]
    kept = [
        f"{source.label(name)} {', '.join(map(str, chosen.get_group(name)))}"
        for name in source.labels if name in chosen.groups
    ]  # fmt: skip
    return bullets(
        [
            "Rank correlation (Spearman) of blocks kept with validation accuracy, over all sizes judged: "
            f"{', '.join(told)}.",
            f"Blocks kept by what was chosen, seed by seed: {'; '.join(kept)}.",
        ]
    )


def late(source: Source) -> str:
    """In how many of its last epochs a search got half of its discrepancy, median over searches; a sentence."""
    last, epochs = [], []
    for _, trace in source.trajectories.sort_values("epoch").groupby("job_id"):
        gaps = trace["discrepancy"].to_numpy()
        last.append(len(gaps) - 1 - max((i for i, gap in enumerate(gaps) if gap < gaps[-1] / 2), default=-1))
        epochs.append(len(gaps))
    if not epochs:
        return ""
    when = f"the last {median(last):g} of {median(epochs):g} epochs, when the temperature is low"
    return f"Half of it came in {when} (median over searches)."


def ends(searches: pd.DataFrame) -> str:
    """How searches of TAS ended."""
    gap = mean_interval(searches["discrepancy"].dropna())
    hits = f"argmax in the band in {searches['derived'].eq('argmax').sum()} of {len(searches)}"
    if gap.mean is None:
        return hits
    return f"{hits}, discrepancy {gap.mean:.3f}" + ("" if gap.half_width is None else f" ± {gap.half_width:.3f}")


def bullets(lines: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"  - {line}" for line in lines)
