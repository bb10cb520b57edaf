"""The figures of Table 1: the paper's own, and ours from the rows."""

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_rows import BUDGET, SWEEP, Sweep, full_sweep, lines_of, on, shown, used_of

from tas_bench.report.ledger import is_over
from tas_bench.report.table1 import COLUMNS, published, teacher_row

ROOT = Path(__file__).parents[1]


# --- published figures ---


def test_published_table1_is_the_papers():
    paper = published("table1").set_index(["method", "transfer"])
    assert len(paper) == 9
    assert paper.loc[("tas", "kd"), "accuracy"] == 72.41
    assert paper["macs"].groupby("method").unique().map(list).to_dict() == {
        "ratio": [41_100_000],
        "random_search": [42_900_000],
        "tas": [42_500_000],
    }
    assert paper["source"].str.contains("quoted|Table 1").all()


def test_published_lies_where_the_readme_says():
    link = ROOT / "results" / "published"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert (link / "table1.csv").is_file()
    assert (link / "search_cost.csv").is_file()


# --- table1 ---


def test_full_sweep():
    found = lines_of(full_sweep())
    assert list(found.index) == [
        method["label"] + suffix for method in SWEEP["methods"] for suffix in ("", " w/ Init", " w/ KD")
    ]
    assert list(found.reset_index().columns) == list(COLUMNS)
    line = found.loc["TAS w/ KD"]
    assert line["accuracy_mean"] == pytest.approx(75.0)
    assert line["accuracy_half_width"] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert (line["n"], line["planned"], line["failed"], line["in_band"]) == (3, 3, 0, 1.0)
    assert (line["paper_macs"], line["paper_accuracy"]) == (42_500_000, 72.41)
    assert line["difference"] == pytest.approx(75.0 - 72.41)
    assert (line["search_device_seconds_mean"], line["search_n"]) == (200.0, 3)
    assert line["search_device_seconds_half_width"] == pytest.approx(100 * 4.302653 / math.sqrt(3), rel=1e-6)
    random = found.loc["Random Search w/ Init"]
    assert (random["search_device_seconds_mean"], random["search_train_macs_mean"]) == (1800.0, 3e15)
    assert random["search_train_macs_ratio"] == pytest.approx(1.5)
    assert found.loc["Pre-defined", "search_train_macs_mean"] == 0
    assert found.loc["TAS", "search_train_macs_ratio"] == 1


def test_paper_has_no_cma_es():
    line = lines_of(full_sweep()).loc["CMA-ES w/ KD"]
    assert line[["paper_macs", "paper_accuracy", "difference"]].isna().all()
    assert line["n"] == 3


@pytest.mark.parametrize("other", [{"dataset": "digits"}, {"backbone": "resnet20"}])
def test_no_difference_to_another_setting(other):
    sweep = full_sweep()
    manifest = on(sweep, **other)
    found = lines_of(sweep, manifest)
    assert found["difference"].isna().all()
    assert found.loc["TAS", "paper_accuracy"] == 68.95
    assert "no difference is taken" in shown(sweep, manifest)


def test_difference_at_another_scale_is_taken_and_told():
    sweep = full_sweep()
    for row in sweep.rows.values():
        row["train_subset"], row["epochs"] = 2000, 60
    assert lines_of(sweep)["difference"].notna().any()
    scale = "differences are not like for like: 2,000 training images, 60 epochs instead of 300"
    assert scale in shown(sweep, width=200)
    assert "30% of the macs kept" in shown(full_sweep(), on(keep=0.3), width=200)
    assert "not like for like" not in shown(full_sweep(), width=200)


def test_a_teacher_at_another_scale_is_told():
    sweep = full_sweep().add("teacher", 0, "teacher", test_accuracy=0.7, epochs=600)
    assert "not like for like: 600 epochs instead of 300" in shown(sweep, width=200)


def test_other_data_has_the_papers_caption():
    sweep = full_sweep()
    text = shown(sweep, on(sweep, dataset="digits"))
    assert "paper's figures are CIFAR-100, ResNet-32; no difference is taken" in text
    assert "no difference is taken" not in shown(full_sweep())


def test_sizes_outside_the_band_are_counted_with_its_ends_inside():
    low, high = 0.95 * BUDGET, 1.05 * BUDGET
    sweep = Sweep()
    for seed, macs in enumerate((int(low) + 1, int(high), int(high) + 1)):
        sweep.final("tas", seed, "kd", 0.7, macs=macs)
    line = lines_of(sweep).loc["TAS w/ KD"]
    assert line["in_band"] == pytest.approx(2 / 3)
    assert line["macs_mean"] == pytest.approx((int(low) + 1 + int(high) + int(high) + 1) / 3)


def test_partial_sweep():
    sweep = Sweep().final("tas", 0, "kd", 0.7).add("tas", 0, "search", device_seconds=60.0, train_macs=10)
    sweep.add("tas", 1, "final", "kd", row=False).add("tas", 1, "search", device_seconds=80.0, train_macs=30)
    sweep.add("tas", 2, "search", row=False)
    sweep.add("random_search", 0, "candidate", device_seconds=5.0, train_macs=1)  # still searching
    found = lines_of(sweep)
    line = found.loc["TAS w/ KD"]
    assert (line["n"], line["planned"], line["search_n"]) == (1, 3, 2)
    assert line["search_device_seconds_mean"] == 70.0
    assert pd.isna(line["accuracy_half_width"])
    assert found.loc["TAS", "n"] == 0
    assert found.loc["TAS", ["accuracy_mean", "macs_mean", "in_band", "difference"]].isna().all()
    assert found.loc["Random Search", "search_n"] == 0
    assert pd.isna(found.loc["Random Search", "search_device_seconds_mean"])
    text = shown(sweep)
    assert "70.00 (n=1/3)" in text
    assert "nan" not in text
    assert "<NA>" not in text


def test_search_with_a_missing_candidate_has_no_cost_yet():
    sweep = Sweep().final("random_search", 0, "kd", 0.7)
    sweep.add("random_search", 0, "candidate", device_seconds=5.0, train_macs=1)
    sweep.add("random_search", 0, "candidate", row=False)
    assert lines_of(sweep).loc["Random Search w/ KD", "search_n"] == 0


def test_failed_candidate_counts_with_what_it_cost():
    sweep = Sweep().final("random_search", 0, "kd", 0.7).final("random_search", 0, "init", None, status="oom")
    sweep.add("random_search", 0, "candidate", device_seconds=5.0, train_macs=1)
    sweep.add("random_search", 0, "candidate", device_seconds=2.0, status="timeout", error="took > 60 s")
    sweep.add("random_search", 0, "candidate", status="failed", error="worker died")
    found = lines_of(sweep)
    assert found.loc["Random Search w/ KD", "search_device_seconds_mean"] == 7.0
    assert found.loc["Random Search w/ KD", "failed"] == 2
    assert found.loc["Random Search w/ Init", "failed"] == 3
    assert found.loc["Random Search w/ Init", "n"] == 0
    text = shown(sweep)
    assert "random_search seed 0, candidate: timeout: took > 60 s" in text
    assert "random_search seed 0, final init: oom" in text


def test_search_is_over_once_the_teacher_is_asked_for():
    sweep = Sweep().add("tas", 0, "search", device_seconds=5.0, train_macs=1).add("tas", 0, "teacher", row=False)
    assert lines_of(sweep).loc["TAS", ["search_n", "search_device_seconds_mean"]].tolist() == [1, 5.0]


def test_search_that_needs_the_teacher_is_not_over_when_that_is_asked_for():
    sweep = Sweep().add("tas", 0, "teacher")
    assert lines_of(sweep).loc["TAS", "search_n"] == 0
    sweep.add("tas", 0, "pruning", device_seconds=5.0, train_macs=1)
    assert lines_of(sweep).loc["TAS", ["search_n", "search_device_seconds_mean"]].tolist() == [1, 5.0]
    for kinds, over in (("teacher",), False), (("teacher", "pruning"), True), (("teacher", "final"), True):
        assert is_over(pd.DataFrame({"kind": kinds, "status": "ok"}), SWEEP) is over
    no_search = Sweep().add("ratio", 0, "teacher").final("ratio", 0, "kd", 0.7)
    assert lines_of(no_search).loc["Pre-defined", "search_n"] == 1


def test_job_shared_by_two_methods_counts_for_both():
    sweep = (
        Sweep()
        .final("random_search", 0, "kd", 0.7, job="same")
        .add("cma_es", 0, "final", "kd", job="same", row=False)
    )
    sweep.add("random_search", 0, "candidate", job="c", device_seconds=5.0, train_macs=1)
    sweep.add("cma_es", 0, "candidate", job="c", row=False)
    sweep.add("cma_es", 0, "candidate", job="c", row=False)  # asked for again: trained once
    found = lines_of(sweep)
    for name in ("Random Search w/ KD", "CMA-ES w/ KD"):
        assert (found.loc[name, "accuracy_mean"], found.loc[name, "n"]) == (pytest.approx(70.0), 1)
        assert found.loc[name, "search_device_seconds_mean"] == 5.0


def test_other_sweeps_and_seeds_stay_out():
    sweep = Sweep().final("tas", 0, "kd", 0.7).final("tas", 9, "kd", 0.1).final("tas", 1, "kd", 0.2)
    sweep.uses[-1]["sweep"] = "another"
    line = lines_of(sweep).loc["TAS w/ KD"]
    assert (line["n"], line["accuracy_mean"]) == (1, pytest.approx(70.0))


def test_teacher_comes_first_and_counts_once():
    sweep = full_sweep()
    teacher = sweep.uses[0]["job_id"]
    sweep.add("tas", 1, "teacher", job=teacher, row=False)
    found = teacher_row(used_of(sweep))
    assert len(found) == 1
    line = found.iloc[0]
    assert (line["name"], line["macs_mean"], line["n"]) == ("Unpruned (teacher)", 69_000_000, 1)
    assert line["accuracy_mean"] == pytest.approx(70.0)
    text = shown(sweep)
    assert text.index("Unpruned (teacher)") < text.index("Pre-defined")


@settings(max_examples=6, deadline=None)
@given(st.lists(st.sampled_from(["ok", "oom", "missing"]), max_size=3))
def test_n_counts_finished_seeds_whatever_is_there(states):
    sweep = Sweep()
    for seed, state in enumerate(states):
        sweep.final("tas", seed, "kd", 0.7 if state == "ok" else None, status=state, row=state != "missing")
    line = lines_of(sweep).loc["TAS w/ KD"]
    n = states.count("ok")
    assert line["n"] == n
    assert line["failed"] == states.count("oom")
    assert pd.isna(line["accuracy_mean"]) == (n == 0)
    assert pd.isna(line["accuracy_half_width"]) == (n < 2)
