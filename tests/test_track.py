"""Trackers of jobs: what they are told, what becomes of one that fails, MLflow and W&B where there are any."""

import threading

import pytest

from tas_bench import track
from tas_bench.cli import main
from tas_bench.errors import BAD_INPUT, InputError
from tas_bench.jobs import Context
from tas_bench.store import Store
from tas_bench.testing import PROBLEM
from tas_bench.track import MAKERS, Tracking, check, name_of, numbers_of, scalars_of, words_of
from tas_bench.train import candidate_job
from tas_bench.worker import Labels, execute


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with one training, and the training's key."""
    results = tmp_path_factory.mktemp("results")
    with Store(results).lock():
        row = execute(
            candidate_job(PROBLEM, PROBLEM.backbone.full, 0), Labels("s", "mine", 1.0), Context(results=results)
        )
    return Store(results), row["job_id"]


def test_what_they_are_told(made):
    store, key = made
    row = store.row(key)
    assert name_of(row) == f"mine-candidate-scratch-s0-{key}"
    assert numbers_of(row)["val_accuracy"] == row["val_accuracy"]
    assert "test_accuracy" not in numbers_of(row), "there is none"
    assert words_of(row)["widths"] == str(row["widths"])
    points = [(value, epoch) for name, value, epoch in scalars_of(store.path, key) if name == "val_accuracy"]
    assert points[-1] == (row["val_accuracy"], 2)


def test_one_that_fails_is_told_no_more_and_harms_nobody(made, monkeypatch, caplog):
    told = []

    class Good:
        def tell(self, name, row, points):
            told.append((name, len(points)))

    class Bad:
        def tell(self, name, row, points):
            raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(track, "MAKERS", {"bad": lambda *_: Bad(), "good": lambda *_: Good()})
    tracking = Tracking(["bad", "good"], made[0], "s")
    tracking.ended(made[1])
    tracking.ended("a job without a row")
    tracking.ended(made[1])
    tracking.close()
    assert len(told) == 2
    assert told[0][1] > 5
    assert [r.message for r in caplog.records] == ["tracker bad failed, and is told no more: no network"]


def test_one_that_cannot_even_start(made, monkeypatch, caplog):
    def refuse(*_):
        raise ConnectionError("no server")

    monkeypatch.setattr(track, "MAKERS", {"bad": refuse})
    tracking = Tracking(["bad"], made[0], "s")
    tracking.close()
    assert tracking.trackers == {}
    assert "no server" in caplog.text


def test_one_that_is_slow_holds_nobody_up(made, monkeypatch, caplog):
    goes_on, looks = threading.Event(), []

    class Slow:
        def tell(self, name, row, points):
            goes_on.wait()

    monkeypatch.setattr(track, "MAKERS", {"slow": lambda *_: goes_on.wait() and Slow()})
    monkeypatch.setattr(track, "PATIENCE", 0.5)
    tracking = Tracking(["slow"], made[0], "s")
    tracking.ended(made[1])
    tracking.close(lambda: looks.append(1))
    goes_on.set()
    tracking.thread.join()
    assert len(looks) > 1
    assert [r.message for r in caplog.records] == ["trackers took too long, and were not told of every job"]


def test_unknown_or_missing_ones_are_refused_before_anything_starts(monkeypatch, capsys, here):
    assert main(["run", "demo", "--track", "tensorbord"]) == BAD_INPUT
    assert "unknown tracker 'tensorbord'; did you mean 'tensorboard'?" in capsys.readouterr().err
    monkeypatch.setattr(track, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"--track wandb needs wandb: pip install 'tas-bench\[wandb\]'"):
        check(["wandb"])


def test_mlflow(made, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    tracking = Tracking(["mlflow"], made[0], "s")
    tracking.ended(made[1])
    tracking.close()
    assert tracking.trackers
    [run] = mlflow.search_runs(experiment_names=["tas_bench s"], output_format="list")
    row = made[0].row(made[1])
    assert run.data.params["job_id"] == made[1]
    assert run.data.metrics["val_accuracy"] == pytest.approx(row["val_accuracy"])
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "curve_val_accuracy")
    assert [point.step for point in history] == [1, 2]


def test_wandb_offline(made, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setitem(MAKERS, "wandb", lambda _results, sweep: track.WandB(tmp_path, sweep))
    tracking = Tracking(["wandb"], made[0], "s")
    tracking.ended(made[1])
    tracking.close()
    assert tracking.trackers
    [log] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert made[1].encode() in log.read_bytes()
