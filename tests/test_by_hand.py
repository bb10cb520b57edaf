"""Trainings by hand: their jobs, and row and weights that belong together."""

from dataclasses import replace

from conftest import tree

from sweeps import demo
from tas_bench import measure
from tas_bench.backbones.tiny import TINY
from tas_bench.by_hand import LABELS, job_of
from tas_bench.jobs import Context, DataSpec, Recipe, job_id, weights_path
from tas_bench.settings import with_settings
from tas_bench.store import Store
from tas_bench.train import teacher_job
from tas_bench.transfer.kd import KD
from tas_bench.worker import Labels, execute

FIRST = {"sweep": "first", "method": "tas", "budget": 0.6, "budget_cost": "macs", "cost": 7}


def test_the_jobs_are_those_of_a_sweep():
    """A teacher that a sweep trained serves here, and the other way round."""
    sweep = with_settings(demo.SWEEP, {"backbones": "tiny", "epochs": "2"})
    settings = {"epochs": "2", "batch": "64"}
    teacher = teacher_job(sweep.problems[0], 3)
    assert job_of("tiny", None, "scratch", "digits", 3, settings) == teacher
    assert job_of("tiny", TINY.full, "kd", "digits", 3, settings).teacher == teacher
    assert job_of("tiny", None, "kd", "digits", 3, settings).role == "final"


def test_settings_reach_the_job():
    settings = {"kd": "paper", "kd.temperature": "2", "weight_decay": "0", "recipe.momentum": "0.5"}
    job = job_of("tiny", None, "kd", "digits", 0, settings | {"lr": "0.2", "train_subset": "300"})
    assert job.transfer == KD(temperature=2, soft_weight=0.1, t_squared=False)
    assert job.recipe == Recipe(lr=0.2, weight_decay=0, momentum=0.5)
    assert job.data == DataSpec(name="digits", train_subset=300)
    assert job.teacher.recipe == job.recipe
    longer = job_of("tiny", None, "kd", "digits", 0, {"epochs": "2", "teacher_epochs": "9"})
    assert (longer.recipe.epochs, longer.teacher.recipe.epochs) == (2, 9)


def test_row_and_weights_are_of_one_training(tmp_path, monkeypatch):
    """A later training of the same job, in another precision, replaces all or nothing."""
    size = replace(TINY.full, depths=(1, 1))
    job = job_of("tiny", size, "scratch", "digits", 0, {"epochs": "1", "train_subset": "100"})
    store, bare, key = Store(tmp_path), Context(results=tmp_path), job_id(job)
    keeping = replace(bare, keep_weights=True)

    def trained(precision, labels, context):
        monkeypatch.setattr(measure, "precision", lambda *_: precision)
        return execute(job, labels, context)

    with store.lock():
        trained("float32", Labels(**FIRST), bare)
        assert not weights_path(tmp_path, key).exists()
        new = trained("bfloat16", LABELS, keeping)
        row, weights, kept = store.row(key), weights_path(tmp_path, key).read_bytes(), tree(tmp_path)
        assert row == new | FIRST
        assert row["precision"] == "bfloat16"
        trained("float32", LABELS, keeping)
        assert tree(tmp_path) == kept, "all is there: nothing is written"
        weights_path(tmp_path, key).write_bytes(weights[:-10])
        again = trained("float32", LABELS, keeping)
        assert store.row(key) == again | {
            name: row[name] for name in ("sweep", "method", "budget", "budget_cost", "cost")
        }
        assert store.row(key)["precision"] == "float32"
        assert store.outcome(key, needs_weights=True) is not None
        assert len(weights_path(tmp_path, key).read_bytes()) == len(weights)
