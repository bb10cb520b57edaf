"""The results directory: what is committed reads back, whoever writes, is killed or reads."""

import contextlib
import datetime
import random
import subprocess
import sys
import time

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import tree
from helpers import bare_row, full_disk, unreadable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import tas_bench
from tas_bench import files
from tas_bench.cli import main
from tas_bench.errors import DAMAGED, InputError, StoreDamagedError, StoreIOError
from tas_bench.jobs import Outcome, weights_path
from tas_bench.reading import load
from tas_bench.schema import ROWS, SCHEMA_VERSION, USES
from tas_bench.space import Size
from tas_bench.store import Store, outcome_of
from tas_bench.uses import write_uses

CURVE = [{"epoch": e, "lr": 0.1 / e, "train_loss": 2.0 - 0.1 * e} for e in (1, 2, 3)]


def value_of(field, n):
    """A value of the column's type, told apart by n."""
    kind = field.type
    if pa.types.is_string(kind):
        return f"{field.name} {n} ü 日本 \"'\\"
    if pa.types.is_list(kind):
        return [n + 1, 2, 2**31 - 1]
    if pa.types.is_timestamp(kind):
        return datetime.datetime(2026, 1, 2, 3, 4, 5, n, tzinfo=datetime.UTC)
    return n + 0.1 if pa.types.is_floating(kind) else n + (2**31 if kind == pa.int64() else 0)


def full_row(job_id, n=0, **changed):
    return {f.name: value_of(f, n) for f in ROWS} | {"job_id": job_id, "status": "ok", "attempts": 1} | changed


def same(frame, other):
    """Two frames hold the same rows; columns without any value may differ in type."""
    order = [f.sort_values("job_id").reset_index(drop=True) for f in (frame, other)]
    pd.testing.assert_frame_equal(*order)


# ---------------------------------------------------------------- reading back


def test_every_column_reads_back(store):
    rows = [full_row("a", 1), bare_row("b"), full_row("c", 2, status="failed")]
    assert all(store.commit(row) for row in rows)
    assert [store.row(row["job_id"]) for row in rows] == rows
    assert store.row("never") is None
    table = pq.read_table(store.row_path("b"))
    assert table.schema.equals(ROWS, check_metadata=False)
    assert table.schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()


def test_load_has_typed_columns(store):
    for i, job in enumerate("ab"):
        store.commit(full_row(job, i))
    frame = tas_bench.load(store.path)
    assert list(frame.columns) == ROWS.names
    assert frame["macs"].tolist() == [2**31, 2**31 + 1]
    assert frame["test_accuracy"].dtype == np.float64
    assert str(frame["started"].dtype) == "datetime64[us, UTC]"
    assert frame["widths"][1].tolist() == [2, 2, 2**31 - 1]


def test_outcomes_read_back(store):
    size = Size((8, 8), (1, 2))
    row = bare_row("a", widths=list(size.widths), depths=list(size.depths), val_accuracy=0.25, epochs=3)
    store.commit(row, Outcome(curve=CURVE))
    assert store.outcome("a") == outcome_of(store.row("a")) == Outcome(size=size, val_accuracy=0.25, epochs=3)
    store.commit(bare_row("b", status="failed"))
    assert store.outcome("b") is None, "a failed job is to be run again"
    assert outcome_of(store.row("b")).size is None


def test_weights_read_back_and_are_part_of_the_outcome(store):
    weights = {"conv": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last), "steps": torch.tensor(7)}
    store.commit(bare_row("a"), Outcome(weights=weights))
    found = load_file(store.path / "_weights" / "a.safetensors")
    assert all(torch.equal(found[k], weights[k]) for k in weights)
    assert store.outcome("a", needs_weights=True) is not None
    (store.path / "_weights" / "a.safetensors").unlink()
    assert store.outcome("a", needs_weights=True) is None, "a teacher without weights is to be run again"


def test_curves_of_different_measures_read_back(store):
    store.commit(bare_row("a"), Outcome(curve=CURVE))
    store.commit(bare_row("b"), Outcome(curve=[{"epoch": 1, "tau": 10.0}]))
    store.commit(bare_row("c"))
    curves = load(store.path, table="curves")
    assert curves["job_id"].tolist() == ["a"] * 3 + ["b"]
    assert curves["epoch"].tolist() == [1, 2, 3, 1]
    assert curves["train_loss"].dropna().tolist() == [p["train_loss"] for p in CURVE]
    assert curves["tau"].dropna().tolist() == [10.0]


def test_an_empty_directory_has_typed_empty_tables(store):
    assert list(load(store.path).columns) == ROWS.names
    assert list(load(store.path, table="uses").columns) == USES.names
    assert load(store.path, table="curves").empty


def test_no_results_is_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="holds no results"):
            load(path)


def test_every_reader_finds_the_same_rows_among_leftovers(tmp_path):
    store = Store(tmp_path / ".hidden" / "_runs")  # a reader of the directory must not mind where it lies
    with store.lock():
        pass
    for i in range(3):
        store.commit(full_row(f"full{i}", i), Outcome(curve=CURVE, weights={"w": torch.zeros(2)}))
        store.commit(bare_row(f"bare{i}", status="failed"))
    write_uses(store.path, "p", [dict.fromkeys(USES.names, "x") | {"seed": 3}], [])
    (store.path / "rows" / ".full9.host.7.tmp").write_bytes(b"PAR1 torn")
    (store.path / "_curves" / ".full9.parquet.7.tmp").write_bytes(b"torn")
    (store.path / "_sweep.json").write_text("{}")
    for name in ("_report/table1.md", "_report/table1.csv", "_log/ray.log"):
        (store.path / name).parent.mkdir(exist_ok=True)
        (store.path / name).write_text("no row\n")

    frame = tas_bench.load(store.path)
    assert len(frame) == 6
    same(frame, pd.read_parquet(store.path))
    same(frame, pd.read_parquet(store.path / "rows"))
    same(frame, pq.read_table(store.path).to_pandas())
    with duckdb.connect() as connection:
        found = connection.sql(f"select * from '{store.path}/rows/*.parquet'").to_arrow_table()
    assert found.column_names == ROWS.names
    assert found.cast(ROWS).sort_by("job_id").to_pylist() == [store.row(j) for j in sorted(frame["job_id"])]


# ---------------------------------------------------------------- who wins


WRITER = """
import sys
from pathlib import Path
from tas_bench.jobs import Outcome
from tas_bench.schema import ROWS
from tas_bench.store import Store
path, me, first, last = sys.argv[1:]
store = Store(Path(path))
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(first), int(last)):
    row = dict.fromkeys(ROWS.names) | {"job_id": f"job{i:06}", "status": "ok", "seed": i, "sweep": me}
    if store.commit(row, Outcome(curve=[{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])):
        print(i, flush=True)
"""
"""Commits jobs first to last once told to, and says which it won; a plain process starts faster than a spawned."""


def writer(store, me, first, last):
    """A ready writer."""
    command = [sys.executable, "-c", WRITER, str(store.path), me, str(first), str(last)]
    found = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert found.stdout.readline() == "ready\n"
    return found


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_writers_and_one_winner_each(store):
    writers = {me: writer(store, me, 0, 300) for me in ("left", "right")}
    for process in writers.values():
        go(process)
    won = {me: list(map(int, process.communicate(timeout=120)[0].split())) for me, process in writers.items()}
    assert sorted(won["left"] + won["right"]) == list(range(300))
    standing = load(store.path).groupby("sweep").seed.apply(list).to_dict()
    assert standing == won
    assert {f.suffix for f in (store.path / "rows").iterdir()} == {".parquet"}
    assert len(load(store.path, table="curves")) == 600


def test_a_failed_row_gives_way_and_an_ok_row_stays(store):
    def commit(status, seed):
        return store.commit(bare_row("a", status=status, seed=seed))

    assert commit("failed", 1)
    assert commit("oom", 2)
    assert store.row("a")["seed"] == 2
    assert commit("ok", 3)
    for status in ("ok", "failed"):
        assert not commit(status, 4)
    assert store.row("a")["seed"] == 3
    assert [f.name for f in (store.path / "rows").iterdir()] == ["a.parquet"]


# ---------------------------------------------------------------- kills and damage


def test_a_failed_row_gives_way_to_an_ok_one_committed_meanwhile(store, monkeypatch):
    store.commit(bare_row("a", status="failed"))
    real = files.write_synced

    def slowly(path, data, mode=0o666):
        real(path, data, mode)
        if not store.row("a")["seed"]:
            monkeypatch.undo()
            assert Store(store.path).commit(bare_row("a", seed=5))

    monkeypatch.setattr(files, "write_synced", slowly)
    assert not store.commit(bare_row("a", status="failed", seed=6))
    assert store.row("a")["seed"] == 5


def test_a_killed_writer_leaves_whole_rows_and_loses_none(store):
    rng, acknowledged = random.Random(0), 0
    for _ in range(3):
        process = writer(store, "me", acknowledged, 1_000_000)
        go(process)
        told = process.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        told += process.communicate()[0]
        acknowledged = int(told[: told.rindex("\n")].split("\n")[-1]) + 1
        seeds = load(store.path)["seed"].tolist()
        assert seeds[:acknowledged] == list(range(acknowledged))
        assert len(seeds) <= acknowledged + 1, "one row at most may be there unacknowledged"
        assert set(load(store.path, table="curves").groupby("job_id").size()) <= {2}
        acknowledged = len(seeds)
    assert acknowledged > 3


def damaged_line(store, job="a"):
    with pytest.raises(StoreDamagedError) as caught:
        store.row(job)
    with pytest.raises(StoreDamagedError) as also:
        load(store.path)
    text = str(caught.value)
    assert text == str(also.value)
    assert str(store.row_path(job)) in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("keep", [0, 1, 4, 500, -9, -1])
def test_a_truncated_row_is_named(store, keep):
    store.commit(full_row("a"))
    store.commit(full_row("b"))
    path = store.row_path("a")
    path.write_bytes(path.read_bytes()[:keep])
    assert "delete it and its job runs again" in damaged_line(store)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_changes_a_value(store, place, bit):
    row, path = full_row("a"), store.row_path("a")
    path.unlink(missing_ok=True)
    store.commit(row)
    whole = bytearray(path.read_bytes())
    whole[int(place * len(whole))] ^= 1 << bit
    path.write_bytes(whole)
    with contextlib.suppress(StoreDamagedError):
        assert store.row("a") == row  # it hit something that is not read, such as a column's description


def test_a_flipped_value_is_named(store):
    store.commit(bare_row("a", error="needle" * 9))
    path = store.row_path("a")
    data = path.read_bytes()
    assert b"needle" in data
    path.write_bytes(data.replace(b"needle", b"beetle", 1))
    assert "damaged" in damaged_line(store)


def test_zeroes_foreign_tables_and_empty_tables_are_named(store):
    for content in (b"\0" * 4096, None, ROWS.empty_table()):
        if isinstance(content, bytes):
            store.row_path("a").write_bytes(content)
        else:
            pq.write_table(pa.table({"x": [1]}) if content is None else content, store.row_path("a"))
        with pytest.raises(StoreDamagedError, match=r"rows/a\.parquet"):
            store.row("a")


def test_a_damaged_row_is_not_replaced_in_silence(store):
    store.row_path("a").write_bytes(b"torn")
    with pytest.raises(StoreDamagedError):
        store.commit(bare_row("a"))
    assert store.row_path("a").read_bytes() == b"torn"
    assert not list((store.path / "rows").glob(".*.tmp"))


def test_a_row_that_cannot_be_read_now_is_no_damage(store, capsys):
    store.commit(bare_row("a"), Outcome(weights={"w": torch.ones(2)}))
    unreadable(store.row_path("a"))
    with pytest.raises(StoreIOError, match=r"cannot read .*a\.parquet: Input/output error"):
        load(store.path)
    assert main(["check", str(store.path), "--repair"]) == DAMAGED
    assert "cannot be read" in capsys.readouterr().out
    assert store.row_path("a").is_symlink()
    with store.lock():
        store.compact()


@pytest.mark.parametrize("name", ["_results.parquet", "_sweep.json"])
def test_repair_leaves_what_cannot_be_read_now(store, capsys, name):
    store.commit(bare_row("a"))
    unreadable(store.path / name)
    main(["check", str(store.path), "--repair"])
    assert f"{name}: cannot be read" in capsys.readouterr().out
    assert (store.path / name).is_symlink()


def test_a_manifest_or_weights_that_cannot_be_read_now(store):
    store.commit(bare_row("a"), Outcome(weights={"w": torch.ones(2)}))
    for path, read in (
        (weights_path(store.path, "a"), lambda: store.outcome("a", needs_weights=True)),
        (store.path / "_sweep.json", store.manifest),
    ):
        unreadable(path)
        with pytest.raises(StoreIOError, match="cannot read"):
            read()


def test_a_newer_schema_asks_for_an_upgrade(store):
    newer = {**ROWS.metadata, b"schema_version": str(SCHEMA_VERSION + 1).encode()}
    table = pa.Table.from_pylist([bare_row("a")], schema=ROWS.with_metadata(newer))
    pq.write_table(table, store.row_path("a"))
    assert "upgrade tas_bench" in damaged_line(store)


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (None, r"rows/a\.parquet"),
        (Outcome(curve=[{"epoch": e, "loss": 1 / (1 + e)} for e in range(1000)]), r"_curves/a\.parquet"),
        (Outcome(weights={"w": torch.zeros(1000)}), r"_weights/a\.safetensors"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_no_row(store, outcome, name):
    with full_disk(), pytest.raises(StoreIOError, match=rf"cannot write \S*{name}: File too large$"):
        store.commit(bare_row("a"), outcome)
    assert not list(store.path.rglob("*.parquet")) + list(store.path.rglob("*.safetensors"))
    assert not list(store.path.rglob(".*.tmp"))


def test_where_an_ok_row_stands_with_all_it_kept_a_later_commit_writes_nothing(store):
    rich = Outcome(curve=CURVE, trajectory=[], weights={"w": torch.zeros(2)})
    assert store.commit(bare_row("a", seed=1), rich)
    before = tree(store.path)
    later = Outcome(curve=CURVE[:1], weights={"w": torch.ones(2)})
    for row, outcome in ((bare_row("a", seed=2), later), (bare_row("a", seed=2, status="failed"), None)):
        assert not store.commit(row, outcome)
        assert tree(store.path) == before


def test_weights_that_went_come_back_with_a_row_and_a_curve_of_their_own(store):
    assert store.commit(bare_row("a", seed=1, sweep="first", method="tas", budget=0.5), Outcome(curve=CURVE))
    assert not store.commit(bare_row("a", seed=2), Outcome(curve=CURVE[:1])), "it brings no weights"
    late = bare_row("a", seed=3, sweep="late", method="by_hand")
    assert store.commit(late, Outcome(curve=CURVE[:1], weights={"w": torch.ones(2)}))
    assert store.row("a") == late | {"sweep": "first", "method": "tas", "budget": 0.5}
    assert len(load(store.path, table="curves")) == 1
    assert store.outcome("a", needs_weights=True) is not None


def test_a_teacher_with_damaged_weights_is_trained_again(store):
    row = dict.fromkeys(ROWS.names) | {"job_id": "x", "status": "ok", "attempts": 1}
    store.commit(row, Outcome(weights={"w": torch.ones(1000)}))
    assert store.outcome("x", needs_weights=True) is not None
    path = weights_path(store.path, "x")
    path.write_bytes(path.read_bytes()[:1000])
    assert store.outcome("x", needs_weights=True) is None
    assert store.outcome("x") is not None
