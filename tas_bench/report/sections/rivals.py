"""Tables 3 and 4 of the paper: the same networks pruned by others, as it quotes them, with ours beside its own."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tas_bench.report.parts import Cell, Note, Part, Section, Table, millions, number, text
from tas_bench.report.sections.comparisons import last_transfer
from tas_bench.report.source import Source, key_of, of_problem
from tas_bench.report.stats import Interval, mean_interval
from tas_bench.report.table1 import PAPER_EPOCHS, published, unlike_the_paper

ALIASES = {"tas-wd": ("tas-wd", "tas")}
"""Methods of ours that a line of the paper's is about, where it is not the one of that name."""

HEADER = (
    "Method", "Accuracy % (ours)", "n", "Drop (ours)", "Macs (ours)",
    "Accuracy % (paper)", "Drop (paper)", "Macs (paper)", "Pruned (paper)", "Difference, points",
)  # fmt: skip

TOP5 = ("Top-5 % (ours)", "Top-5 % (paper)", "Top-5 drop (paper)")
"""More columns of Table 4."""


def rivals(source: Source) -> list[Part]:
    """A table per problem that the paper has, where a method of it was run."""
    parts: list[Part] = []
    if source.finals.empty:
        return parts
    transfer = last_transfer(source)
    for number_, epochs in ((3, PAPER_EPOCHS), (4, 120)):
        paper = published(f"table{number_}")
        for problem in source.problems:
            quoted = of_problem(paper[paper["accuracy"].notna()], problem)
            ran = [_ours(source, str(row.method)) for row in quoted.itertuples()]
            if not any(ran):
                continue
            used = source.of(problem)
            lines = [
                _line(source, row, used, method, transfer)
                for row, method in zip(quoted.itertuples(), ran, strict=True)
            ]
            header = HEADER + (TOP5 if "top5" in paper else ())
            name = f"rivals-{key_of(problem)}"
            parts.append(Table(name, f"Table {number_}, {source.heading(problem)} ({transfer})", header, lines))
            [pruned] = quoted.loc[quoted["method"] == "tas-wd", "pruned"]
            if told := unlike_the_paper(used, problem, 1 - pruned / 100, epochs):
                parts.append(Note(f"{source.heading(problem)}: {told}."))
    if parts:
        parts.append(
            Note(
                "Paper: quoted as printed. It counts the macs of its rivals by several rules, and drops against "
                "baselines that differ by method; only its own lines use KD."
            )
        )
    return parts


def _ours(source: Source, paper: str) -> str | None:
    return next((name for name in ALIASES.get(paper, (paper,)) if name in source.labels), None)


def _name(source: Source, label: str, method: str | None) -> str:
    ours = None if method is None else source.label(method)
    return label if ours in (None, label) else f"{label}: {ours}"


def _line(source: Source, paper: Any, used: pd.DataFrame, method: str | None, transfer: str) -> tuple[Cell, ...]:
    done = used[used["status"].eq("ok") & used["accuracy"].notna()]
    teacher = done[done["kind"] == "teacher"].drop_duplicates("job_id").set_index("seed")["accuracy"]
    mine = done[done["kind"].eq("final") & done["method"].eq(method or "") & done["transfer"].eq(transfer)]
    accuracy = mean_interval(mine["accuracy"])
    drops = teacher.groupby(level=0).first().sub(mine.set_index("seed")["accuracy"]).dropna()
    drop = mean_interval(drops) if len(mine) else Interval(None, None, 0)
    difference = None if accuracy.mean is None else accuracy.mean - paper.accuracy
    top5 = mean_interval(100 * mine["test_top5"].dropna())
    more = (
        (number(top5.mean, "{:.2f}", top5.half_width), number(paper.top5), number(paper.top5_drop))
        if hasattr(paper, "top5")
        else ()
    )
    return (
        text(_name(source, paper.label, method)),
        number(accuracy.mean, "{:.2f}", accuracy.half_width),
        number(accuracy.n if method else None, "{:.0f}"),
        number(drop.mean, "{:.2f}", drop.half_width),
        number(mean_interval(mine["macs"]).mean, millions),
        number(paper.accuracy),
        number(paper.accuracy_drop),
        number(paper.macs, millions),
        number(paper.pruned, "{:.1f} %"),
        number(difference, "{:+z.2f}"),
        *more,
    )


SECTION = Section("rivals", "Beside the paper's rivals (Tables 3 and 4)", 28, rivals)
