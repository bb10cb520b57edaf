"""Results for other programs: read back by pandas, Optuna and TensorBoard's own formats."""

import json

import optuna
import pandas as pd
import pytest
from optuna.storages.journal import JournalFileBackend

from tas_bench.cli import main
from tas_bench.errors import BAD_INPUT, DAMAGED, IO_FAULT, OK
from tas_bench.reading import load
from tas_bench.report.example import write_example


@pytest.fixture
def made(tmp_path):
    write_example(tmp_path / "r", seeds=2, candidates=3, epochs=3)
    return tmp_path / "r"


def exported(made, form):
    assert main(["export", str(made), "--to", form]) == OK
    return made / "_exported" / form


def test_csv(made):
    out = exported(made, "csv")
    rows, back = load(made), pd.read_csv(out / "rows.csv")
    assert back["job_id"].tolist() == rows["job_id"].tolist()
    assert list(back.columns) == list(rows.columns)
    assert [json.loads(widths) for widths in back["widths"]] == [list(widths) for widths in rows["widths"]]
    assert len(pd.read_csv(out / "curves.csv")) == len(load(made, table="curves"))
    assert {path.name for path in out.iterdir()} == {"rows.csv", "uses.csv", "curves.csv", "trajectories.csv"}


def test_latex(made):
    out = exported(made, "latex")
    text = (out / "accuracies-cifar100-resnet32.tex").read_text()
    assert text.count(r"\\") == 14
    assert "72.41" in text


def test_optuna(made, capsys):
    path = exported(made, "optuna") / "journal.log"
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    names = optuna.get_all_study_names(storage)
    methods = ("cma_es", "random_search", "tas")
    assert sorted(names) == [f"table1-cifar100-resnet32-{method}-{seed}" for method in methods for seed in (0, 1)]
    study = optuna.load_study(study_name="table1-cifar100-resnet32-cma_es-1", storage=storage)
    rows = load(made).set_index("job_id")
    assert len(study.trials) == 3
    for trial in study.trials:
        row = rows.loc[trial.user_attrs["job_id"]]
        assert trial.value == row["val_accuracy"]
        assert [trial.params[f"width_{i:03}"] for i in range(31)] == list(row["widths"])
        assert trial.params["depth_002"] == 5
    assert capsys.readouterr().err == ""
    assert main(["export", str(made), "--to", "optuna"]) == BAD_INPUT
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("packed", [False, True])
def test_tensorboard(made, tmp_path, packed):
    rows = load(made)
    if packed:
        assert main(["pack", str(made), str(tmp_path / "packed")]) == OK
        made = tmp_path / "packed"
    out = exported(made, "tensorboard")
    assert len(list(out.iterdir())) == len(rows)
    [search] = out.glob("tas-search-s1-*")
    events = b"".join(path.read_bytes() for path in search.iterdir())
    assert b"val_accuracy" in events
    assert b"f_cost" in events


@pytest.mark.parametrize("form", ["csv", "latex"])
def test_damage_is_no_part_of_an_export(made, form, capsys):
    next((made / "rows").glob("*.parquet")).write_bytes(b"PAR1")
    assert main(["export", str(made), "--to", form]) == DAMAGED
    assert "is damaged" in capsys.readouterr().err


def test_a_journal_is_there_whole_or_not_at_all(made, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(optuna.study.Study, "add_trials", full)
    assert main(["export", str(made), "--to", "optuna"]) == IO_FAULT
    assert not list((made / "_exported" / "optuna").iterdir())
    monkeypatch.undo()
    exported(made, "optuna")
