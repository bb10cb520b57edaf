"""A results directory in a handful of files: nothing is lost on the way, and a run goes on with what comes out."""

import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import sets, tiny

from tas_bench import packed
from tas_bench.cli import main
from tas_bench.digest import sealed
from tas_bench.errors import DAMAGED, OK
from tas_bench.reading import TABLES, load, read_arrow
from tas_bench.report.example import write_example
from tas_bench.schema import USES
from tas_bench.store import Store
from tas_bench.tables import row_bytes, table_bytes
from tas_bench.uses import write_uses

RUN = [
    "run",
    "demo",
    "--quiet",
    *tiny("ratio,random_search", epochs=2),
    *sets("trials=3", "train_subset=200"),
    "--results",
]


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
    files = {path.name for path in Path("packed").iterdir()}
    assert files == {"_sweep.json", "_runs", *(f"{table}.parquet" for table in TABLES)}
    for results in ("made", "packed"):
        assert main(["report", results, "--no-figures"]) == OK
    tables = [
        {p.name: p.read_text().replace(results, "DIR") for p in Path(results, "_report", "tables").glob("*.csv")}
        for results in ("made", "packed")
    ]
    assert tables[0] == tables[1]
    assert len(tables[0]) > 8


def test_a_run_goes_on_with_it(without_ray, capsys):
    assert main([*RUN, "whole"]) == OK
    rows = load("whole")
    main(["pack", "whole", "all"])
    for key in rows["job_id"][:2]:
        Path("whole/rows", f"{key}.parquet").unlink()
    main(["pack", "whole", "part"])
    assert len(load("part")) == len(rows) - 2
    for pack, missing in (("all", 0), ("part", 2)):
        main(["unpack", pack, f"from_{pack}"])
        assert main(["check", f"from_{pack}"]) == OK
        capsys.readouterr()
        assert main([*RUN, f"from_{pack}"]) == OK
        assert f"{missing} jobs run, {len(rows) - missing} found finished" in capsys.readouterr().err
        same = ["job_id", "widths", "train_accuracy", "val_accuracy", "test_accuracy"]
        pd.testing.assert_frame_equal(in_order(load(f"from_{pack}"))[same], in_order(load("all"))[same])


def test_a_teacher_whose_weights_are_not_packed_is_trained_again_only_for_a_job_to_run(without_ray, capsys):
    argv = [
        "run",
        "demo",
        "--quiet",
        *tiny("ratio", transfers="scratch,kd"),
        *sets("train_subset=200"),
        "--results",
    ]
    assert main([*argv, "whole"]) == OK
    main(["pack", "whole", "packed"])
    main(["unpack", "packed", "again"])
    assert main(["check", "again"]) == OK
    found = capsys.readouterr().out
    assert "_weights" in found
    assert "is missing; a job that needs them trains them again" in found
    assert main([*argv, "again"]) == OK
    assert "0 jobs run, 3 found finished" in capsys.readouterr().err
    distilled = load("again", kind="final").query("transfer == 'kd'")["job_id"].item()
    Path("again/rows", f"{distilled}.parquet").unlink()
    assert main([*argv, "again"]) == OK
    assert "2 jobs run, 1 found finished" in capsys.readouterr().err
    whole, again = (in_order(load(folder)) for folder in ("whole", "again"))
    anew = whole["started"] != again["started"]
    assert sorted(whole[anew]["kind"]) == ["final", "teacher"]
    assert whole["test_accuracy"].tolist() == again["test_accuracy"].tolist()


def test_it_adds_what_is_missing_and_replaces_what_failed(made, capsys):
    main(["pack", "made", "packed"])
    main(["unpack", "packed", "again"])
    key = load("made").query("kind == 'final'")["job_id"].iloc[0]
    whole = load("made").query("job_id == @key")
    Path("again/rows", f"{key}.parquet").write_bytes(
        row_bytes(Store(Path("made")).row(key) | {"status": "failed"})
    )
    plan = next(Path("again/_uses").glob("ratio-s0.parquet"))
    asked = pq.read_table(plan)
    write_uses(Path("again"), "ratio-s0", asked.to_pylist()[:2], ["scratch", "init", "kd"])
    capsys.readouterr()
    assert main(["unpack", "packed", "again"]) == OK
    assert capsys.readouterr().out == "1 rows added to again\n"
    same = ["job_id", "status", "test_accuracy"]
    assert load("again").query("job_id == @key")[same].to_numpy().tolist() == whole[same].to_numpy().tolist()
    assert len(pq.read_table(plan)) == len(asked)


def test_a_pack_replaces_an_earlier_one(made):
    main(["pack", "made", "packed"])
    Path("packed/_runs/of_another_time.json").write_text("{}")
    next(Path("made/rows").iterdir()).unlink()
    assert main(["pack", "made", "packed"]) == OK
    assert len(load("packed")) == 39
    assert not list(Path("packed/_runs").iterdir())


def test_a_job_that_ends_meanwhile_is_packed_whole_or_not_at_all(made, monkeypatch):
    key = load("made").query("kind == 'search'")["job_id"].iloc[0]
    ends = [Path(f"made/{folder}/{key}.parquet") for folder in ("rows", "_curves", "_trajectories")]
    for path in ends:
        path.rename(path.name + path.parent.name)

    def read(results, table):
        found = read_arrow(results, table)
        if ends:
            for path in ends:
                Path(path.name + path.parent.name).rename(path)
            ends.clear()
        return found

    monkeypatch.setattr(packed, "read_arrow", read)
    assert main(["pack", "made", "packed"]) == OK
    assert main(["unpack", "packed", "again"]) == OK
    for folder in ("rows", "_curves", "_trajectories"):
        there = {path.name for path in Path("made", folder).iterdir()}
        assert {path.name for path in Path("again", folder).iterdir()} == there - {f"{key}.parquet"}


def copy(folder, to):
    shutil.copytree(folder, to)
    return Path(to)


def test_what_is_refused(made, refused, capsys):
    assert main(["pack", "made", "packed"]) == OK
    manifest = Store(Path("made")).manifest()
    whole = Path("packed/rows.parquet").read_bytes()
    (copy("packed", "torn") / "rows.parquet").write_bytes(whole[: len(whole) // 2])
    (copy("made", "other") / "_sweep.json").write_bytes(sealed(manifest | {"name": "other"}))
    changed = manifest["fixed"] | {"tas.samples": 3}
    (copy("made", "changed") / "_sweep.json").write_bytes(sealed(manifest | {"fixed": changed}))
    (copy("made", "nameless") / "_sweep.json").unlink()
    uses = pq.read_table("packed/uses.parquet")
    strange = pa.array(["../../away"] * len(uses))
    sly = uses.set_column(uses.schema.get_field_index("plan"), uses.schema.field("plan"), strange)
    (copy("packed", "sly") / "uses.parquet").write_bytes(table_bytes(sly))
    capsys.readouterr()
    assert "nowhere holds no results" in refused("pack", "nowhere", "out")
    assert "nameless holds rows of no sweep" in refused("pack", "nameless", "out")
    assert "rows.parquet is a file; name a folder to pack into" in refused("pack", "made", "packed/rows.parquet")
    assert "other is a results directory" in refused("pack", "made", "other")
    assert "packed is packed already" in refused("pack", "packed", "packed")
    assert "packed holds sweep 'table1', not 'other'" in refused("pack", "other", "packed")
    assert "made holds nothing packed (no file made/rows.parquet)" in refused("unpack", "made", "out")
    assert "other holds sweep 'other', not 'table1'" in refused("unpack", "packed", "other")
    assert "changed was made with tas.samples = 3" in refused("unpack", "packed", "changed")
    assert "nameless holds rows but no _sweep.json" in refused("unpack", "packed", "nameless")
    assert "torn/rows.parquet is damaged" in refused("unpack", "torn", "made", code=DAMAGED)
    told = refused("unpack", "sly", "out", code=DAMAGED)
    assert told == "sly/uses.parquet names a plan '../../away', which is no file's name"
    told = refused("run", "demo", "--results", "packed", *tiny("ratio"))
    assert told == "packed is packed; `tas-bench unpack packed DIR` makes DIR to go on in"
    assert refused("run", "demo", "--results", "packed", "--dry-run", *tiny("ratio")) == told
    told = refused(
        "run", "table1", "--results", "made", "--dry-run", "--set", "methods=tas", "--set", "datasets=digits"
    )
    assert told.startswith("made was made with ")
    assert refused("check", "packed") == "packed is packed; `tas-bench unpack packed DIR` makes DIR to check"


def test_a_plan_that_went_another_way_elsewhere_counts_once(made):
    """On another machine the last digits differ, and with them what a search finds: its finals are other jobs."""
    main(["pack", "made", "here"])
    theirs = pq.read_table("here/uses.parquet").to_pylist()
    for use in theirs:
        if use["plan"] == "cma_es-s1" and use["kind"] in ("candidate", "final"):
            use["job_id"] += "-x"
    copy("here", "there")
    Path("there/uses.parquet").write_bytes(table_bytes(pa.Table.from_pylist(theirs, schema=USES)))
    before = in_order(load("made", table="uses"))
    assert main(["unpack", "there", "made"]) == OK
    pd.testing.assert_frame_equal(in_order(load("made", table="uses")), before)
    one = next(use for use in theirs if use["plan"] == "cma_es-s1" and use["kind"] == "candidate")
    ours = [one | {"job_id": f"ours-{i}"} for i in range(20)]  # more, but no final yet
    write_uses(Path("made"), "cma_es-s1", ours, ["scratch", "init", "kd"])
    assert main(["unpack", "there", "made"]) == OK
    found = load("made", table="uses").query("plan == 'cma_es-s1'")["job_id"]
    assert sorted(found) == sorted(use["job_id"] for use in theirs if use["plan"] == "cma_es-s1")
    other = [use | {"backbone": "resnet56", "job_id": use["job_id"] + "-56"} for use in theirs]
    Path("there/uses.parquet").write_bytes(table_bytes(pa.Table.from_pylist(other, schema=USES)))
    count = len(load("made", table="uses"))
    assert main(["unpack", "there", "made"]) == OK
    assert len(load("made", table="uses")) == count + len(other), "another problem is no other way"
    further = [use | {"job_id": f"{use['job_id']}-{i}"} for use in theirs for i in range(2)]
    Path("there/uses.parquet").write_bytes(table_bytes(pa.Table.from_pylist(further, schema=USES)))
    assert main(["unpack", "there", "made"]) == OK
    found = load("made", table="uses")
    assert sorted(found.query("backbone == 'resnet56'")["job_id"]) == sorted(use["job_id"] for use in other)
    assert sorted(found.query("backbone != 'resnet56'")["job_id"]) == sorted(use["job_id"] for use in further)
