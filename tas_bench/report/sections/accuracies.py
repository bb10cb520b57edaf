"""Table 1 of the paper, for every problem of the sweep."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tas_bench.costs.layer import amount
from tas_bench.report.parts import Cell, Note, Part, Section, Table, millions, number, text
from tas_bench.report.render import several_precisions
from tas_bench.report.source import Source, key_of
from tas_bench.report.table1 import Manifest, budget_noun, table1, teacher_row, unlike_the_paper, why_no_difference


def accuracies(source: Source) -> list[Part]:
    """One table per problem: ours, the paper's, the difference."""
    if not source.manifest["transfers"]:
        return []
    parts: list[Part] = []
    for problem in source.problems:
        used = source.of(problem)
        table = pd.concat([teacher_row(used), table1(used, problem)], ignore_index=True)
        name = f"accuracies-{key_of(problem)}"
        lines = [_line(row, problem) for row in table.itertuples()]
        parts.append(Table(name, problem["title"], _header(problem), lines))
        if told := why_no_difference(problem) or unlike_the_paper(used, problem):
            parts.append(Note(f"{source.heading(problem)}: {told}."))
        if told := several_precisions(used):
            parts.append(Note(f"{source.heading(problem)}: {told}."))
    parts.append(
        Note(
            "Accuracy: test images, last epoch, mean ± 95 % interval over seeds (none where n = 1). Paper: quoted "
            "from TAS (NeurIPS 2019), Table 1, one run each."
        )
    )
    return parts


def _header(problem: Manifest) -> tuple[str, ...]:
    counted = budget_noun(problem)
    own = () if counted == "macs" else (f"{counted.capitalize()}",)
    ours = ("Macs", *own, "In band", "Accuracy % (ours)", "n", "Failed jobs")
    difference = () if why_no_difference(problem) else ("Difference, points",)
    return ("Method", *ours, "Macs (paper)", "Accuracy % (paper)", *difference)


def _line(row: Any, problem: Manifest) -> tuple[Cell, ...]:
    counted = budget_noun(problem)
    own = () if counted == "macs" else (number(row.cost_mean, lambda cost: amount(counted, cost, digits=2)),)
    return (
        text(row.name),
        number(row.macs_mean, millions),
        *own,
        number(row.in_band, "{:.0%}"),
        number(row.accuracy_mean, "{:.2f}", row.accuracy_half_width),
        Cell(f"{row.n} of {row.planned}", float(row.n)),
        number(row.failed, "{:.0f}"),
        number(row.paper_macs, millions),
        number(row.paper_accuracy),
        *(() if why_no_difference(problem) else (number(row.difference, "{:+z.2f}"),)),
    )


SECTION = Section("accuracies", "Accuracy at the budget", 20, accuracies)
