"""What came out of each sweep, in a few lines of Markdown."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from decided import resolution, width_gaps
from figures import points, rank_correlation
from orders import VERDICTS, Order, orders_of

from tas_bench.report.ledger import REFERENCE
from tas_bench.report.sections.comparisons import compared
from tas_bench.report.sections.tuning import tuned_searches
from tas_bench.report.source import Source
from tas_bench.report.stats import mean_interval
from tas_bench.report.table1 import SUFFIXES, published

CHOSEN = 2
"""The paper's |I|."""

CONTROL = "random_size"
"""The method that is no search: one size drawn in the band."""

COSTS = (
    ("Time", "seconds", "search_hours"),
    ("Training macs", "train_macs", None),
)
"""What a search costs: how it is told, our column, the paper's."""


def of_table1(source: Source) -> str:
    """How many of the paper's orders are ours too, what could be told apart, and what the searches decided."""
    orders = orders_of(source)
    by_verdict = {
        verdict: [f"{order.name}, n = {order.ours.n}" for order in orders if order.verdict == verdict]
        for verdict in VERDICTS
    }
    told = [f"{len(names)} {verdict}" for verdict, names in by_verdict.items() if names]
    lines = [f"Orders in the paper's Table 1: {len(orders)}; here {', '.join(told)}."]
    for verdict in VERDICTS[:4]:
        lines += told_of(verdict.capitalize(), by_verdict[verdict], "; ")
    lines += tas_and_rivals(source, orders)
    gaps = width_gaps(source)["gap"]
    if len(gaps):
        gap = points(mean_interval(gaps), ".3f", "")
        lines.append(
            f"Gap between the two most probable widths when TAS's searches ended: {gap} (n = {len(gaps)})."
        )
    return bullets(lines)


def tas_and_rivals(source: Source, orders: list[Order]) -> list[str]:
    """How many of TAS's differences have a sign, and how large one must be."""
    transfers = [name for name in source.manifest["transfers"] if name in SUFFIXES]
    apart = [
        pair.difference for transfer in transfers for pair in compared(source, transfer)
        if pair.one == REFERENCE and pair.difference.mean is not None
    ]  # fmt: skip
    lines = []
    if apart:
        means = sorted(float(each.mean or 0.0) for each in apart)
        signs = f"{sum(each.signed for each in apart)} of {len(apart)} differences have an interval without zero"
        lines.append(
            f"{source.label(REFERENCE)} less a rival: {signs}; means {means[0]:+z.2f} to {means[-1]:+z.2f}."
        )
    finals = source.finals
    needed = {
        name: resolution(finals[finals["transfer"] == name].pivot_table("accuracy", "seed", "method"))
        for name in transfers
    }
    told = [f"{least[0]:.1f} ({name}, n = {least[1]})" for name, least in needed.items() if least]
    margins = [order.theirs for order in orders if order.one == source.label(REFERENCE)]
    paper = (
        f"; TAS's margins in the paper (quoted) are {min(margins):.2f} to {max(margins):.2f}" if margins else ""
    )
    if told:
        lines.append(f"Points that two methods must be apart to be told apart: {', '.join(told)}{paper}.")
    return lines


def of_table2(source: Source) -> str:
    """What every |I| comes to beside the paper's choice, and the paper's own differences."""
    used = source.used
    used = used.assign(drawn=[source.setting(name, "samples") for name in used["method"]])
    done = used[used["status"] == "ok"]
    searches, finals = (done[done["kind"] == kind] for kind in ("search", "final"))
    accuracy = finals.pivot_table("accuracy", "seed", "drawn")
    control = finals[finals["method"] == CONTROL].set_index("seed")["accuracy"]
    lines = accuracies_by_samples(accuracy) + beside_control(accuracy, control)
    gaps = width_gaps(source)
    gaps = gaps.assign(drawn=[source.setting(name, "samples") for name in gaps["method"]])
    told = [
        f"{points(mean_interval(mine), '.3f', '')} (|I| = {drawn:g}, n = {len(mine)})"
        for drawn, mine in gaps.groupby("drawn")["gap"]
    ]
    lines += told_of("Gap between the two most probable widths when the searches ended", told)
    both = searches[["seed", "drawn", "discrepancy"]].merge(finals[["seed", "drawn", "accuracy"]])
    ranks = [
        f"{rank} (seed {seed}, n = {len(mine)})"
        for seed, mine in both.groupby("seed")
        if (rank := rank_correlation(mine["discrepancy"], mine["accuracy"]))
    ]
    lines += told_of("Rank correlation (Spearman) of a search's discrepancy with its size's accuracy", ranks)
    return bullets([*lines, *costs_by_samples(searches)])


def accuracies_by_samples(accuracy: pd.DataFrame) -> list[str]:
    """Less that of the paper's |I|, and how large a difference must be; a column per |I|."""
    if CHOSEN not in accuracy:
        return []
    paper = published("table2").set_index("samples")["accuracy"]
    apart = {n: mean_interval((accuracy[n] - accuracy[CHOSEN]).dropna()) for n in accuracy if n != CHOSEN}
    less = [
        f"{points(each)} (|I| = {n:g}, n = {each.n}; paper, quoted: {paper[n] - paper[CHOSEN]:+z.2f})"
        for n, each in apart.items() if each.n
    ]  # fmt: skip
    least = resolution(accuracy)
    told = [f"{least[0]:.1f} (n = {least[1]})"] if least else []
    needed = told_of("Points that two |I| must be apart to be told apart", told)
    return told_of(f"Accuracy less that of |I| = {CHOSEN}, in points", less) + needed


def beside_control(accuracy: pd.DataFrame, control: pd.Series[float]) -> list[str]:
    """What searches found less a random size, a column per |I| and the mean of all, on seeds that have both."""
    apart = {f"|I| = {n:g}": mean_interval((accuracy[n] - control).dropna()) for n in accuracy}
    apart["mean of all"] = mean_interval((accuracy.mean(axis="columns", skipna=False) - control).dropna())
    less = [f"{points(each)} ({name}, n = {each.n})" for name, each in apart.items() if each.n]
    own = f"{points(mean_interval(control), sign='')} %, n = {len(control)}"
    return told_of(f"Accuracy less that of a random size in the band ({own}), in points", less)


def costs_by_samples(searches: pd.DataFrame) -> list[str]:
    """What the largest |I| costs over the paper's."""
    lines, paper = [], published("table2").set_index("samples")
    searches = searches.assign(seconds=searches["seconds_data"] + searches["seconds_train"])
    for what, column, theirs in COSTS:
        each = searches.pivot_table(column, "seed", "drawn")
        most = max(each, default=CHOSEN)
        ratio = mean_interval((each[most] / each[CHOSEN]).dropna() if CHOSEN in each and most != CHOSEN else [])
        if ratio.n:
            also = f"; paper, quoted: {paper[theirs][most] / paper[theirs][CHOSEN]:.2f}" if theirs else ""
            times = f"{points(ratio, sign='')} times (n = {ratio.n}{also})"
            lines.append(f"{what} of |I| = {most:g}: {times} that of |I| = {CHOSEN}.")
    return lines


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
        f"{rank} (seed {seed}, n = {len(mine)})"
        for seed, mine in judged.groupby("seed")
        if (rank := rank_correlation(mine["blocks"], mine["val_accuracy"]))
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


def told_of(what: str, cells: Iterable[str], between: str = ", ") -> list[str]:
    """A line, where there is something to tell."""
    told = between.join(cells)
    return [f"{what}: {told}."] if told else []


def bullets(lines: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"  - {line}" for line in lines)
