"""Which plan asked for which job, from one run to the next."""

import pytest
from helpers import sets

from tas_bench import load
from tas_bench.cli import main
from tas_bench.errors import OK
from tas_bench.schema import USES
from tas_bench.uses import write_uses


def use(job, backbone="tiny", kind="candidate", **others):
    return dict.fromkeys(USES.names) | {
        "job_id": job, "sweep": "s", "plan": "ratio-s0", "dataset": "digits", "backbone": backbone,
        "method": "ratio", "seed": 0, "kind": kind,
    } | others  # fmt: skip


def jobs(store):
    found = load(store.path, table="uses")
    return sorted(zip(found["plan"], found["job_id"], strict=True))


def test_they_are_written_anew(store):
    write_uses(store.path, "ratio-s0", [use("a")], ["scratch"])
    write_uses(store.path, "ratio-s0", [use("a"), use("b")], ["scratch"])
    write_uses(store.path, "q", [], [])
    assert jobs(store) == [("ratio-s0", "a"), ("ratio-s0", "b")]


def test_finals_of_transfers_that_a_narrower_run_leaves_out_stay(store):
    both = [use("a", kind="final", transfer="scratch"), use("b", kind="final", transfer="kd")]
    write_uses(store.path, "ratio-s0", both, ["scratch", "kd"])
    write_uses(store.path, "ratio-s0", both[:1], ["scratch"])
    assert [job for _, job in jobs(store)] == ["a", "b"]
    write_uses(store.path, "ratio-s0", [use("c", kind="final", transfer="kd")], ["kd", "scratch"])
    assert [job for _, job in jobs(store)] == ["c"]


def test_what_was_asked_for_of_another_problem_stays(store):
    write_uses(store.path, "ratio-s0", [use("a")], ["scratch"])
    write_uses(store.path, "ratio-s0", [use("b", "resnet20")], ["scratch"])
    write_uses(store.path, "ratio-s0", [use("c", "resnet20")], ["scratch"])
    assert [job for _, job in jobs(store)] == ["a", "c"]


def test_of_early_days_a_plan_tells_no_problem(store):
    early = {"dataset": None, "backbone": None}
    lines = [use("a"), use("b", kind="final", transfer="kd")]
    write_uses(store.path, "ratio-s0", [line | early for line in lines], ["kd"])
    write_uses(store.path, "ratio-s0", [use("c")], ["scratch"])
    assert [job for _, job in jobs(store)] == ["b", "c"]


@pytest.mark.parametrize("names", [("ratio-s0", "digits-tiny-ratio-s0"), ("digits-tiny-ratio-s0", "ratio-s0")])
def test_a_plans_other_name_is_the_same_plan(store, names):
    old, new = names
    lines = [use("a"), use("kept", kind="final", transfer="kd"), use("other", "resnet20")]
    write_uses(store.path, old, [line | {"plan": old} for line in lines[:2]], ["kd"])
    write_uses(store.path, old, [line | {"plan": old} for line in lines[2:]], ["kd"])
    write_uses(store.path, new, [use("b") | {"plan": new}], ["scratch"])
    assert jobs(store) == sorted([(new, "b"), (new, "kept"), (old, "other")])


@pytest.mark.usefixtures("without_ray")
def test_runs_of_one_backbone_after_the_other_and_of_both_are_one_table():
    own = sets("methods=ratio", "transfers=scratch", "epochs=1", "seeds=0", "train_subset=100")
    for backbones in ("tiny", "resnet20", "tiny,resnet20"):
        run = ["run", "demo", "--quiet", *own, *sets(f"backbones={backbones}"), "--results", "out"]
        assert main(run) == OK
        found = load("out", table="uses")
        assert found["job_id"].is_unique
    assert sorted(found["backbone"]) == ["resnet20", "tiny"]
    assert len(load("out")) == 2
