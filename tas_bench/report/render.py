"""Table 1 as text: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from tas_bench.costs.layer import amount
from tas_bench.report.ledger import RESULTS
from tas_bench.report.parts import millions
from tas_bench.report.stats import ENOUGH
from tas_bench.report.table1 import (
    Manifest,
    budget_noun,
    published,
    unlike_the_paper,
    why_no_difference,
)
from tas_bench.text import duration, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


LISTED = 20
"""Warnings and failures listed, at most of each."""


@dataclass(frozen=True)
class Grid:
    """A table of plain text, the same for the terminal and for Markdown.

    Attributes:
        header: column titles; the first column is text, the others numbers.
        lines: one tuple of cells per line.
        bold: (line, column) of the cells to stress.
        rules: lines after which a block ends.
    """

    title: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]
    bold: frozenset[tuple[int, int]] = frozenset()
    rules: frozenset[int] = frozenset()


def accuracy_grid(table: pd.DataFrame, sweep: Manifest) -> Grid:
    """Sizes and accuracies, one line per method and transfer mode, the paper's beside them.

    What is the same all over and as it should be (sizes in band, no failures) is left to `notes`.
    """
    rows, counted = list[Any](table.itertuples()), budget_noun(sweep)
    columns = {
        "": [one_line(str(row.name)) for row in rows],
        counted: [_format(row.cost_mean, lambda cost: amount(counted, cost, digits=2)) for row in rows],
        "macs": [_format(row.macs_mean, millions) for row in rows],
        "in\nband": [_format(row.in_band, "{:.0%}".format) for row in rows],
        "accuracy %": [_accuracy(row) for row in rows],
        "failed": [str(row.failed) for row in rows],
        "quoted\nmacs": [_format(row.paper_macs, millions) for row in rows],
        "quoted\n%": [_format(row.paper_accuracy, "{:.2f}".format) for row in rows],
        "ours -\nquoted": [_format(row.difference, "{:+z.2f}".format) for row in rows],
    }
    for name, as_it_should_be in (("in\nband", {"", "100%"}), ("failed", {"0"})):
        if set(columns[name]) <= as_it_should_be:
            del columns[name]
    stressed = (0, list(columns).index("accuracy %"))
    bold = frozenset((line, column) for line in _best_lines(table) for column in stressed)
    methods = table["method"].tolist()
    rules = frozenset(line for line, (one, other) in enumerate(pairwise(methods)) if one != other)
    lines = list(zip(*columns.values(), strict=True))
    return Grid(one_line(sweep["title"]), tuple(columns), lines, bold, rules)


def cost_grid(costs: pd.DataFrame, sweep: Manifest) -> Grid:
    """What each method's search cost, one line per method of the ledger, the paper's GPU-hours beside it."""
    header = (
        "",
        "device time",
        "training macs",
        "time\n/ TAS",
        "macs\n/ TAS",
        "n",
        "estimate,\nhours",
        "quoted\nGPU-hours",
    )
    labels = {method["name"]: method["label"] for method in sweep["methods"]}
    quoted = {
        paper.method: paper for paper in published("search_cost").fillna("").drop_duplicates("method").itertuples()
    }
    lines: list[tuple[str, ...]] = []
    row: Any
    for row in costs.itertuples():
        paper: Any = quoted.get(row.method)
        lines.append(
            (
                one_line(labels[row.method]),
                _spread(row.search_device_seconds_mean, row.search_device_seconds_half_width, duration),
                _spread(row.search_train_macs_mean, row.search_train_macs_half_width, scaled),
                _format(row.time_ratio, "x {:.1f}".format),
                _format(row.macs_ratio, "x {:.1f}".format),
                f"{row.n}/{len(sweep['seeds'])}",
                _format(row.paper_hours, "{:.3g}".format),
                f"{paper.bound} {paper.gpu_hours:g}".strip() if paper else "",
            )
        )
    return Grid("Search cost: a method's search jobs, mean over seeds; ratios on the same seed", header, lines)


def searches_grid(ended: pd.DataFrame, sweep: Manifest) -> Grid:
    """How the differentiable searches ended, one line per method."""
    header = ("", "argmax\nmacs / R", "argmax\nin band", "discrepancy", "supernet %", "device time", "memory", "n")
    lines: list[tuple[str, ...]] = []
    row: Any
    for row in ended.itertuples():
        lines.append(
            (
                one_line(str(row.name)),
                _spread(row.argmax_share_mean, row.argmax_share_half_width, _fraction),
                f"{row.met_mean:.0%}",
                _spread(row.discrepancy_mean, row.discrepancy_half_width, _fraction),
                _spread(row.val_accuracy_mean, row.val_accuracy_half_width, _fraction),
                _spread(row.device_seconds_mean, row.device_seconds_half_width, duration),
                _format(row.peak_memory_mean, lambda peak: f"{peak / 2**30:.2f} GiB"),
                f"{row.n}/{len(sweep['seeds'])}",
            )
        )
    return Grid("Differentiable searches: mean ± 95 % interval over seeds", header, lines)


def notes(used: pd.DataFrame, sweep: Manifest, table: pd.DataFrame) -> list[str]:
    """What a reader must know beside the tables, one line each."""
    found = [_budget(used, sweep, table)]
    if sweep["transfers"]:
        found += [
            "accuracy: test images, last epoch, mean ± 95 % interval over seeds; bold: best of its transfer mode, "
            f"from n = {ENOUGH} on, sizes all in band",
            "search cost: teacher and final trainings apart, start-up and evaluation included; estimate: "
            "device-hours here, were each training as long as the paper's on 50,000 images",
            "quoted: TAS (NeurIPS 2019), Table 1; search costs from its Table 2 (CIFAR-10, one V100) and the "
            "author response",
            *filter(None, [why_no_difference(sweep) or unlike_the_paper(used, sweep)]),
        ]
    if (table.loc[table["method"] != "teacher", "n"] < ENOUGH).any():
        found.append(f"n < {ENOUGH}: intervals are wide; do not rank by these alone")
    devices = sorted(used.loc[~used["kind"].isin(RESULTS), "device"].dropna().unique())
    if len(devices) > 1:
        found.append(f"device times are of several devices ({', '.join(devices)}): compare training macs")
    found += [*filter(None, [several_precisions(used)]), *_warnings(used), *_failures(used)]
    return [one_line(note) for note in found]


def terminal(grid: Grid) -> Table:
    """A grid for the terminal; its text is never taken as markup."""
    table = Table(
        title=Text(grid.title), box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False
    )
    for column, name in enumerate(grid.header):
        table.add_column(Text(name), justify="right" if column else "left", overflow="fold")
    for i, line in enumerate(grid.lines):
        styles = ["bold" if (i, column) in grid.bold else "" for column in range(len(line))]
        cells = [Text(cell, style=style) for cell, style in zip(line, styles, strict=True)]
        table.add_row(*cells, end_section=i in grid.rules)
    return table


def markdown(title: str, grids: Sequence[Grid], notes: Sequence[str]) -> str:
    """Grids and notes as GitHub Markdown."""
    parts = [f"# {escape(title)}"]
    for grid in grids:
        rows = [_markdown_row(escape(name) for name in grid.header)]
        rows.append(_markdown_row(["---"] + ["---:"] * (len(grid.header) - 1)))
        for i, line in enumerate(grid.lines):
            cells = (
                f"**{escape(cell)}**" if (i, column) in grid.bold and cell else escape(cell)
                for column, cell in enumerate(line)
            )
            rows.append(_markdown_row(cells))
        parts += [f"**{escape(grid.title)}**", "\n".join(rows)]
    parts.append("\n".join(f"- {escape(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def csv(table: pd.DataFrame) -> str:
    """All columns, raw numbers; text that a spreadsheet would take for a formula behind an apostrophe."""
    return table.map(_no_formula).to_csv(index=False)


def _no_formula(cell: Any) -> Any:
    return no_formula(cell) if isinstance(cell, str) else cell


def no_formula(text: str) -> str:
    """One line, behind an apostrophe where a spreadsheet would take it for a formula."""
    told = one_line(text)
    return f"'{told}" if told.startswith(("=", "+", "-", "@")) else told


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    html = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + c if c in "\\`*_{}[]#|~$!" else c for c in html)


def _best_lines(table: pd.DataFrame) -> list[int]:
    """Lines with the best accuracy of their transfer mode, among methods in the band with enough seeds."""
    ranked = table[(table["in_band"] == 1).fillna(False) & (table["n"] >= ENOUGH)]
    best = ranked.groupby("transfer")["accuracy_mean"].transform("max")
    return [int(line) for line in ranked.index[ranked["accuracy_mean"] == best]]


def _accuracy(row: Any) -> str:
    n = f"(n={row.n})" if row.n == row.planned else f"(n={row.n}/{row.planned})"
    spread = _format(row.accuracy_half_width, " ± {:.2f}".format)
    return f"{_format(row.accuracy_mean, '{:.2f}'.format)}{spread} {n}".strip()


def _format(value: Any, how: Callable[[float], str]) -> str:
    return "" if pd.isna(value) else how(value)


def _spread(mean: Any, half_width: Any, how: Callable[[float, float | None], str]) -> str:
    if pd.isna(mean):
        return ""
    return how(mean, None if pd.isna(half_width) else half_width) if mean else "0"


def _fraction(value: float, half_width: float | None) -> str:
    return f"{value:.2f}" + ("" if half_width is None else f" ± {half_width:.2f}")


def scaled(macs: float, half_width: float | None) -> str:
    """Training macs in the unit that suits them."""
    size, unit = next(((s, u) for s, u in ((1e18, "E"), (1e15, "P"), (1e12, "T")) if macs >= s), (1e9, "G"))
    spread = "" if half_width is None else f" ± {half_width / size:.1f}"
    return f"{macs / size:.1f}{spread} {unit}"


def _budget(used: pd.DataFrame, sweep: Manifest, table: pd.DataFrame) -> str:
    budgets = used["budget"].dropna().unique()
    counted = budget_noun(sweep)
    share = f"{100 * sweep['keep']:g} % of the unpruned network's"
    target = amount(counted, budgets[0], digits=2) if len(budgets) == 1 else share
    met = (table["in_band"].dropna() == 1).all() and table["in_band"].notna().any()
    return f"budget R = {target} {counted} ± {100 * sweep['t']:g} %" + ("; all sizes meet it" if met else "")


def _who(job: Any) -> str:
    """Who asked for a job: a method's only search is told by method and seed alone."""
    what = "" if job.kind == "search" else f", {job.kind}"
    return f"{job.method} seed {job.seed:g}{what}" + ("" if pd.isna(job.transfer) else f" {job.transfer}")


def several_precisions(used: pd.DataFrame) -> str | None:
    """A warning where trainings that are compared ran in several."""
    found = sorted(used["precision"].dropna().unique())
    return f"trainings ran in {' and '.join(found)}: accuracies may differ by that" if len(found) > 1 else None


def _warnings(used: pd.DataFrame) -> list[str]:
    warned = used[used["warning"].notna()]
    return _listed([f"{_who(job)}: {job.warning}" for job in warned.itertuples()], "warnings")


def _failures(used: pd.DataFrame) -> list[str]:
    failed = used[used["status"].notna() & (used["status"] != "ok")]
    told = []
    job: Any
    for job in failed.itertuples():
        error = "" if pd.isna(job.error) else f": {job.error}"
        told.append(f"{_who(job)}: {job.status}{error}")
    return _listed(told, "failed jobs")


def _listed(lines: list[str], what: str) -> list[str]:
    """Each distinct line once, with how often; a long list is cut."""
    told = [line if count == 1 else f"{line} ({count} times)" for line, count in Counter(lines).items()]
    more = [f"and {len(told) - LISTED} more {what}"] if len(told) > LISTED else []
    return told[:LISTED] + more


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
