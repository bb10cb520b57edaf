"""Damage to a results directory: found, told, put out of the way; then reports and runs work as before."""

import json
import os
import shutil
import subprocess
import sys
import time
from hashlib import sha256

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import bare_row
from one_search import files, run
from safetensors.torch import load_file, save_file

from tas_bench import checkup
from tas_bench import store as stores
from tas_bench.checkpoint import previous
from tas_bench.cli import main
from tas_bench.digest import KEY
from tas_bench.errors import BAD_INPUT, DAMAGED, OK, InputError, StoreDamagedError, StoreIOError
from tas_bench.jobs import Outcome, checkpoint_path
from tas_bench.reading import load
from tas_bench.schema import ROWS, SCHEMA_VERSION
from tas_bench.store import Store

FOLDERS = {"rows": 4, "_curves": 4, "_trajectories": 1, "_uses": 2, "_weights": 1, "_checkpoints": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A results directory of the sweep, with checkpoints of a job under way; not to be written to."""
    path = tmp_path_factory.mktemp("checkup") / "results"
    assert len(run(path)) == 4
    state = {"device": "cpu", "parts": {"w": torch.arange(500.0)}, "generator": torch.zeros(9), "values": {}}
    for file in (checkpoint_path(path, "b" * 20), previous(checkpoint_path(path, "b" * 20))):
        torch.save(state, file)
    return path


@pytest.fixture
def results(made, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def row_of(results, kind):
    return load(results).query(f"kind == '{kind}'").iloc[0]


def found(results, capsys, *options):
    """Exit code and lines of the command."""
    code = main(["check", str(results), *options])
    out, err = capsys.readouterr()
    assert err == ""
    return code, out.splitlines()


def accuracies(results):
    return load(results).set_index("job_id")[["train_accuracy", "val_accuracy", "test_accuracy"]].sort_index()


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---------------------------------------------------------------- nothing wrong


def test_a_whole_directory(results, capsys):
    before = content(results)
    code, lines = found(results, capsys)
    assert code == OK
    [line] = lines
    read = ", ".join(f"{FOLDERS[k]} in {k}" for k in checkup.check(results).files)
    assert line == f"{results}: {read} read; nothing is damaged"
    assert checkup.check(results).files == FOLDERS
    assert content(results) == before
    assert found(results, capsys, "--repair") == (OK, lines)
    assert not (results / "_damaged").exists()


def test_no_results_is_one_line(tmp_path, capsys):
    for options in ([], ["--repair"]):
        assert main(["check", str(tmp_path / "none"), *options]) == BAD_INPUT
        assert "holds no results" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_is_no_damage_and_is_not_repaired(results, capsys):
    with Store(results).lock():
        (results / "rows" / ".x.host.7.tmp").write_bytes(b"PAR1 torn")
        shutil.copy(files(results, "_curves")[0], results / "_curves" / "early.parquet")
        code, lines = found(results, capsys)
        assert code == DAMAGED, "that curve names another job"
        (results / "_curves" / "early.parquet").unlink()
        code, lines = found(results, capsys)
        assert code == OK
        assert "is a temporary file" in lines[0]
        assert main(["check", str(results), "--repair"]) == BAD_INPUT
        assert "is in use by" in capsys.readouterr().err
        assert (results / "rows" / ".x.host.7.tmp").exists()
    code, lines = found(results, capsys, "--repair")
    assert (code, "[dropped]" in lines[0]) == (OK, True)
    assert not (results / "rows" / ".x.host.7.tmp").exists()


WRITER = """
import os, sys
from pathlib import Path
from tas_bench.jobs import Outcome
from tas_bench.schema import ROWS
from tas_bench.store import Store
store, i = Store(Path(sys.argv[1])), 0
checkpoint = next((store.path / "_checkpoints").glob("*.pt"))
while True:
    job_id = f"w{i % 50}"
    curve = store.path / "_curves" / f"{job_id}.parquet"
    gone = [store.row_path(job_id), checkpoint.with_name(f"{job_id}.pt"), curve]
    for path in gone:
        path.unlink(missing_ok=True)
    os.link(checkpoint, gone[1])
    row = dict.fromkeys(ROWS.names) | {"job_id": job_id, "status": "ok", "epochs": 1}
    store.commit(row, Outcome(curve=[{"epoch": 1, "loss": 0.5}]))
    i += 1
"""
"""Commits the same jobs over and over; their files come and go."""


def test_files_that_come_and_go_meanwhile_are_no_damage(results):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(results)])
    try:
        while not (results / "rows" / "w49.parquet").exists():
            time.sleep(0.05)
            assert writer.poll() is None
        looks = [checkup.check(results) for _ in range(10)]
    finally:
        writer.kill()
        writer.wait()
    assert [str(f) for look in looks for f in look.findings if f.damage] == []


# ---------------------------------------------------------------- damage, by folder

HURTS = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("hurt", HURTS)
def test_damage_is_named_and_put_aside(results, capsys, folder, hurt):
    path = files(results, folder)[-1]
    HURTS[hurt](path)
    hurt_content = content(results)
    code, [line, *_, summary] = found(results, capsys)
    assert code == DAMAGED
    assert line.startswith(f"{path}: is damaged (")
    assert checkup.MEANS[folder] in line
    assert f"1 damaged or missing; `tas-bench check {results} --repair`" in summary
    assert content(results) == hurt_content, "without --repair nothing changes"

    code, [line, *_, summary] = found(results, capsys, "--repair")
    assert code == OK
    assert line.endswith(f"[moved to {results / '_damaged' / folder}]")
    assert summary.endswith("1 out of the way, all well")
    assert not path.exists()
    assert path.name in os.listdir(results / "_damaged" / folder)
    assert found(results, capsys)[0] == OK, "what was put aside is known"
    for table in ("rows", "curves", "trajectories", "uses"):
        load(results, table=table)


@pytest.mark.parametrize("folder", ["rows", "_uses"])
def test_what_was_lost_is_made_again(results, capsys, folder):
    before = accuracies(results)
    path = files(results, folder)[0]
    path.write_bytes(b"")
    assert found(results, capsys, "--repair")[0] == OK
    ran = run(results)
    assert ran == {"rows": [path.stem], "_uses": []}[folder]
    assert path.exists()
    pd.testing.assert_frame_equal(accuracies(results), before)
    assert found(results, capsys)[0] == OK
    assert main(["report", str(results), "--no-figures"]) == OK
    capsys.readouterr()


def test_a_lost_curve_is_told_and_made_again_on_demand(results, capsys):
    row = row_of(results, "search")
    name = f"{row.job_id}.parquet"
    (results / "_curves" / name).unlink()
    (results / "_trajectories" / name).unlink()
    code, lines = found(results, capsys)
    assert code == DAMAGED
    assert len(lines) == 3
    for line, lost in zip(lines, ("learning curve", "trajectory"), strict=False):
        assert "is missing" in line
        assert f"this {lost} is lost, its row stands" in line
        assert f"delete {results / 'rows' / name}" in line
    assert found(results, capsys, "--repair")[0] == DAMAGED, "nothing can be done about it"
    (results / "rows" / name).unlink()
    assert run(results) == [row.job_id]
    assert found(results, capsys)[0] == OK


def test_a_manifest_that_cannot_be_read_is_left_as_it_is(results, capsys, monkeypatch):
    def refused(path):
        if path.name == "_sweep.json":
            raise StoreIOError(f"cannot read {path}: Input/output error")
        return path.read_bytes()

    before = (results / "_sweep.json").read_bytes()
    monkeypatch.setattr(stores, "read_whole", refused)
    code, lines = found(results, capsys, "--repair")
    assert code == DAMAGED
    assert "_sweep.json: cannot be read (" in lines[0]
    assert (results / "_sweep.json").read_bytes() == before


@pytest.mark.parametrize("lose", [os.unlink, lambda path: path.write_bytes(b"")])
def test_a_teacher_without_weights_is_told_and_trained_again_for_a_job_that_needs_it(results, capsys, lose):
    before, [path] = accuracies(results), files(results, "_weights")
    lose(path)
    code, lines = found(results, capsys, "--repair")
    assert code == OK
    assert f"{path}: is " in lines[0]
    assert "a job that needs them trains them again" in lines[0]
    assert run(results) == [], "no job needs it"
    distilled = load(results).query("transfer == 'kd'").iloc[0].job_id
    (results / "rows" / f"{distilled}.parquet").unlink()
    assert sorted(run(results)) == sorted([path.stem, distilled])
    pd.testing.assert_frame_equal(accuracies(results), before)
    assert found(results, capsys)[0] == OK


def test_jobs_without_a_row_are_counted_and_their_curve_is_no_damage(results, capsys):
    row = row_of(results, "final")
    (results / "rows" / f"{row.job_id}.parquet").unlink()
    code, lines = found(results, capsys)
    assert code == OK
    assert "is of no row" in lines[0]
    assert "1 jobs that plans asked for have no row and run next" in lines[-1]


# ---------------------------------------------------------------- files that open and are wrong


def rewritten(path, change):
    """Another table under its name, as an earlier day would have written it: without a digest."""
    table = change(pq.read_table(path))
    plain = {k: v for k, v in (table.schema.metadata or {}).items() if k != KEY}
    pq.write_table(table.replace_schema_metadata(plain), path, write_page_checksum=True)


def newer(table):
    return table.replace_schema_metadata(
        {**table.schema.metadata, b"schema_version": b"%d" % (SCHEMA_VERSION + 1)}
    )


@pytest.mark.parametrize("folder", ["rows", "_curves", "_trajectories", "_uses"])
def test_a_file_under_another_name_is_told(results, capsys, folder):
    path = files(results, folder)[0]
    copy = path.with_name("copy.parquet")
    shutil.copy(path, copy)
    code, lines = found(results, capsys)
    assert code == DAMAGED
    assert f"{copy}: is damaged (it is of " in lines[0]
    assert "renamed, or a copy" in lines[0]
    assert found(results, capsys, "--repair")[0] == OK
    assert not copy.exists()
    assert path.exists()


def test_a_row_whose_job_is_another_is_told(results, capsys):
    path = files(results, "rows")[0]
    rewritten(path, lambda t: t.set_column(t.column_names.index("job"), "job", [["{}"]]).cast(ROWS))
    assert "the job in it has another id" in found(results, capsys)[1][0]


@pytest.mark.parametrize("text", ["[]", "3", "{", "{}"])
def test_a_row_whose_job_is_none_is_told(store, capsys, text):
    key = sha256(text.encode()).hexdigest()[:20]
    store.commit(bare_row(key, job=text))
    _, lines = found(store.path, capsys)
    assert any(f"{key}.parquet: is damaged (" in told for told in lines) == (text != "{}")


def test_an_unknown_column_is_told(results, capsys):
    path = files(results, "_uses")[0]
    rewritten(path, lambda t: t.rename_columns([n.replace("kind", "kjnd") for n in t.column_names]))
    assert "unknown column kjnd" in found(results, capsys)[1][0]


def test_two_rows_in_a_file_are_told(results, capsys):
    path = files(results, "rows")[0]
    rewritten(path, lambda t: pa.concat_tables([t, t]))
    assert "2 rows in it, not one" in found(results, capsys)[1][0]


def test_a_newer_file_is_left_alone(results, capsys):
    path = files(results, "rows")[0]
    rewritten(path, newer)
    for options in ([], ["--repair"]):
        code, lines = found(results, capsys, *options)
        assert code == DAMAGED
        assert f"{path}: has schema version {SCHEMA_VERSION + 1}; upgrade tas_bench to read it" in lines[0]
        assert path.exists()


def test_weights_that_are_not_finite_are_told(results, capsys):
    [path] = files(results, "_weights")
    weights = load_file(path)
    name = next(k for k, v in weights.items() if v.is_floating_point())
    weights[name].view(-1)[3] = float("inf")
    save_file(weights, path)
    assert f"{name} holds numbers that are not finite" in found(results, capsys)[1][0]


def test_a_bit_of_a_checkpoint_is_told(results, capsys):
    path = files(results, "_checkpoints")[0]
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(500.0).numpy().tobytes()) + 99] ^= 4
    path.write_bytes(data)
    torch.load(path, weights_only=True)  # does not see it
    assert "checksum of" in found(results, capsys)[1][0]


def test_a_checkpoint_without_its_parts_is_told(results, capsys):
    torch.save({"parts": {}}, files(results, "_checkpoints")[0])
    assert "it has no device and no generator and no values" in found(results, capsys)[1][0]


def test_a_checkpoint_that_runs_code_is_refused(results, capsys, tmp_path):
    class Bad:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"device": Bad()}, files(results, "_checkpoints")[0])
    code, lines = found(results, capsys)
    assert code == DAMAGED
    assert len(lines) == 2
    assert not (tmp_path / "pwned").exists()


def test_what_may_not_be_read_stays_where_it_is(results, capsys, monkeypatch):
    def refuse(path, schema):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkup, "read_table", refuse)
    code, lines = found(results, capsys, "--repair")
    assert code == DAMAGED
    assert "cannot be read ([Errno 5] Input/output error); it may be whole or not" in lines[0]
    assert not (results / "_damaged").exists()


def test_nothing_put_aside_is_overwritten(results, capsys):
    path = files(results, "_curves")[0]
    for text in ("one", "two", "three"):
        path.write_text(text)
        assert found(results, capsys, "--repair")[0] == OK
    aside = {p.parent.name: p.read_text() for p in (results / "_damaged").rglob(path.name)}
    assert aside == {"_curves": "one", "_curves.2": "two", "_curves.3": "three"}


# ---------------------------------------------------------------- the manifest


@pytest.mark.parametrize("text", [None, "", "{", "[]", "\0\0", '{"name": "small"}'])
def test_a_manifest_is_written_anew(results, capsys, text):
    path = results / "_sweep.json"
    whole = json.loads(path.read_text())
    path.unlink() if text is None else path.write_text(text)
    code, lines = found(results, capsys)
    assert code == DAMAGED
    assert f"{path}: is {'missing' if text is None else 'damaged'}" in lines[0]
    with pytest.raises((InputError, StoreDamagedError)):
        run(results)
    code, lines = found(results, capsys, "--repair")
    assert code == OK
    assert "a stand-in knows that this is sweep 'small'" in lines[0]
    assert "its settings are lost" in lines[0]
    assert text is None or (results / "_damaged" / "_sweep.json").read_text() == text
    assert found(results, capsys)[0] == OK
    assert main(["report", str(results)]) == BAD_INPUT
    assert "has lost the settings; `tas-bench run small" in capsys.readouterr().err
    assert run(results) == []
    assert json.loads(path.read_text()) == whole


def test_rows_trained_by_hand_need_no_manifest(tmp_path, capsys):
    store = Store(tmp_path)
    with store.lock():
        store.commit(dict.fromkeys(ROWS.names) | {"job_id": "a", "status": "ok", "sweep": "train"}, Outcome())
    assert found(tmp_path, capsys)[0] == OK


# ---------------------------------------------------------------- what `load` says of it


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("rows", "delete it and its job runs again"),
        ("_curves", "this learning curve is lost, its row stands"),
        ("_trajectories", "this trajectory is lost, its row stands"),
        ("_uses", "delete it and the next run of its sweep writes it again"),
    ],
)
def test_load_says_what_is_lost(results, folder, said):
    path = files(results, folder)[0]
    path.write_bytes(b"torn")
    with pytest.raises(StoreDamagedError) as caught:
        load(results, table=folder.removeprefix("_"))
    assert str(caught.value).startswith(f"{path} is damaged (")
    assert said in str(caught.value)
