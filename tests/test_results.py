"""RESULTS.md is made of the committed rows, and its template claims no figures; when a replication is complete."""

import re
import shutil
from pathlib import Path

import pytest
from helpers import tiny
from results_page import ROOT, TABLE2

from sweeps.demo import SWEEP as DEMO
from tas_bench.cli import main
from tas_bench.errors import OK, StoreDamagedError
from tas_bench.reading import load
from tas_bench.report.stats import Interval
from tas_bench.settings import with_settings
from tas_bench.store import Store
from tas_bench.tables import read_row, row_bytes


@pytest.mark.usefixtures("scripts")
def test_it_is_made_of_the_rows():
    import page

    assert page.results_page(ROOT / "results") == (ROOT / "RESULTS.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("scripts", "without_ray")
def test_a_sweep_is_complete_when_every_job_ended_well():
    import replication

    short = with_settings(
        DEMO, {"backbones": "tiny", "methods": "ratio", "transfers": "kd", "epochs": "1", "seeds": "0"}
    )
    assert not replication.complete(short, Path("packed"))
    assert main(["run", "demo", "--quiet", *tiny("ratio", transfers="kd"), "--results", "whole"]) == OK
    assert main(["pack", "whole", "packed"]) == OK
    assert replication.complete(short, Path("packed"))
    assert not replication.complete(with_settings(short, {"seeds": "0,1"}), Path("packed"))
    row = Store(Path("whole")).row_path(load("whole").query("kind == 'final'")["job_id"].item())
    row.write_bytes(row_bytes(read_row(row).to_pylist()[0] | {"status": "failed"}))
    assert main(["pack", "whole", "packed"]) == OK
    assert not replication.complete(short, Path("packed"))


@pytest.mark.usefixtures("scripts", "here")
def test_one_that_is_stopped_before_its_first_row_says_so(monkeypatch):
    import replication

    monkeypatch.setattr(replication, "HERE", Path())
    monkeypatch.setattr(replication, "run_command", lambda _words: 130)
    assert replication.run(DEMO, (0,), Path("data")) == 130


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (0.5, Interval(1.0, 0.4, 5), "agrees"),
        (0.5, Interval(-1.0, 0.4, 5), "disagrees"),
        (-0.5, Interval(-1.0, 0.4, 5), "agrees"),
        (0.5, Interval(1.0, 1.4, 5), "undecided"),
        (0.5, Interval(1.0, None, 1), "undecided"),
        (0.5, Interval(1.0, 0.4, 3), "same sign"),
        (0.5, Interval(-1.0, 0.4, 3), "opposite sign"),
        (0.5, Interval(None, None, 0), "no pair yet"),
    ],
)
def test_verdicts(theirs, ours, said):
    from orders import Order

    assert Order("x", "y", "", theirs, ours, ours).verdict == said


@pytest.mark.usefixtures("scripts")
def test_damaged_rows_make_no_page(tmp_path):
    import page

    shutil.copytree(ROOT / "results", tmp_path / "results", ignore=shutil.ignore_patterns("runs"))
    (tmp_path / "results" / TABLE2 / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreDamagedError, match="is damaged"):
        page.results_page(tmp_path / "results")


def test_every_picture_is_there():
    pictures = re.findall(r"\]\((results/[^)]*)\)", (ROOT / "RESULTS.md").read_text(encoding="utf-8"))
    assert pictures
    assert all((ROOT / path).is_file() for path in pictures)


def test_the_template_claims_no_figures():
    template = (ROOT / "results" / "RESULTS.md.jinja").read_text(encoding="utf-8")
    prose = re.sub(r"\{[{%].*?[%}]\}", "", template, flags=re.DOTALL)
    names = r"CIFAR-100?|ResNet-32|V100|Table [12]|95 %|f305a9f44f"
    assert re.findall(r".*\d.*", re.sub(names, "", prose)) == []
