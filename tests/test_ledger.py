"""The ledger: sums per method by hand, an estimate at the paper's schedule, real runs whose seconds add up."""

import datetime
import json

import pandas as pd
import pytest
from report_rows import SWEEP, Sweep, used_of

from sweeps.demo import SWEEP as DEMO_SWEEP
from tas_bench.jobs import KINDS, job_json
from tas_bench.report.ledger import RESULTS, accounts, is_over, ledger, paper_hours
from tas_bench.report.table1 import narrowed
from tas_bench.resources import Resources
from tas_bench.runner.supervisor import Talk, run_sweep
from tas_bench.settings import smoke, with_settings
from tas_bench.store import Store
from tas_bench.tas import Tas
from tas_bench.testing import PROBLEM
from tas_bench.train import candidate_job
from tas_bench.usage import WRITE_EVERY, Usage, runs

[MANIFEST] = narrowed(SWEEP)


def ledger_of(sweep, **changed):
    return ledger(used_of(sweep, SWEEP | changed), MANIFEST | changed).set_index("method")


def spent(seconds, macs=0, **more):
    return {"device_seconds": float(seconds), "train_macs": macs, "started": None} | more


def two_methods():
    """TAS in 100 and 200 s; random search by a supernet of 50 s that both seeds use, and scores of 1 s."""
    sweep = Sweep()
    for seed in (0, 1):
        sweep.add("tas", seed, "search", **spent(100 * (seed + 1), 1000)).final(
            "tas", seed, "kd", 0.7, **spent(7, 70)
        )
        for job in range(3):
            sweep.add("random_search", seed, "score", job=f"score{seed}{job}", **spent(1, 10))
        sweep.add("random_search", seed, "supernet", job="shared", row=seed == 0, **spent(50, 500))
        sweep.add("random_search", seed, "teacher", job="teacher", row=seed == 0, **spent(30, 300))
    return sweep


def test_a_teacher_that_is_pruned_is_a_part_of_the_search():
    sweep = Sweep()
    for kind, seconds, macs in (("teacher", 30, 300), ("pruning", 5, 50)):
        sweep.add("random_search", 0, kind, **spent(seconds, macs))
    sweep.final("random_search", 0, "scratch", 0.7, **spent(7, 70))
    found = ledger_of(sweep, seeds=[0], transfers=["scratch"]).loc["random_search"]
    assert (found["search_device_seconds_mean"], found["search_train_macs_mean"]) == (35, 350)
    assert found["jobs_mean"] == 2
    assert (found["teacher_device_seconds_mean"], found["final_device_seconds_mean"]) == (0, 7)


def test_sums_by_hand():
    found = ledger_of(two_methods(), transfers=["kd"])
    assert found["n"].to_dict() == {"ratio": 0, "random_search": 2, "cma_es": 0, "tas": 2}
    random, tas = found.loc["random_search"], found.loc["tas"]
    assert (random["search_device_seconds_mean"], random["search_train_macs_mean"]) == (53.0, 530.0)
    assert random["teacher_device_seconds_mean"] == 30.0
    assert pd.isna(random["final_device_seconds_mean"])
    assert random["jobs_mean"] == 4
    assert (tas["search_device_seconds_mean"], tas["search_train_macs_mean"]) == (150.0, 1000.0)
    assert (tas["final_device_seconds_mean"], tas["final_train_macs_mean"]) == (7.0, 70.0)
    assert tas["search_device_seconds_half_width"] == pytest.approx(12.7062 * 50, rel=1e-4)
    assert random["time_ratio"] == pytest.approx((53 / 100 + 53 / 200) / 2)
    assert random["macs_ratio"] == pytest.approx(0.53)
    assert (tas["time_ratio"], tas["macs_ratio"]) == (1, 1)


def test_final_trainings_are_of_seeds_that_have_them_all():
    sweep = two_methods().add("tas", 2, "search", **spent(300)).final("tas", 2, "kd", None, row=False)
    found = ledger_of(sweep, transfers=["kd"])
    tas = found.loc["tas"]
    assert (tas["n"], tas["search_device_seconds_mean"], tas["final_device_seconds_mean"]) == (3, 200.0, 7.0)
    assert found.loc["random_search", "time_ratio"] == pytest.approx((53 / 100 + 53 / 200) / 2)  # on seeds of both


def test_every_kind_of_job_but_results_is_search():
    for kind in set(KINDS) - set(RESULTS):
        sweep = Sweep().add("cma_es", 0, kind, **spent(5)).final("cma_es", 0, "kd", 0.5)
        assert ledger_of(sweep).loc["cma_es", "search_device_seconds_mean"] == 5.0


def test_without_tas_there_is_nothing_to_compare_with():
    others = [m for m in SWEEP["methods"] if m["name"] != "tas"]
    assert ledger_of(two_methods(), methods=others)[["time_ratio", "macs_ratio"]].isna().all(axis=None)


def test_a_search_is_over_when_something_came_after_it():
    plan = pd.DataFrame({"kind": ["candidate"], "status": ["ok"]})
    assert not is_over(plan, {"transfers": ["kd"]})
    assert is_over(plan, {"transfers": []})
    after = pd.concat([plan, pd.DataFrame({"kind": ["final"], "status": [None]})])
    assert is_over(after, {"transfers": ["kd"]})
    assert not is_over(after.assign(status=None), {"transfers": ["kd"]})


def test_the_estimate_is_of_the_papers_epochs_and_images():
    """A candidate of 2 epochs and a search of 6, on a fiftieth of the images."""
    [search] = next(Tas(search_epochs=6).plan(PROBLEM, 0))
    candidate = candidate_job(PROBLEM, PROBLEM.backbone.full, 0)
    jobs = pd.DataFrame(
        {
            "kind": ["candidate", "search", "score"], "device_seconds": [36.0, 72.0, 3.6],
            "job": [job_json(candidate), job_json(search), json.dumps({"supernet": {"recipe": {"epochs": 3}}})],
        }
    )  # fmt: skip
    hours = 36 / 3600 * 150 * 50, 72 / 3600 * 100 * 50, 3.6 / 3600 * 50
    assert paper_hours(jobs, 1000) == pytest.approx(sum(hours))


def test_a_sweeps_estimate_takes_the_images_of_its_finals():
    job = json.dumps({"recipe": {"epochs": 3}})
    sweep = Sweep()
    sweep.final("random_search", 0, "kd", 0.7, images=300 * 1000)
    sweep.add("random_search", 0, "candidate", job="c", device_seconds=3.6)
    sweep.rows["c"]["job"] = job
    assert ledger_of(sweep).loc["random_search", "paper_hours"] == pytest.approx(0.001 * 100 * 50)
    final = sweep.rows["random_search-0-final-kd-0"]
    final |= {"images": 300 * 900, "job": json.dumps({"recipe": {"epochs": 300, "holdout": 0.1}})}
    assert ledger_of(sweep).loc["random_search", "paper_hours"] == pytest.approx(0.001 * 100 * 50)
    del sweep.rows["random_search-0-final-kd-0"]["images"]
    assert pd.isna(ledger_of(sweep).loc["random_search", "paper_hours"])


# ---------------------------------------------------------------- slots x wall


def test_an_account_adds_up(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tas_bench.usage.time.monotonic", lambda: now[0])
    usage = Usage(tmp_path)
    usage.path.parent.mkdir()
    now[0] += WRITE_EVERY / 2
    usage.write(2, 1.0)
    assert runs(tmp_path) == [], "not so soon"
    now[0] += WRITE_EVERY
    usage.write(4, 3.0)
    [run] = runs(tmp_path)
    assert run["wall_seconds"] == 1.5 * WRITE_EVERY
    assert run["slot_seconds"] == WRITE_EVERY + 4 * WRITE_EVERY
    assert (run["busy_seconds"], run["idle_seconds"]) == (3.0, 5 * WRITE_EVERY - 3.0)
    usage.write(4, 3.5, last=True)
    assert [run["busy_seconds"] for run in runs(tmp_path)] == [3.5], "in one file"
    (tmp_path / "_runs" / "torn.json").write_text("{")
    (tmp_path / "_runs" / "nested.json").write_text("[" * 100_000)
    assert len(runs(tmp_path)) == 1


def test_rows_count_for_the_run_they_began_and_ended_in():
    zero = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    at = [zero + datetime.timedelta(seconds=s) for s in (0, 10, 20, 30)]
    rows = pd.DataFrame(
        {
            "started": [at[0], at[1], at[1]], "ended": [at[1], at[2], at[3]], "device_seconds": [3.0, 5.0, 7.0],
            "attempts": 1, "kind": "final",
        }
    )  # fmt: skip
    run = {"started": at[0], "ended": at[2], "wall_seconds": 20.0, "slot_seconds": 40.0, "idle_seconds": 31.0}
    [line] = accounts(rows, [run]).to_dict("records")
    assert (line["slots"], line["jobs"], line["busy_seconds"]) == (2.0, 2, 8.0)
    assert line["unbooked"] == pytest.approx(1 / 40)
    assert accounts(rows, []).empty


def test_of_a_resumed_job_a_run_books_what_it_did_itself():
    """Ten seconds on half a core, and forty of earlier attempts; a kind that never ran through holds a core."""
    zero = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    ten = zero + datetime.timedelta(seconds=10)
    rows = pd.DataFrame(
        {
            "started": zero, "ended": ten, "device_seconds": [5.0, 45.0, 60.0, 3.0],
            "attempts": [1, 2, 2, 2], "kind": ["final", "final", "search", "search"],
        }
    )  # fmt: skip
    run = {"started": zero, "ended": ten, "wall_seconds": 10.0, "slot_seconds": 40.0, "idle_seconds": 0.0}
    [line] = accounts(rows, [run]).to_dict("records")
    assert line["busy_seconds"] == 5 + 5 + 10 + 3


@pytest.mark.slow
def test_slots_times_wall_is_busy_and_idle(tmp_path):
    """A real run: what the jobs booked and what the driver saw stand idle."""
    short = with_settings(
        smoke(DEMO_SWEEP),
        {"transfers": "scratch", "epochs": "8", "search_epochs": "8", "methods": "random_search,tas"},
    )
    run_sweep(short, tmp_path, None, Resources(total_cpus=2), Talk(track=("tensorboard",)))
    rows = Store(tmp_path).outcomes()
    [run] = runs(tmp_path)
    [line] = accounts(pd.read_parquet(tmp_path / "rows"), [run]).to_dict("records")
    assert line["jobs"] == len(rows) == 5
    assert line["slots"] == pytest.approx(2)
    assert abs(line["unbooked"]) < 0.05
    told = {path.name.rpartition("-")[2] for path in (tmp_path / "_tensorboard").iterdir()}
    assert told == set(rows), "and every job was told of as it ended"
    booked = pd.read_parquet(tmp_path / "rows")["idle_seconds"]
    assert (booked >= 0).all()
    assert booked.sum() <= run["idle_seconds"] + 1
