"""Estimates: the jobs are those a run makes, the macs those of its rows, the seconds from rows or from steps."""

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import tree
from helpers import problem

from sweeps import demo, table2
from tas_bench import pace as pace_module
from tas_bench.backbones.backbone import ImageShape
from tas_bench.cli import main
from tas_bench.data import train_count
from tas_bench.errors import OK
from tas_bench.estimate import drive, estimate
from tas_bench.jobs import Context, DataSpec, Recipe, job_id
from tas_bench.latency import Bench
from tas_bench.pace import batch_of, measured
from tas_bench.plans import Plans
from tas_bench.reading import load
from tas_bench.resources import Resources
from tas_bench.settings import smoke, with_settings
from tas_bench.store import Store
from tas_bench.tas import Tas
from tas_bench.train import candidate_job, final_job, teacher_job
from tas_bench.transfer.kd import KD
from tas_bench.worker import Labels, execute

SHORT = {
    "backbones": "tiny", "epochs": "1", "search_epochs": "1", "trials": "2", "population": "2", "seeds": "0,1",
    "train_subset": "200", "transfers": "scratch,kd",
}  # fmt: skip
SWEEP = with_settings(smoke(demo.SWEEP), SHORT)
DIGITS = train_count(DataSpec(name="digits"), None)


@pytest.fixture
def quick(monkeypatch):
    """A calibration of a few steps."""
    monkeypatch.setattr(pace_module, "SECONDS", 0.01)


def ran(sweep, results):
    """Run a sweep in this process, as the worker does."""
    store = Store(results)
    with store.lock():
        plans = Plans(sweep.plans(), lambda _job, key: store.outcome(key))
        while use := plans.next_job():
            execute(use.job, Labels(sweep.name, use.method, None), Context(results=results))
            plans.finish(use.key, store.outcome(use.key))
    return plans


@pytest.fixture(scope="module")
def first_seed(tmp_path_factory):
    """The plans of the first seed's run, and where its results are; not to be written to."""
    results = tmp_path_factory.mktemp("first") / "out"
    return ran(replace(SWEEP, seeds=(0,)), results), results


def grouped(uses):
    return sorted((use.method, use.job.kind, use.job.describe().get("transfer") or "") for use in uses)


def test_the_jobs_are_those_that_a_run_makes(tmp_path, quick, first_seed):
    sweep = replace(SWEEP, seeds=(0,))
    before = estimate(sweep, tmp_path / "out", None, Resources())
    assert not (tmp_path / "out").exists()
    assert not any(job.finished for job in before.jobs)
    plans, results = first_seed
    assert grouped(job.use for job in before.jobs) == grouped(plans.first_use.values())
    kept = {job.use.key for job in before.jobs if job.use.job.kind in ("teacher", "search")}
    assert kept < set(plans.first_use), "what no outcome decides is the very job"
    rows, there = load(results), tree(results)
    after = estimate(sweep, results, None, Resources())
    assert tree(results) == there
    assert {job.use.key for job in after.jobs} == set(plans.first_use) == set(rows["job_id"])
    assert all(job.finished for job in after.jobs)
    assert (after.macs, after.seconds, after.wall, after.disk) == (0, 0, 0.0, 0)


@pytest.mark.usefixtures("quick")
def test_what_is_left_of_a_run_and_where_its_seconds_are_from(first_seed):
    _, results = first_seed
    rows = load(results)
    found = estimate(SWEEP, results, None, Resources(total_cpus=2), calibrate=False)
    assert {job.use.seed for job in found.to_run} == {1}
    assert {job.use.key for job in found.jobs if job.finished} == set(rows["job_id"])
    assert all("rows here" in source for source in found.sources)
    finals = rows[rows["kind"] == "final"]
    pace = finals["train_macs"].sum() / finals["device_seconds"].sum()
    final = next(job for job in found.to_run if job.use.job.kind == "final")
    assert final.seconds == pytest.approx(final.macs / pace)
    assert max(job.seconds for job in found.to_run) < found.wall < found.seconds
    assert f"{len(found.to_run)} jobs to run, {len(rows)} finished" in str(found)


def test_without_rows_and_calibration_nothing_is_claimed(tmp_path):
    found = estimate(SWEEP, tmp_path, None, Resources(), calibrate=False)
    assert (found.macs, found.seconds, found.wall, found.sources) == (None, None, None, ())
    assert str(found).startswith(f"estimate: {len(found.jobs)} jobs to run, 0 finished, up to ")
    assert not found.large
    assert estimate(replace(SWEEP, seeds=tuple(range(8))), tmp_path, None, Resources(), calibrate=False).large


@pytest.mark.parametrize("holdout", [0.0, 0.15])
def test_training_macs_are_those_of_the_row_to_the_last_digit(tmp_path, holdout):
    asked = problem(epochs=2, holdout=holdout)
    asked = replace(asked, data=replace(asked.data, train_subset=201))
    size = asked.backbone.space().sample(np.random.default_rng(5))
    with Store(tmp_path).lock():
        pass
    for job in (teacher_job(asked, 0), candidate_job(asked, size, 0), final_job(asked, size, 0, KD())):
        row = execute(job, Labels("s", "m", None), Context(results=tmp_path))
        assert row["status"] == "ok", row["error"]
        assert job.expected_macs(201) == row["train_macs"]


def search_of(settings, **recipe):
    [job] = next(settings.plan(problem(**recipe), 0))
    return job


@pytest.mark.parametrize("batch", [100, 128, 719])
def test_search_macs_are_those_of_the_outcome_to_the_last_digit(tmp_path, batch):
    """Every width is drawn: the widest decides, whatever the search finds."""
    job = search_of(Tas(search="W", samples=8, search_epochs=1), batch=batch)
    assert job.expected_macs(DIGITS) == job.run(Context(results=tmp_path)).train_macs


def test_search_macs_of_draws_are_near(tmp_path):
    job = search_of(Tas(search_epochs=2))
    assert job.expected_macs(DIGITS) == pytest.approx(job.run(Context(results=tmp_path)).train_macs, rel=0.1)
    assert job.expected_macs(DIGITS) == job.expected_macs(DIGITS)


@pytest.mark.parametrize("batch", [50, 64])
def test_of_an_odd_number_of_images_the_validation_half_has_one_more(tmp_path, batch):
    job = search_of(Tas(search="W", samples=8, search_epochs=2), batch=batch)
    job = replace(job, problem=replace(job.problem, data=replace(job.problem.data, train_subset=201)))
    assert job.expected_macs(201) == job.run(Context(results=tmp_path)).train_macs


def walls(rooms, **shares):
    """Two seeds: a teacher each, then the two finals that it teaches, all of two device-seconds."""
    sweep, resources = with_settings(SWEEP, {"methods": "ratio"}), Resources(**shares)

    def share_of(use):
        return resources.share(use.job.kind, 0)

    return [drive(Plans(sweep.plans(), lambda *_: None), room, share_of, lambda _use: 2.0) for room in rooms]


def test_wall_time_follows_room_and_what_waits_for_what():
    assert walls([(1, 0), (2, 0), (99, 0)]) == [(12.0, 1), (6.0, 2), (4.0, 4)]
    assert walls([(2, 0), (4, 0)], cpus=2.0) == [(6.0, 1), (3.0, 2)], "two cores, half the time"
    assert walls([(4, 1)], gpus_of={"final": 0.5}) == [(10.0, 2)], "finals two by two on a GPU, teachers on cores"


def test_a_calibration_tells_macs_per_second_of_every_kind(quick):
    for searching in (False, True):
        pace = measured(searching, problem(), Bench("cpu", 1))
        assert 1e6 < pace < 1e13


def test_a_calibration_fills_a_gpu():
    recipe, image = Recipe(batch=128), ImageShape(3, 32)
    small, large = (
        replace(problem(), backbone_name=name, recipe=recipe, image=image) for name in ("tiny", "resnet110")
    )
    assert [batch_of(small, "cpu"), batch_of(large, "cpu")] == [128, 26]
    assert batch_of(large, "cuda") == 128


@pytest.mark.parametrize("argv", [["demo", "--smoke"], ["demo", "--set", "epochs=3"]])
def test_a_dry_run_tells_and_writes_nothing(here, capsys, quick, argv):
    assert main(["run", *argv, "--dry-run", "--set", "backbones=tiny", "--download", "--data", "x"]) == OK
    out, err = capsys.readouterr()
    assert (err, tree(here)) == ("", {})
    lines = out.splitlines()
    words = next(line.split() for line in lines if line.split()[:1] == ["all"])
    assert words[1] == "0"
    assert f"estimate: {words[2]} jobs to run, 0 finished" in lines[-1]
    assert sum(line.split()[:2] == ["tas", "final"] for line in lines) == 3
    assert "on noise" in lines[-2]


@pytest.mark.usefixtures("no_gpu")
def test_a_dry_run_refuses_what_a_run_would(refused, own_store):
    dry = ["--dry-run"]
    assert "holds sweep 'golden', not 'demo'" in refused("run", "demo", "--results", str(own_store), *dry)
    assert "cifar100 needs its files" in refused("run", "table1", *dry)
    assert "change keep" in refused("run", "demo", "--set", "keep=3", *dry)
    assert "measures no latency" in refused("run", "demo", "--set", "cost=latency", *dry)
    assert "a job asks for a GPU" in refused("run", "demo", "--gpus-per-job", "1", *dry)


def test_every_sweep_can_be_estimated(tmp_path):
    found = estimate(replace(table2.SWEEP, seeds=(0,), train_subset=500), tmp_path, None, Resources(), False)
    kinds = [job.use.job.kind for job in found.jobs]
    assert (kinds.count("search"), kinds.count("final")) == (5, 5), "no two searches make up the same size"
    assert len({job_id(job.use.job) for job in found.jobs}) == len(found.jobs)
    assert math.isfinite(found.disk)
