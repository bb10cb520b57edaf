"""The whole report of a results directory: the page, its tables and its figures as files."""

from __future__ import annotations

from pathlib import Path

from tas_bench.files import write_in_folder
from tas_bench.report.html import Made, page
from tas_bench.report.parts import Note, Part, Plot, Section, Table
from tas_bench.report.sections import all_sections
from tas_bench.report.source import Source
from tas_bench.report.written import written
from tas_bench.text import file_name, one_line

PAGE = "report.html"


def write_report(source: Source, out: Path, figures: bool = True) -> Path:
    """Write `report.html`, `tables/` and `figures/`; the page comes last.

    Args:
        figures: whether plots are written as PNG and SVG too, which takes most of the time.

    Raises:
        StoreIOError: a file cannot be written.
    """
    made = [Made(section, _parts(section, source)) for section in all_sections()]
    made = [each for each in made if each.parts]
    parts = [part for each in made for part in each.parts]
    for table in (part for part in parts if isinstance(part, Table)):
        for ending, text in written(table).items():
            write_in_folder(out / "tables" / f"{file_name(table.name)}.{ending}", text.encode())
    for plot in (part for part in parts if isinstance(part, Plot) and figures):
        from tas_bench.report.drawn import drawn

        for ending, data in drawn(plot).items():
            write_in_folder(out / "figures" / f"{file_name(plot.name)}.{ending}", data)
    write_in_folder(out / PAGE, page(source, made).encode())
    return out / PAGE


def _parts(section: Section, source: Source) -> list[Part]:
    """What a section says; one that cannot be made of strange rows costs the others nothing."""
    try:
        return section.make(source)
    except Exception as error:  # values that no section foresaw
        told = one_line(f"{type(error).__name__}: {error}")[:200]
        return [Note(f"This section cannot be made of these rows ({told}).", "bad")]
