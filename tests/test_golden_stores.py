"""Results directories as every schema version wrote them stay readable: `load`, `report`, pandas, duckdb."""

import re
import shutil
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tas_bench.checkup import check
from tas_bench.cli import main
from tas_bench.errors import OK
from tas_bench.reading import load
from tas_bench.schema import ROWS, SCHEMA_VERSION, TRAJECTORIES, USES
from tas_bench.store import Store

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = range(1, SCHEMA_VERSION + 1)

WIDTHS = [[8, 6, 7, 6, 7, 12, 14, 14, 14], [5, 6, 7, 5, 5, 11, 11, 11, 11]]
"""Argmax sizes of the search's two epochs; every version ran the same search."""

every_version = pytest.mark.parametrize("version", VERSIONS)


def golden(version):
    return GOLDEN / f"store_v{version}"


def test_every_version_has_a_store():
    found = {p.name for p in GOLDEN.glob("store_v*")}
    assert found == {f"store_v{v}" for v in VERSIONS}, "see tests/golden/make_store.py"


@every_version
def test_it_is_of_that_version_and_small(version):
    schemas = {"rows": ROWS, "_uses": USES, "_trajectories": TRAJECTORIES}
    for folder, schema in schemas.items():
        for path in golden(version).glob(f"{folder}/*.parquet"):
            written = pq.read_schema(path)
            assert written.metadata[b"schema_version"] == str(version).encode()
            if version == SCHEMA_VERSION:
                hint = (
                    "columns have changed: raise SCHEMA_VERSION and make a store with tests/golden/make_store.py"
                )
                assert written.names == schema.names, hint
                assert written.types == schema.types, hint
    assert sum(p.stat().st_size for p in golden(version).rglob("*") if p.is_file()) < 100_000


@every_version
def test_all_tables_load(version):
    rows = load(golden(version)).set_index("kind")
    assert sorted([*rows.columns, "kind"]) == sorted(ROWS.names)
    assert sorted(rows.index) == ["final", "search"]
    assert rows.status.tolist() == ["ok", "ok"]
    assert rows.macs.tolist() == [154088, 154088]
    assert rows.images.tolist() == [200, 200]
    assert rows.argmax_macs["search"] == 144584
    assert rows.val_accuracy["search"] == pytest.approx(0.1)
    assert rows.test_accuracy["final"] == pytest.approx(0.1727019)
    assert rows.loc["final", "ended"] > rows.loc["final", "started"] > pd.Timestamp("2026-11-20", tz="UTC")

    curves = load(golden(version), table="curves").merge(rows.job_id.reset_index())
    final = curves[curves.kind == "final"]
    assert final.epoch.tolist() == [1, 2]
    assert final.train_loss.tolist() == pytest.approx([2.309121, 2.301980], abs=1e-6)

    points = load(golden(version), table="trajectories")
    assert list(points.columns) == TRAJECTORIES.names
    assert set(points.job_id) == {rows.job_id["search"]}
    assert [list(w) for w in points.widths] == WIDTHS
    assert points.arch_lr.isna().all() == (version == 1), "version 1 did not write it"

    uses = load(golden(version), table="uses")
    assert list(uses.columns) == USES.names
    assert set(uses.job_id) == set(rows.job_id)
    assert set(uses.plan) == {"tas-s0"}


@every_version
def test_plain_readers_read_the_rows(version):
    rows = load(golden(version)).sort_values("job_id")
    frame = pd.read_parquet(golden(version)).sort_values("job_id")
    with duckdb.connect() as connection:
        query = f"select job_id, macs, test_accuracy from '{golden(version)}/rows/*.parquet' order by job_id"
        table = connection.sql(query).to_arrow_table().to_pandas()
    for other in (frame, table):
        assert other.job_id.tolist() == rows.job_id.tolist()
        assert other.macs.tolist() == rows.macs.tolist()
        assert other.test_accuracy.dropna().tolist() == rows.test_accuracy.dropna().tolist()


@every_version
def test_its_report_is_printed(version, tmp_path, capsys):
    path = tmp_path / "results"
    shutil.copytree(golden(version), path)
    assert main(["report", str(path), "--no-figures"]) == OK
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"TAS +0.15 M +\d+% +17.27 \(n=1\)", out)
    assert "Differentiable searches" in out
    [row] = pd.read_csv(path / "_report" / "table1.csv").query("method == 'tas'").to_dict("records")
    assert (row["dataset"], row["backbone"]) == ("digits", "tiny")


@every_version
def test_it_is_whole_and_its_sweep_is_known(version):
    found = check(golden(version))
    assert found.findings == []
    assert found.missing == 0
    assert found.files == {"rows": 2, "_uses": 1, "_curves": 2, "_trajectories": 1}
    assert Store(golden(version)).manifest()["problems"] == [
        {"dataset": "digits", "backbone": "tiny", "keep": 0.6}
    ]
