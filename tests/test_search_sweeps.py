"""The sweeps that compare searches: equal numbers of sizes, and equal costs by the jobs' own count of macs."""

import runpy

import pytest
from helpers import drive

import sweeps.methods
import sweeps.search_cost
from baselines.greedy_slimming import GreedySlimming
from baselines.ratio import Ratio
from sweeps.methods import SHARED, TRAINED
from sweeps.methods import SWEEP as METHODS
from sweeps.replication_cifar100 import SWEEP as REPLICATION
from sweeps.search_cost import EQUAL, EQUAL_SHARED, SWEEP
from tas_bench import discover
from tas_bench.oneshot import OneShot, Score
from tas_bench.tas import Tas
from tas_bench.testing import made_up
from tas_bench.variant import settings_of

[PROBLEM] = SWEEP.problems
IMAGES = 50_000


def macs_of_tas():
    [job] = next(Tas().plan(PROBLEM, 0))
    return job.expected_macs(IMAGES)


@pytest.mark.parametrize("method", EQUAL, ids=lambda m: m.name)
def test_an_equal_search_costs_what_tas_does_at_most_and_not_much_less(method):
    seeds = range(20 if method.name == "reinforce" else 1)  # which draws sizes of all costs
    plans = [drive(method.plan(PROBLEM, seed), made_up)[0] for seed in seeds]
    spent = sum(job.expected_macs(IMAGES) for plan in plans for batch in plan for job in batch) / len(plans)
    assert 0.85 < spent / macs_of_tas() <= 1.06, "the sizes of a band differ as much"


@pytest.mark.parametrize("method", EQUAL_SHARED, ids=lambda m: m.name)
def test_so_does_one_with_shared_weights(method):
    supernet = OneShot(data=PROBLEM.data, backbone_name=PROBLEM.backbone_name, recipe=PROBLEM.recipe, seed=0)
    draws = [PROBLEM.space.size(row) for row in supernet.draws(0, 20)]
    score = sum(Score(supernet=supernet, size=size).expected_macs(IMAGES) for size in draws) / 20
    spent = supernet.expected_macs(IMAGES) + (method.jobs - 1) * score * PROBLEM.budget * 20 / sum(
        PROBLEM.macs(size) for size in draws
    )
    assert 0.8 < spent / macs_of_tas() <= 1.02


def test_the_replications_rivals_cost_what_tas_does():
    [problem] = REPLICATION.problems
    spent = {
        method.name: sum(
            job.expected_macs(problem.data.train_subset)
            for batch in drive(method.plan(problem, 0), made_up)[0]
            for job in batch
        )
        for method in REPLICATION.methods
    }
    for rival in ("random_search", "cma_es"):
        assert 0.9 < spent[rival] / spent["tas"] < 1.1


@pytest.mark.parametrize("method", [m for m in (*TRAINED, *SHARED) if m != GreedySlimming()], ids=lambda m: m.name)
def test_whoever_judges_sizes_judges_24(method):
    batches, _ = drive(method.plan(PROBLEM, 0), made_up)
    jobs = [job for batch in batches for job in batch if job.kind != "supernet"]
    sizes = {(job.size if hasattr(job, "size") else job.whole.size) for job in jobs}
    assert 22 <= len(sizes) <= 24, "two proposals may be one network"


def test_every_method_there_is_takes_part():
    known = {Tas.name, *discover.classes("baselines", has="plan")}
    for sweep, missing in ((METHODS, set()), (SWEEP, {"ratio"})):
        assert known - {settings_of(method).name for method in sweep.methods} == missing


def test_a_new_one_does_so_by_itself(monkeypatch):
    class New(Ratio):
        name = "new"

    found = discover.classes("baselines", has="plan") | {"new": New}
    monkeypatch.setattr(discover, "classes", lambda package, has: found)
    methods = runpy.run_path(sweeps.methods.__file__)
    monkeypatch.setattr(sweeps.methods, "OTHERS", methods["OTHERS"])
    for ran in (methods, runpy.run_path(sweeps.search_cost.__file__)):
        assert [method.name for method in ran["SWEEP"].methods].count("new") == 1
