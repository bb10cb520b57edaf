"""Any damage to any file of a store: the same values are read, or the file is named in one line; never others."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_bench.checkup import check
from tas_bench.cli import main
from tas_bench.digest import KEY, check_digest, sealed, with_digest
from tas_bench.errors import DAMAGED, OK, StoreDamagedError
from tas_bench.jobs import Outcome, checkpoint_path, weights_path
from tas_bench.reading import load
from tas_bench.schema import ROWS, USES
from tas_bench.store import Store
from tas_bench.tables import read_weights, whole_weights
from tas_bench.uses import write_uses

TABLES = {"rows": "rows", "_curves": "curves", "_trajectories": "trajectories", "_uses": "uses"}
MANIFEST = {
    "name": "p", "title": "P", "t": 0.1, "train_subset": None, "problems": [], "seeds": [], "methods": [],
    "transfers": [], "fixed": {},
}  # fmt: skip
POINT = {
    "tau": 1.0, "arch_lr": 0.1, "f_cost": 7.0, "e_cost": 7.5, "discrepancy": 0.5, "entropies": [0.1, 0.2],
    "discrepancies": [0.3, 0.4], "widths": [8, 16], "depths": [1, 2],
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two jobs with all they keep, and both rows in one file; every test puts back what it damages."""
    found = Store(tmp_path_factory.mktemp("corruption") / "results")
    with found.lock():
        for i, job in enumerate("ab"):
            row = dict.fromkeys(ROWS.names) | {
                "job_id": job, "status": "ok", "seed": i, "widths": [8, 16], "test_accuracy": 0.5 + i,
                "warning": "a line of some length, so that pages are compressed " * 3,
            }  # fmt: skip
            curve = [{"epoch": e, "loss": 0.5 / e, "accuracy": 0.1 * e} for e in (1, 2, 3)]
            trajectory = [{"epoch": e, **POINT} for e in (1, 2)]
            weights = {"w": torch.arange(100.0)}
            found.commit(row, Outcome(curve=curve, trajectory=trajectory, weights=weights))
        use = dict.fromkeys(USES.names, "p") | {"seed": 3}
        (found.path / "_sweep.json").write_bytes(sealed(MANIFEST))
        write_uses(found.path, "p", [use | {"job_id": "a"}, use | {"job_id": "b"}], [])
        state = {"device": "cpu", "parts": {"w": torch.ones(50)}, "generator": torch.zeros(9), "values": {}}
        torch.save(state, checkpoint_path(found.path, "c"))
        found.compact()
    return found


@st.composite
def hurts(draw):
    """What happens to a file's bytes."""
    kind = draw(st.sampled_from(["flip", "flip", "flip", "cut", "emptied", "zeroes", "hole"]))
    place, bit, span = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 7)), draw(st.integers(1, 600))

    def hurt(data):
        at = int(place * len(data))
        if kind == "flip":
            return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        end = min(len(data), at + span)
        return {
            "cut": data[:at], "emptied": b"", "zeroes": b"\0" * len(data),
            "hole": data[:at] + b"\0" * (end - at) + data[end:],
        }[kind]  # fmt: skip

    return hurt


def tables(store):
    return sorted(p for folder in TABLES for p in (store.path / folder).glob("*.parquet"))


def others(store):
    return [p for folder in ("_weights", "_checkpoints") for p in sorted((store.path / folder).iterdir())]


@settings(max_examples=40)
@given(data=st.data(), hurt=hurts())
def test_a_damaged_table_is_named_or_reads_the_same(store, data, hurt):
    path = data.draw(st.sampled_from(tables(store)))
    whole, before = path.read_bytes(), values_of(store, path)
    path.write_bytes(hurt(whole))
    try:
        told = None
        try:
            assert values_of(store, path) == before
        except StoreDamagedError as error:
            told = str(error)
            assert str(path) in told
            assert "\n" not in told
        found = [f for f in check(store.path).findings if f.damage]
        assert [f.path for f in found] == ([path] if told else [])
        assert all("\n" not in str(f) for f in found)
    finally:
        path.write_bytes(whole)


def values_of(store, path):
    """The table that the file belongs to; floats and nulls told apart by their text."""
    return repr(load(store.path, table=TABLES[path.parent.name]).to_dict("list"))


@settings(max_examples=40)
@given(data=st.data(), hurt=hurts())
def test_damaged_weights_are_named_or_read_the_same(store, data, hurt):
    path = weights_path(store.path, data.draw(st.sampled_from("ab")))
    whole = path.read_bytes()
    path.write_bytes(hurt(whole))
    try:
        found = [f for f in check(store.path).findings if f.damage]
        if whole_weights(path):
            assert {k: v.tolist() for k, v in read_weights(path).items()} == {"w": list(range(100))}
        else:
            with pytest.raises(StoreDamagedError, match=rf"^{path} is damaged \(.*$"):
                read_weights(path)
        assert [f.path for f in found] == ([] if whole_weights(path) else [path])
    finally:
        path.write_bytes(whole)


def test_every_bit_of_the_numbers_is_told(store):
    path = weights_path(store.path, "a")
    whole = path.read_bytes()
    try:
        for at in range(len(whole) - 400, len(whole), 7):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert not whole_weights(path)
    finally:
        path.write_bytes(whole)
    assert whole_weights(path)


@pytest.mark.parametrize(("name", "read"), [("_sweep.json", Store.manifest), ("_data.json", Store.data)])
def test_a_changed_letter_of_the_json_is_told(store, name, read):
    store.claim_data({"digits": "abc"})
    path = store.path / name
    whole, before = path.read_bytes(), read(store)
    try:
        for old, new in ((b"abc", b"abd"), (b"methods", b"methodz"), (b"}", b"")):
            path.write_bytes(whole.replace(old, new))
            if path.read_bytes() != whole:
                with pytest.raises(StoreDamagedError, match=rf"{name} cannot be read"):
                    read(store)
                assert [f.path for f in check(store.path).findings if f.damage] == [path]
        path.write_text(json.dumps({k: v for k, v in json.loads(whole).items() if k != "content_sha256"}))
        assert read(store) == before, "those of earlier days have no digest"
    finally:
        path.write_bytes(whole)


@settings(max_examples=25)
@given(data=st.data(), hurt=hurts())
def test_no_damage_makes_a_traceback(store, data, hurt):
    path = data.draw(st.sampled_from(others(store)))
    whole = path.read_bytes()
    path.write_bytes(hurt(whole))
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["check", str(store.path)])
    finally:
        path.write_bytes(whole)
    assert err.getvalue() == ""
    lines = out.getvalue().splitlines()
    assert (code, len(lines)) in ((OK, 1), (DAMAGED, 2))
    assert code == OK or lines[0].startswith(f"{path}: is damaged (")


@pytest.mark.parametrize("folder", TABLES)
def test_every_bit_of_a_name_is_told(store, folder):
    """Where Parquet itself sees nothing: in the footer, each name of a column stands bare."""
    path = sorted((store.path / folder).glob("*.parquet"))[0]
    whole, before, told = path.read_bytes(), values_of(store, path), 0
    name = {"_curves": b"accuracy", "_trajectories": b"e_cost", "_uses": b"transfer", "rows": b"test_accuracy"}[
        folder
    ]
    at = -1
    try:
        while (at := whole.find(name, at + 1)) >= 0:
            for bit in range(0, 8 * len(name), 5):
                hurt = bytearray(whole)
                hurt[at + bit // 8] ^= 1 << bit % 8
                path.write_bytes(hurt)
                try:
                    assert values_of(store, path) == before
                except StoreDamagedError:
                    told += 1
    finally:
        path.write_bytes(whole)
    assert told > 5


def test_a_digest_is_of_names_values_and_rows(store):
    import pyarrow.parquet as pq

    table = pq.read_table(tables(store)[0])
    assert KEY in table.schema.metadata
    check_digest(table)
    check_digest(with_digest(table))
    check_digest(table.replace_schema_metadata(None))
    for other in (
        table.slice(0, len(table) - 1),
        table.rename_columns([f"{n}x" for n in table.column_names]),
        table.select(table.column_names[:-1]),
    ):
        with pytest.raises(ValueError, match="not those that were written"):
            check_digest(other.replace_schema_metadata(table.schema.metadata))
