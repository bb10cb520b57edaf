"""RESULTS.md of the packed rows: every figure in it is made here, none stands in the template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from came_out import by_depth, of_table1, of_table2, of_tolerance
from decided import decided, late
from figures import markdown
from jinja2 import Environment, StrictUndefined
from orders import orders_table
from ran import rate, scale
from shortcuts import by_shortcuts

from sweeps.replication_cifar100 import SWEEP as TABLE1
from sweeps.replication_samples import SWEEP as TABLE2
from sweeps.replication_tolerance import SWEEP as TOLERANCE
from tas_bench.budget import Band
from tas_bench.errors import StoreDamagedError
from tas_bench.files import write_whole
from tas_bench.reading import load
from tas_bench.report.drawn import drawn
from tas_bench.report.parts import Note, Plot, Table, millions
from tas_bench.report.sections import all_sections
from tas_bench.report.source import Source, read_source
from tas_bench.report.table1 import SUFFIXES, published
from tas_bench.report.written import as_markdown
from tas_bench.sweep import Sweep

HERE = Path(__file__).parent
SWEEPS = (TABLE1, TABLE2, TOLERANCE)
CAME_OUT = {TABLE1.name: of_table1, TABLE2.name: of_table2, TOLERANCE.name: of_tolerance}


def results_page(root: Path, figures: bool = False) -> str:
    """RESULTS.md, its tables made of the packed rows.

    Args:
        figures: also draw the plots it shows.
    """
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 (Markdown, no HTML)
    template = environment.from_string((root / "RESULTS.md.jinja").read_text(encoding="utf-8"))
    read = {sweep.name: read_source(root / sweep.name) for sweep in SWEEPS if (root / sweep.name).is_dir()}
    if damaged := [line for source in read.values() for line in source.damaged]:
        raise StoreDamagedError("; ".join(damaged))
    sources = {name: source for name, source in read.items() if len(source.rows)}

    def part(name: str, section: str, leave_out: str = "") -> str:
        return section_of(sources[name], section, root if figures else None, leave_out)

    def of(make: Callable[[Source], str]) -> Callable[[str], str]:
        return lambda name: make(sources[name])

    return template.render(
        part=part, there=sources.__contains__, scale=of(scale), orders=of(orders_table), late=of(late),
        decided=of(decided), by_depth=of(by_depth), by_shortcuts=of(by_shortcuts), quoted=quoted,
        came_out=lambda name: CAME_OUT[name](sources[name]),
        pilots=lambda: pilots(root / "pilots"), logits=logits_of(TABLE1), rate=of(rate),
        fixed=lambda name, key: sources[name].manifest["fixed"][key],
    )  # fmt: skip


def section_of(source: Source, name: str, root: Path | None, leave_out: str = "") -> str:
    """A section of the report as Markdown; where `root` is given, its plots are drawn.

    Args:
        leave_out: a table, and notes that begin with its name.
    """
    [section] = [section for section in all_sections() if section.name == name]
    blocks = []
    for part in section.make(source):
        if leave_out and (part.text.lower() if isinstance(part, Note) else part.name).startswith(leave_out):
            continue
        if isinstance(part, Note):
            blocks.append(f"*{part.text}*")
        elif isinstance(part, Table):
            blocks.append(as_markdown(part).strip())
        else:
            blocks.append(picture(part, str(source.manifest["name"]), root))
    return "\n\n".join(blocks)


def picture(plot: Plot, sweep: str, root: Path | None) -> str:
    """A plot as a link to its file."""
    path = f"{sweep}/figures/{plot.name}.png"
    if root is not None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(root / path, drawn(plot)["png"])
    return f"![{plot.title}. {plot.alt}](results/{path})"


def logits_of(sweep: Sweep) -> int:
    """How many logits a point of CMA-ES has: one per candidate of every width and depth."""
    return int(Band.of(sweep.problems[0]).space.counts.sum())


def pilots(root: Path) -> str:
    """What the problem of Table 1 came to at other scales, one seed, as Markdown."""
    by_batch = {int(path.name.removeprefix("batch_")): load(path) for path in root.iterdir()}
    accuracy = {}
    for batch, rows in by_batch.items():
        for row in rows[rows["test_accuracy"].notna()].itertuples():
            accuracy[batch, row.method, row.transfer] = f"{100 * row.test_accuracy:.2f}"
    trained = {("teacher", "scratch"): "Unpruned"} | {
        (method.name, transfer): f"{method.label}{SUFFIXES[transfer]}"
        for method in TABLE1.methods for transfer in SUFFIXES
    }  # fmt: skip
    shown = {key: title for key, title in trained.items() if any((batch, *key) in accuracy for batch in by_batch)}
    lines = [["Batch", *shown.values(), "Discrepancy of TAS"], ["---:"] * (len(shown) + 2)]
    for batch in sorted(by_batch, reverse=True):
        gaps = by_batch[batch].loc[by_batch[batch]["kind"] == "search", "discrepancy"]
        told = [accuracy.get((batch, *key), "") for key in shown]
        lines.append([str(batch), *told, ", ".join(f"{gap:.3f}" for gap in gaps)])
    return markdown(lines)


def quoted(table: str, columns: dict[str, str]) -> str:
    """Columns of a table of the paper, under the titles given, as Markdown."""
    rows = published(table)[list(columns)]
    cells = [[millions(v) if c == "macs" else f"{v:g}" for c, v in row.items()] for row in rows.to_dict("records")]
    lines = [columns.values(), ["---"] * len(columns), *cells]
    return markdown(lines)
