"""RESULTS.md of the packed rows: every figure in it is made here, none stands in the template."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, StrictUndefined

from sweeps.replication_cifar100 import SWEEP as TABLE1
from sweeps.replication_samples import SWEEP as TABLE2
from sweeps.replication_tolerance import SWEEP as TOLERANCE
from tas_bench.files import write_whole
from tas_bench.reading import load
from tas_bench.report.drawn import drawn
from tas_bench.report.parts import Note, Plot, Table
from tas_bench.report.sections import all_sections
from tas_bench.report.sections.comparisons import compared, compared_transfers
from tas_bench.report.source import Source, read_source
from tas_bench.report.stats import ENOUGH, Interval
from tas_bench.report.table1 import published
from tas_bench.report.written import as_markdown
from tas_bench.text import duration

HERE = Path(__file__).parent
SWEEPS = (TABLE1, TABLE2, TOLERANCE)


def results_page(root: Path, figures: bool = False) -> str:
    """RESULTS.md, its tables made of the packed rows.

    Args:
        figures: also draw the plots it shows.
    """
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 (Markdown, no HTML)
    template = environment.from_string((root / "RESULTS.md.jinja").read_text(encoding="utf-8"))
    sources = {sweep.name: read_source(root / sweep.name) for sweep in SWEEPS if (root / sweep.name).is_dir()}

    def part(name: str, section: str) -> str:
        return section_of(sources[name], section, root if figures else None)

    return template.render(
        part=part, there=sources.__contains__, scale=lambda name: scale(sources[name]),
        claims=lambda name: claims(sources[name]), quoted=quoted, pilots=lambda: pilots(root / "pilots"),
        fixed=lambda name, key: sources[name].manifest["fixed"][key],
    )  # fmt: skip


def section_of(source: Source, name: str, root: Path | None) -> str:
    """A section of the report as Markdown; where `root` is given, its plots are drawn."""
    [section] = [section for section in all_sections() if section.name == name]
    blocks = []
    for part in section.make(source):
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


def scale(source: Source) -> str:
    """What was run, on what, and how far it is."""
    manifest, rows = source.manifest, source.rows
    fixed, asked = manifest["fixed"], source.used.drop_duplicates("job_id")
    devices, precisions = (", ".join(sorted(rows[name].dropna().unique())) for name in ("device", "precision"))
    searches = sorted({str(value) for key, value in fixed.items() if key.endswith(".search_epochs")})
    told = [source.problems[0]["title"], f"searches for {', '.join(searches)} epochs"]
    if manifest["transfers"]:
        teachers = fixed["teacher_epochs"] or fixed["recipe.epochs"]
        told.append(f"teachers for {teachers}, finals for {fixed['recipe.epochs']}, tested on the whole test set")
    told += [f"batches of {fixed['recipe.batch']}", f"seeds {', '.join(map(str, sorted(rows['seed'].unique())))}"]
    ended = f"{asked['status'].eq('ok').sum()} of the {len(asked)} jobs asked for so far ended well"
    spent = duration(float(rows["device_seconds"].sum()))
    return f"- Run: {'; '.join(told)}.\n- On: {devices}, {precisions}.\n- Rows: {ended}, {spent} of device time."


def pilots(root: Path) -> str:
    """What the problem of Table 1 came to at other scales, seed 0, as Markdown."""
    trained = {"teacher": "Unpruned", "scratch": "Pre-defined", "init": "w/ Init", "kd": "w/ KD"}
    lines = [["Batch", *trained.values(), "Discrepancy of TAS"], ["---:"] * (len(trained) + 2)]
    by_batch = {int(path.name.removeprefix("batch_")): load(path) for path in root.iterdir()}
    for batch in sorted(by_batch, reverse=True):
        rows = by_batch[batch]
        told_of = rows[rows["method"].isin(["teacher", "ratio"])]
        who = told_of["transfer"].where(told_of["kind"] == "final", "teacher")
        accuracy = dict(zip(who, told_of["test_accuracy"], strict=True))
        gaps = rows.loc[rows["kind"] == "search", "discrepancy"]
        told = [f"{100 * accuracy[name]:.2f}" if name in accuracy else "" for name in trained]
        lines.append([str(batch), *told, ", ".join(f"{gap:.3f}" for gap in gaps)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quoted(table: str, columns: dict[str, str]) -> str:
    """Columns of a table of the paper, under the titles given, as Markdown."""
    rows = published(table)[list(columns)].fillna("")
    lines = [columns.values(), ["---"] * len(columns), *rows.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def claims(source: Source) -> str:
    """The paper's orders beside ours: what agrees, what does not, what is undecided; rivals it lacks come last."""
    paper = published("table1").set_index(["method", "transfer"])["accuracy"].unstack()
    lines = ["| Claim | Paper (quoted), points | Ours, points | n | |", "| --- | ---: | ---: | ---: | --- |"]
    both = [name for name in source.labels if name in paper.index]
    for pair in compared_transfers(source, both):
        theirs = (paper[pair.one] - paper[pair.other])[both].mean()
        lines.append(claim(f"{pair.one} above {pair.other}, mean over methods", theirs, pair.difference))
    unclaimed = []
    for transfer in source.manifest["transfers"]:
        for pair in compared(source, transfer):
            one, other, ours, theirs = pair.one, pair.other, pair.difference, None
            if one in paper.index and other in paper.index:
                theirs = paper.loc[one, transfer] - paper.loc[other, transfer]
                if theirs < 0:
                    one, other, theirs = other, one, -theirs
                    ours = Interval(None if ours.mean is None else -ours.mean, ours.half_width, ours.n)
            names = f"{source.label(one)} above {source.label(other)}, {transfer}"
            (lines if theirs is not None else unclaimed).append(claim(names, theirs, ours))
    return "\n".join(lines + unclaimed)


def claim(what: str, theirs: float | None, ours: Interval) -> str:
    """A line: what the paper's figures say, what ours say, and whether they agree."""
    told, said = "", "no pair yet"
    yes, no = ("agrees", "disagrees") if theirs is not None else ("so it is", "the other way round")
    if ours.mean is not None:
        half = "" if ours.half_width is None else f" ± {ours.half_width:.2f}"
        told = f"{ours.mean:+.2f}{half}"
        clear = ours.half_width is not None and ours.half_width < abs(ours.mean)
        said = (yes if ours.mean > 0 else no) if clear else "undecided"
        said += f", but fewer than {ENOUGH} pairs" if clear and ours.n < ENOUGH else ""
    return f"| {what} | {'' if theirs is None else f'{theirs:+.2f}'} | {told} | {ours.n} | {said} |"
