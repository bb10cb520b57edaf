"""A results directory in a handful of files: nothing is lost on the way, and a run goes on with what comes out."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_cli_runs import sets, tiny, without_ray  # noqa: F401

from tas_bench.cli import main
from tas_bench.digest import sealed
from tas_bench.errors import DAMAGED, OK
from tas_bench.reading import TABLES, load
from tas_bench.report.example import write_example
from tas_bench.store import Store

RUN = ["run", "demo", "--quiet", *tiny("ratio,random_search", epochs=2), *sets("trials=3"), "--results"]


@pytest.fixture
def made(here):
    write_example(here / "made", seeds=2, candidates=3, epochs=3)
    return here


def in_order(frame):
    return frame.sort_values([c for c in ("plan", "job_id", "epoch") if c in frame]).reset_index(drop=True)


def test_nothing_is_lost_on_the_way(made, capsys):
    assert main(["pack", "made", "packed"]) == OK
    assert capsys.readouterr().out == "40 rows packed into packed\n"
    assert main(["unpack", "packed", "again"]) == OK
    assert main(["unpack", "packed", "again"]) == OK
    assert capsys.readouterr().out == "40 rows added to again\n0 rows added to again\n"
    for table in TABLES:
        whole = in_order(load("made", table=table))
        for other in ("packed", "again"):
            pd.testing.assert_frame_equal(in_order(load(other, table=table)), whole)
    assert {p.name for p in Path("packed").iterdir()} == {f"{t}.parquet" for t in TABLES} | {
        "_sweep.json",
        "_runs",
    }
    for results in ("made", "packed"):
        assert main(["report", results]) == OK
    tables = [
        {p.name: p.read_text().replace(results, "DIR") for p in Path(results, "_report", "tables").glob("*.csv")}
        for results in ("made", "packed")
    ]
    assert tables[0] == tables[1]
    assert len(tables[0]) > 8


def test_a_run_goes_on_with_it(without_ray, capsys):  # noqa: F811
    assert main([*RUN, "whole"]) == OK
    rows = load("whole")
    main(["pack", "whole", "all"])
    for key in rows.loc[rows["kind"] == "final", "job_id"]:
        Path("whole/rows", f"{key}.parquet").unlink()
    main(["pack", "whole", "part"])
    assert len(load("part")) == len(rows) - 2
    for packed, missing in (("all", 0), ("part", 2)):
        main(["unpack", packed, f"from_{packed}"])
        assert main(["check", f"from_{packed}"]) == OK
        capsys.readouterr()
        assert main([*RUN, f"from_{packed}"]) == OK
        assert f"{missing} jobs run, {len(rows) - missing} found finished" in capsys.readouterr().err
        same = ["job_id", "widths", "train_accuracy", "val_accuracy", "test_accuracy"]
        pd.testing.assert_frame_equal(in_order(load(f"from_{packed}"))[same], in_order(load("all"))[same])


def test_what_is_refused(made, refused, capsys):
    assert main(["pack", "made", "packed"]) == OK
    shutil.copytree("packed", "torn")
    whole = Path("torn/rows.parquet").read_bytes()
    Path("torn/rows.parquet").write_bytes(whole[: len(whole) // 2])
    shutil.copytree("made", "other")
    Path("other/_sweep.json").write_bytes(sealed(Store(Path("made")).manifest() | {"name": "other"}))
    capsys.readouterr()
    assert "nowhere holds no results" in refused("pack", "nowhere", "out")
    assert "made holds nothing packed (no file made/rows.parquet)" in refused("unpack", "made", "out")
    assert "other holds sweep 'other', not 'table1'" in refused("unpack", "packed", "other")
    assert "torn/rows.parquet is damaged" in refused("unpack", "torn", "made", code=DAMAGED)
    told = refused("run", "demo", "--results", "packed", *tiny("ratio"))
    assert told == "packed is packed; `tas-bench unpack packed DIR` makes DIR to go on in"
