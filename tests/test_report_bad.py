"""Reports of what is not as it should be: nothing yet, all failed, one seed, damaged files, strange names."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_bench.cli import main
from tas_bench.errors import OK
from tas_bench.report import drawn as drawing
from tas_bench.report.example import METHODS, write_example
from tas_bench.report.html import script_safe
from tas_bench.report.parts import Cell, Note, Plot, Table
from tas_bench.report.sections import all_sections
from tas_bench.report.source import read_source
from tas_bench.report.whole import write_report
from tas_bench.report.written import as_csv, as_latex, as_markdown, latex
from tas_bench.schema import SCHEMA_VERSION
from tas_bench.tables import read_row, row_bytes


class Reader(HTMLParser):
    """Text of a page by the section it is in."""

    def __init__(self, page):
        super().__init__()
        self.section, self.texts, self.skip = "", {}, False
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        self.section = dict(attrs)["id"] if tag == "section" else self.section
        self.skip = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.skip = False

    def handle_data(self, data):
        if not self.skip:
            self.texts[self.section] = self.texts.get(self.section, "") + data


def reported(root):
    """Texts of the report's sections."""
    return Reader(write_report(read_source(root), root / "_report", figures=False)).texts


def change(root, pattern="*", **values):
    """Other values in the rows that match."""
    for path in (root / "rows").glob(f"{pattern}.parquet"):
        [row] = read_row(path).to_pylist()
        path.write_bytes(row_bytes(row | values))


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A whole sweep; not to be written to."""
    root = tmp_path_factory.mktemp("example")
    write_example(root, seeds=3, candidates=2, epochs=5)
    return root


@pytest.fixture
def made(example, tmp_path):
    return shutil.copytree(example, tmp_path, dirs_exist_ok=True)


def test_every_section_has_something_to_say_of_a_whole_sweep(made):
    source = read_source(made)
    found = {section.name: section.make(source) for section in all_sections()}
    assert {name for name, parts in found.items() if not parts} == {"samples", "tuning"}
    names = [part.name for parts in found.values() for part in parts if isinstance(part, Table)]
    assert len(names) == len(set(names))
    assert all(
        panel.series for parts in found.values() for p in parts if isinstance(p, Plot) for panel in p.panels
    )
    places = [section.place for section in all_sections()]
    assert places == sorted(set(places))


def test_no_rows_yet(made):
    shutil.rmtree(made / "rows")
    (made / "rows").mkdir()
    texts = reported(made)
    assert "no job has ended yet" in texts["summary"]
    assert "no final training has ended well yet" in texts["summary"]
    assert "0 of 3" in texts["accuracies"]
    shutil.rmtree(made / "_uses")
    assert "0 jobs asked for" in reported(made)["summary"]


def test_all_failed(made):
    change(made, status="oom", error="no memory <left>", test_accuracy=None, val_accuracy=None, attempts=3)
    texts = reported(made)
    assert "no job has ended well" in texts["summary"]
    assert texts["failures"].count("no memory <left>") == 3 * 18  # the teacher is one job for all
    assert "pareto" not in texts
    assert "comparisons" not in texts


def test_a_failure_that_ended_well_is_told(made):
    key = "final-tas-0-kd-0"
    change(made, key, attempts=2)
    log = {"attempts": [{"how": "timeout", "seconds": 3}, {"how": "ok"}]}
    (made / "_attempts" / f"{key}.json").write_text(json.dumps(log))
    page = write_report(read_source(made), made / "_report", figures=False)
    assert "ended well (attempts: timeout, ok)" in Reader(page).texts["failures"]
    assert f'href="../_attempts/{key}.json"' in page.read_text()
    (made / "_attempts" / f"{key}.json").write_text("[")
    [section] = [section for section in all_sections() if section.name == "failures"]
    [table] = [part for part in section.make(read_source(made)) if getattr(part, "name", "") == "failures"]
    assert "ended well" in [cell.text for line in table.lines for cell in line]


def test_one_seed_has_no_intervals(tmp_path):
    write_example(tmp_path, seeds=1, candidates=2, epochs=5)
    texts = reported(tmp_path)
    assert "not settled, one pair tells nothing of the spread" in texts["summary"]
    for name in ("accuracies", "comparisons", "search_cost", "pareto", "trajectories"):
        lines = [line for line in texts[name].splitlines() if "±" in line]
        assert all("95 % interval" in line for line in lines), name


def test_partial_results(made):
    for path in sorted((made / "rows").glob("final-*"))[::2]:
        path.unlink()
    shutil.rmtree(made / "_curves")
    texts = reported(made)
    assert "waiting" in texts["summary"]
    assert "1 of 3" in texts["accuracies"]
    assert "learning" not in texts


def test_torn_files_are_left_out_and_named(own_store, capsys):
    torn = sorted((own_store / "_curves").iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:-9])
    row = sorted((own_store / "rows").iterdir())[0]
    row.write_bytes(b"PAR1")
    assert main(["report", str(own_store), "--no-figures"]) == OK
    told = capsys.readouterr().err.splitlines()
    assert [line.startswith("warning: left out: ") for line in told] == [True, True]
    assert row.name in told[0]
    assert torn.name in told[1]
    text = Reader(own_store / "_report" / "report.html").texts["summary"]
    assert row.name in text
    assert torn.name in text


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_older_schemas(version, tmp_path):
    golden = Path(__file__).parent / "golden" / f"store_v{version}"
    root = Path(shutil.copytree(golden, tmp_path / "v"))
    texts = reported(root)
    assert "2 of 2 jobs" in texts["summary"]
    assert "17.27" in texts["accuracies"]


def test_files_beside_the_page(tmp_path, monkeypatch):
    """Of methods whose names are markup to what draws them."""
    real = drawing.drawn

    def in_one_format(plot):  # but for one plot: that saves seconds
        with monkeypatch.context() as patch:
            patch.setattr(drawing, "FORMATS", ("png", "svg") if plot.name == "pareto" else ("svg",))
            return real(plot)

    monkeypatch.setattr(drawing, "drawn", in_one_format)
    labels = METHODS | {"random_search": "_$x^{", "ratio": "a\\b <i>\n%"}
    write_example(tmp_path, seeds=3, candidates=2, epochs=5, labels=labels)
    out = tmp_path / "_report"
    write_report(read_source(tmp_path), out)
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {"pareto.png", "pareto.svg"} <= figures
    assert (out / "figures" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    drawn = (out / "figures" / "pareto.svg").read_text()
    assert "<svg" in drawn
    assert "_$x^{" in drawn
    [csv] = (out / "tables").glob("accuracies-*.csv")
    back = pd.read_csv(csv).set_index("Method")
    assert back.loc["TAS w/ KD", "Accuracy % (paper)"] == 72.41
    assert "±" in back.loc["TAS w/ KD", "Accuracy % (ours) (as told)"]
    assert csv.with_suffix(".tex").read_text().count(r"\\") == 14
    assert csv.with_suffix(".md").read_text().count("\n") == 17


# ---------------------------------------------------------------- names


STRANGE = st.text(st.sampled_from("<>&\"'\\{}$#%_^~|=+-@ \n\x00é\u202e*`[]!a"), max_size=12)


@settings(max_examples=50, deadline=None)
@given(STRANGE)
def test_text_that_is_markup_elsewhere(name):
    table = Table("t", name, ("x", "n"), [(Cell(name), Cell("1", 1.0))])
    tex = as_latex(table).splitlines()[-3]
    for cell in (latex(name), tex):
        plain = cell
        for known in (r"\textbackslash{}", r"\textasciicircum{}", r"\textasciitilde{}", "$|$", "$<$", "$>$"):
            plain = plain.replace(known, "")
        for special in "{}$&#%_":
            plain = plain.replace(f"\\{special}", "")
        assert not set(plain.removesuffix(r"& 1 \\").replace(" & 1", "")) & set("{}$&#%_^~")
    assert as_csv(table).count("\n") == 2
    assert not as_csv(table).splitlines()[1].startswith(("=", "+", "-", "@"))
    assert as_markdown(table).count("\n") == 5
    told = script_safe({"name": name})
    assert not set(told) & set("<>&")
    assert json.loads(told) == {"name": name}


def test_a_section_that_cannot_be_made_costs_the_others_nothing(made, monkeypatch):
    frame = pd.DataFrame
    monkeypatch.setattr("tas_bench.report.sections.pareto.front", lambda points: frame().loc["x"])
    texts = reported(made)
    assert "cannot be made of these rows (KeyError" in texts["pareto"]
    assert "TAS w/ KD" in texts["accuracies"]


def test_notes_have_a_tone(made):
    change(made, "final-tas-*", macs=1, cost=1)
    [summary] = [section.make(read_source(made)) for section in all_sections() if section.name == "summary"]
    assert Note("9 of 36 final sizes miss the budget's band of ± 5 %.", "bad") in summary
