"""All rows in one file: what is read through it is what stands in the rows' own files, whatever came between."""

import json
import os
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import bare_row, full_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_bench import snapshot
from tas_bench.checkup import check
from tas_bench.cli import main
from tas_bench.errors import DAMAGED, OK, InputError, StoreDamagedError, StoreIOError
from tas_bench.files import identities, write_whole
from tas_bench.reading import load
from tas_bench.repair import repair
from tas_bench.schema import ROWS
from tas_bench.snapshot import NAME, SCHEMA, SOURCE
from tas_bench.store import Store, outcome_of
from tas_bench.tables import row_bytes, table_bytes


def compact(store):
    with store.lock():
        store.compact()


def without_snapshot(store):
    """What the rows' own files tell."""
    path, aside = store.path / NAME, store.path / "_aside"
    if not path.exists():
        return load(store.path)
    os.rename(path, aside)
    try:
        return load(store.path)
    finally:
        os.rename(aside, path)


def filled(store, count=3):
    for i in range(count):
        store.commit(
            bare_row(f"job{i}", seed=i, widths=[1, 2], depths=[3], status="failed" if i == 1 else "ok", macs=2**40)
        )
    compact(store)


STEPS = st.lists(
    st.tuples(st.sampled_from(["commit", "replace", "delete", "compact"]), st.integers(0, 4)), max_size=15
)


@settings(max_examples=8)
@given(steps=STEPS)
def test_any_history_reads_the_same_with_it_and_without(tmp_path_factory, steps):
    store = Store(tmp_path_factory.mktemp("history") / "results")
    with store.lock():
        for number, (step, job) in enumerate(steps):
            path, row = (
                store.row_path(f"job{job}"),
                bare_row(f"job{job}", seed=number % 10, widths=[1] * job, depths=[2]),
            )
            if step == "compact":
                store.compact()
                assert sorted(pq.read_table(store.path / NAME)["job_id"].to_pylist()) == sorted(
                    load(store.path).job_id
                )
            elif step == "delete":
                path.unlink(missing_ok=True)
            elif step == "commit":
                store.commit(row | {"status": "failed"})
            else:
                write_whole(path, row_bytes(row))
            pd.testing.assert_frame_equal(load(store.path), without_snapshot(store))
        rows = {f.stem: store.row(f.stem) for f in (store.path / "rows").glob("*.parquet")}
        assert store.outcomes() == {key: outcome_of(row) for key, row in rows.items()}
    shutil.rmtree(store.path)


def test_rows_are_taken_from_it_and_their_files_are_not_read(store, monkeypatch):
    filled(store)
    store.commit(bare_row("new"))
    read = []
    monkeypatch.setattr(snapshot, "read_row", lambda path: read.append(path.stem) or real(path))
    assert load(store.path).job_id.tolist() == ["job0", "job1", "job2", "new"]
    assert read == ["new"]
    assert {key: found.status for key, found in store.outcomes().items()}["job1"] == "failed"


real = snapshot.read_row


def test_others_read_it_too(store):
    filled(store)
    frame = pd.read_parquet(store.path / NAME).drop(columns=SOURCE).sort_values("job_id")
    assert frame.job_id.tolist() == ["job0", "job1", "job2"]
    assert frame.columns.tolist() == ROWS.names == load(store.path).columns.tolist()
    assert len(pd.read_parquet(store.path)) == 3, "readers of the directory skip it"


def test_more_rows_than_are_written_at_a_time(store, monkeypatch):
    monkeypatch.setattr(snapshot, "GROUP", 20)
    path = store.path / "rows"
    for i in range(25):
        (path / f"{i:05}.parquet").write_bytes(row_bytes(bare_row(f"{i:05}", seed=i)))
    compact(store)
    assert pq.ParquetFile(store.path / NAME).num_row_groups == 2
    assert load(store.path).seed.tolist() == list(range(25))
    (path / "00003.parquet").unlink()
    store.commit(bare_row("x", seed=-1))
    compact(store)
    assert load(store.path).seed.tolist() == [*(i for i in range(25) if i != 3), -1]
    assert len(snapshot.read_snapshot(store.path / NAME)) == 25


def test_it_is_written_again_only_where_rows_have_changed(store):
    filled(store)
    before = identities(store.path, NAME)
    assert list(before) == [NAME]
    compact(store)
    assert identities(store.path, NAME) == before
    store.row_path("job0").unlink()
    compact(store)
    assert len(snapshot.read_snapshot(store.path / NAME)) == 2


def test_only_who_holds_the_directory_writes_it(store):
    with pytest.raises(InputError, match="is not held by this run"):
        store.compact()
    with store.lock():
        mark = json.loads((store.path / "_lock").read_text())
        (store.path / "_lock").write_text(json.dumps(mark | {"token": "abc"}))
        with pytest.raises(InputError, match="is not held by this run"):
            store.compact()
    assert not (store.path / NAME).exists()


def test_a_damaged_row_is_named_and_stays_out(store):
    filled(store)
    store.row_path("job1").write_bytes(b"torn")
    for read in (store.outcomes, lambda: load(store.path)):
        with pytest.raises(StoreDamagedError, match=r"rows/job1\.parquet is damaged .* its job runs again"):
            read()
    compact(store)
    assert len(snapshot.read_snapshot(store.path / NAME)) == 2


def hurts(whole):
    """A file of all rows as it may be found."""
    yield from (b"", b"PAR1", b"\0" * len(whole), whole[: len(whole) // 2], whole[:-1])
    for at in range(0, len(whole), len(whole) // 40):
        yield whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :]
    yield table_bytes(pa.table({"x": [1]}))
    yield table_bytes(SCHEMA.empty_table())


def test_damage_costs_time_and_is_found(store):
    filled(store)
    path, told = store.path / NAME, 0
    whole, before = path.read_bytes(), load(store.path)
    for hurt in hurts(whole):
        path.write_bytes(hurt)
        pd.testing.assert_frame_equal(load(store.path), before)
        told += any(f.path == path and f.damage for f in check(store.path).findings)
    assert told > 20
    path.write_bytes(b"torn")
    compact(store)
    assert len(snapshot.read_snapshot(path)) == 3


def test_repair_drops_a_damaged_one(store, capsys):
    filled(store)
    (store.path / NAME).write_bytes(b"torn")
    assert main(["check", str(store.path)]) == DAMAGED
    assert f"{store.path / NAME}: is damaged (" in capsys.readouterr().out
    assert [f.done for f in repair(store.path).findings if f.damage] == ["dropped"]
    assert not (store.path / NAME).exists()
    assert not (store.path / "_damaged").exists()
    assert main(["check", str(store.path)]) == OK


def test_a_copy_of_a_row_is_no_second_row(store):
    filled(store)
    copy = store.path / "rows" / "job0 (conflicted copy).parquet"
    copy.write_bytes(store.row_path("job0").read_bytes())
    with pytest.raises(StoreDamagedError, match=r"conflicted copy\)\.parquet is of job job0: renamed, or a copy"):
        load(store.path)
    compact(store)
    assert snapshot.read_snapshot(store.path / NAME)["job_id"].to_pylist().count("job0") == 1
    copy.unlink()
    assert len(load(store.path)) == 3


def test_another_version_s_is_neither_used_nor_damage(store):
    filled(store)
    path = store.path / NAME
    newer = SCHEMA.with_metadata({**SCHEMA.metadata, b"schema_version": b"99"})
    path.write_bytes(table_bytes(newer.empty_table()))
    assert len(load(store.path)) == 3
    [finding] = [f for f in check(store.path).findings if f.path == path]
    assert (finding.damage, "schema version 99" in str(finding)) == (False, True)
    compact(store)
    assert len(snapshot.read_snapshot(path)) == 3


def test_a_full_disk_leaves_it_as_it_was(store):
    filled(store)
    before = (store.path / NAME).read_bytes()
    store.commit(bare_row("new"))
    with store.lock(), full_disk(), pytest.raises(StoreIOError, match=rf"cannot write .*{NAME}"):
        store.compact()
    assert (store.path / NAME).read_bytes() == before
    assert not list(store.path.glob(".*.tmp"))
