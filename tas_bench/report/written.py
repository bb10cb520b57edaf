"""Tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io

from tas_bench.report.parts import Cell, Table
from tas_bench.report.render import escape, no_formula
from tas_bench.text import one_line

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "±": r"$\pm$", "|": r"$|$", "<": r"$<$", ">": r"$>$",
    "†": r"\dag{}",
}  # fmt: skip


def written(table: Table) -> dict[str, str]:
    """A table as texts, by the endings of their files."""
    return {"csv": as_csv(table), "md": as_markdown(table), "tex": as_latex(table)}


def as_csv(table: Table) -> str:
    """Numbers raw, with what is read beside them; nothing that a spreadsheet takes for a formula."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    numeric = [any(isinstance(line[i].value, float) for line in table.lines) for i in range(len(table.header))]
    header = [
        [name, f"{name} (as told)"] if number else [name]
        for name, number in zip(table.header, numeric, strict=True)
    ]
    writer.writerow([name for names in header for name in names])
    for line in table.lines:
        cells = [_raw(cell, number) for cell, number in zip(line, numeric, strict=True)]
        writer.writerow([cell for both in cells for cell in both])
    return sink.getvalue()


def _raw(cell: Cell, number: bool) -> list[str]:
    told = no_formula(cell.text)
    if not number:
        return [told]
    return [repr(cell.value) if isinstance(cell.value, float) else "", told]


def as_markdown(table: Table) -> str:
    """GitHub's."""
    rows = [f"**{escape(table.caption)}**", "", _row(table.header), _row(["---"] * len(table.header), plain=True)]
    return "\n".join([*rows, *(_row([cell.text for cell in line]) for line in table.lines)]) + "\n"


def _row(cells: tuple[str, ...] | list[str], plain: bool = False) -> str:
    return f"| {' | '.join(cell if plain else escape(cell) for cell in cells)} |"


def as_latex(table: Table) -> str:
    """A `tabular` in the manner of booktabs, to be put into a table."""
    columns = "l" + "r" * (len(table.header) - 1)
    lines = [f"% {one_line(table.caption)}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(map(latex, table.header)) + r" \\", r"\midrule"]
    lines += [" & ".join(latex(cell.text) for cell in line) + r" \\" for line in table.lines]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def latex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(_LATEX.get(c, c) for c in one_line(text))
