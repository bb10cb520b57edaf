"""What came out of each sweep, in a few lines of Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

import pandas as pd
from claims import VERDICTS, claims_of, points

from tas_bench.report.ledger import REFERENCE
from tas_bench.report.sections.comparisons import compared
from tas_bench.report.sections.tuning import tuned_searches
from tas_bench.report.source import Source
from tas_bench.report.stats import mean_interval
from tas_bench.report.table1 import published

COSTS = (
    ("Time", "seconds", "search_hours"),
    ("Training macs", "train_macs", None),
)
"""What a search costs: how it is told, our column, the paper's."""


def of_table1(source: Source) -> str:
    """How many of the paper's orders are ours too, and TAS beside its rivals."""
    claims = claims_of(source)
    by_verdict = {
        verdict: [f"{claim.name}, n = {claim.ours.n}" for claim in claims if claim.verdict == verdict]
        for verdict in VERDICTS
    }
    told = [f"{len(names)} {verdict}" for verdict, names in by_verdict.items() if names]
    lines = [f"Orders that the paper claims: {len(claims)}; in the rows {', '.join(told)}."]
    for verdict in VERDICTS[:4]:
        lines += told_of(verdict.capitalize(), by_verdict[verdict], "; ")
    for transfer in source.manifest["transfers"]:
        apart = [
            f"{points(pair.difference)} ({source.label(pair.other)}, n = {pair.difference.n})"
            for pair in compared(source, transfer) if pair.one == REFERENCE and pair.difference.n
        ]  # fmt: skip
        lines += told_of(f"{source.label(REFERENCE)} less a rival, {transfer}, in points", apart)
    return bullets([*lines, *told_of(f"Searches of {source.label(REFERENCE)}", ends(source.used))])


def of_table2(source: Source) -> str:
    """What every |I| comes to beside the paper's choice, and the paper's own differences."""
    chosen, used = 2, source.used
    used = used.assign(drawn=[source.setting(name, "samples") for name in used["method"]])
    done = used[used["status"] == "ok"]
    accuracy = done[done["kind"] == "final"].pivot_table("accuracy", "seed", "drawn")
    searches = done[done["kind"] == "search"]
    searches = searches.assign(seconds=searches["seconds_data"] + searches["seconds_train"])
    paper, lines = published("table2").set_index("samples"), []
    if chosen in accuracy:
        apart = {n: mean_interval((accuracy[n] - accuracy[chosen]).dropna()) for n in accuracy if n != chosen}
        quoted = paper["accuracy"] - paper["accuracy"][chosen]
        less = [
            f"{points(each)} (|I| = {n:g}, n = {each.n}; paper, quoted: {quoted[n]:+z.2f})"
            for n, each in apart.items() if each.n
        ]  # fmt: skip
        lines += told_of(f"Accuracy less that of |I| = {chosen}, in points", less)
    for what, column, theirs in COSTS:
        each = searches.pivot_table(column, "seed", "drawn")
        if chosen in each and (most := max(each)) != chosen:
            ratio = mean_interval((each[most] / each[chosen]).dropna())
            times = f"{points(ratio).removeprefix('+')} times (n = {ratio.n}"
            if ratio.n:
                also = f"; paper, quoted: {paper[theirs][most] / paper[theirs][chosen]:.2f}" if theirs else ""
                lines.append(f"{what} of |I| = {most:g}: {times}{also}) that of |I| = {chosen}.")
    return bullets(lines)


def of_tolerance(source: Source) -> str:
    """In how many searches the argmax met its budget, by lambda_cost and by t."""
    searches = tuned_searches(source.used)
    searches = searches[searches["status"].isin(["ok", "diverged"])]
    lines = [f"The argmax was in the band at the end of {searches['hit'].sum()} of {len(searches)} searches."]
    for name in ("lambda_cost", "t"):
        cells = [f"{hits.sum()} of {len(hits)} ({value:g})" for value, hits in searches.groupby(name)["hit"]]
        lines += told_of(f"By {name}", cells)
    return bullets(lines)


def by_depth(source: Source) -> str:
    """How judged sizes' depth goes with their accuracy, and the depth of what each method chose."""
    used = source.used[source.used["status"].eq("ok") & source.used["depths"].notna()]
    used = used.assign(blocks=[int(sum(depths)) for depths in used["depths"]])
    judged, finals = used[used["kind"] == "candidate"], used[used["kind"] == "final"]
    ranks = [
        f"{mine['blocks'].corr(mine['val_accuracy'], method='spearman'):+z.2f} (seed {seed}, n = {len(mine)})"
        for seed, mine in judged.groupby("seed")
        if len(set(mine["blocks"])) > 1
    ]
    chosen = finals.drop_duplicates(["method", "seed"]).sort_values("seed").groupby("method")["blocks"]
    kept = [
        f"{source.label(name)} {', '.join(map(str, chosen.get_group(name)))}"
        for name in source.labels if name in chosen.groups
    ]  # fmt: skip
    correlation = "Rank correlation (Spearman) of blocks kept with validation accuracy, over all sizes judged"
    return bullets(
        told_of(correlation, ranks) + told_of("Blocks kept by what was chosen, seed by seed", kept, "; ")
    )


def late(source: Source) -> str:
    """When a search got the second half of its discrepancy, medians over searches; a sentence."""
    counts, epochs, taus = [], [], []
    for _, trace in source.trajectories.sort_values("epoch").groupby("job_id"):
        gaps, tau = trace["discrepancy"].tolist(), trace["tau"].tolist()
        first = 1 + max((i for i, gap in enumerate(gaps) if gap < gaps[-1] / 2), default=-1)
        counts.append(len(gaps) - first)
        epochs.append(len(gaps))
        taus.append(tau[first])
    if not epochs:
        return ""
    when = f"the last {median(counts):g} of {median(epochs):g} epochs, from a temperature of {median(taus):.2g} on"
    return f"The second half of it came in {when} (medians over searches)."


def ends(used: pd.DataFrame) -> list[str]:
    """How searches of TAS ended; one that diverged is no hit."""
    told = used[used["kind"].eq("search") & used["status"].isin(["ok", "diverged"])]
    done = told[told["status"] == "ok"]
    gap = mean_interval(done["discrepancy"].dropna())
    discrepancy = [] if gap.mean is None else [f"discrepancy {points(gap, '.3f').removeprefix('+')}"]
    hits = f"argmax in the band in {done['derived'].eq('argmax').sum()} of {len(told)}"
    return [hits, *discrepancy] if len(told) else []


def told_of(what: str, cells: Iterable[str], between: str = ", ") -> list[str]:
    """A line, where there is something to tell."""
    told = between.join(cells)
    return [f"{what}: {told}."] if told else []


def bullets(lines: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"  - {line}" for line in lines)
