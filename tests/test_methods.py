"""Every method keeps the contract, and each of the simple ones does what it says."""

import dataclasses
import math
import random
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from helpers import drive, keys

from baselines.cma_es import CmaEs, decode_logits, losses_of
from baselines.random_search import RandomSearch
from baselines.ratio import Ratio, uniform_size
from tas_bench.backbones.backbone import CIFAR
from tas_bench.budget import Band
from tas_bench.costs.params import PARAMS
from tas_bench.discover import classes
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.fitness import best_of
from tas_bench.jobs import DataSpec, Outcome, Problem, Recipe, job_id
from tas_bench.tas import Tas
from tas_bench.testing import PROBLEM, check_method, made_up
from tas_bench.train import candidate_job, final_job
from tas_bench.transfer.scratch import Scratch

METHODS = {Tas.name: Tas} | classes("baselines", has="plan")
PAPER = Problem(
    data=DataSpec(), backbone_name="resnet32", classes=100, image=CIFAR, keep=0.6, t=0.05, recipe=Recipe()
)
BAND = Band.of(PROBLEM)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_contract(method):
    check_method(method)


DRAWN = ("cma_es", "evolution", "optuna_nsga2", "optuna_tpe")
"""Methods that take long, and whose sizes come from the same draws."""


@pytest.mark.parametrize(
    "method", [pytest.param(m, id=name, marks=[pytest.mark.slow] * (name in DRAWN)) for name, m in METHODS.items()]
)
def test_contract_under_a_budget_in_parameters(method):
    check_method(method, dataclasses.replace(PROBLEM, cost="params"))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_contract_at_the_papers_size(method):
    check_method(method, PAPER)


# ---------------------------------------------------------------- the contract refuses


@dataclass(frozen=True)
class Broken:
    """A method without any fault, for others to add one."""

    name: ClassVar[str] = "broken"
    label: ClassVar[str] = "Broken"

    def sizes(self, problem, seed):
        return Band.of(problem).sample(np.random.default_rng(seed), 3)

    def choose(self, sizes, outcomes):
        best = best_of(outcomes)
        if best is None:
            raise PlanFailedError("all failed")
        return sizes[best]

    def job(self, problem, size, seed):
        return candidate_job(problem, size, seed)

    def plan(self, problem, seed):
        sizes = self.sizes(problem, seed)
        outcomes = yield [self.job(problem, size, seed) for size in sizes]
        return self.choose(sizes, outcomes)


class DrawsGlobally(Broken):
    def sizes(self, problem, seed):
        return [problem.space.sample(np.random.default_rng(random.randrange(10**6))) for _ in range(3)]


class ReseedsNumpy(Broken):
    def sizes(self, problem, seed):
        np.random.seed(seed)  # noqa: NPY002
        return super().sizes(problem, seed)


class KeepsACounter(Broken):
    calls: ClassVar[list] = []

    def sizes(self, problem, seed):
        self.calls.append(seed)
        return super().sizes(problem, len(self.calls))


class LooksAtTheTestSet(Broken):
    def job(self, problem, size, seed):
        return final_job(problem, size, seed, Scratch())


class MissesTheBudget(Broken):
    def choose(self, sizes, outcomes):
        super().choose(sizes, outcomes)
        return PROBLEM.backbone.full


class NeedsTheCurve(Broken):
    def choose(self, sizes, outcomes):
        return sizes[np.argmax([-p["val_accuracy"] for o in outcomes for p in o.curve] or [0, 1, 0])]


class TrustsFailures(Broken):
    def choose(self, sizes, outcomes):
        return sizes[np.argmax([o.val_accuracy for o in outcomes])]


class NeverGivesUp(Broken):
    def choose(self, sizes, outcomes):
        return sizes[best_of(outcomes) or 0]


class IsNoMethod(Broken):
    label = ""


def test_contract_accepts_a_method_without_fault():
    check_method(Broken)


@pytest.mark.parametrize("broken", Broken.__subclasses__())
def test_contract_refuses_a_broken_method(broken):
    with pytest.raises((AssertionError, RuntimeError, TypeError)):
        check_method(broken)


# ---------------------------------------------------------------- ratio


def test_ratio_is_the_papers_predefined_network():
    batches, size = drive(Ratio().plan(PAPER, 0), made_up)
    assert batches == []
    assert sorted(set(size.widths)) == [12, 25, 50]
    assert size.depths == PAPER.backbone.full.depths
    assert PAPER.macs(size) == 41_095_916


def uniform(ratio):
    """Macs of ResNet-32 with every width cut to int(ratio x n)."""
    full = PAPER.backbone.full
    return PAPER.macs(dataclasses.replace(full, widths=tuple(int(ratio * n + 1e-9) for n in full.widths)))


@pytest.mark.parametrize("keep", [0.4, 0.5, 0.7, 0.85, 1.0])
def test_ratio_is_the_largest_within_the_budget(keep):
    problem = dataclasses.replace(PAPER, keep=keep)
    macs = problem.macs(uniform_size(problem))
    assert problem.band[0] <= macs <= problem.budget
    assert macs == max(m for i in range(1, 65) if (m := uniform(i / 64)) <= problem.budget)


def test_ratio_takes_the_least_above_the_budget_where_none_in_band_lies_below():
    problem = dataclasses.replace(PAPER, keep=0.31)
    low, high = problem.band
    in_band = [m for i in range(1, 65) if low <= (m := uniform(i / 64)) <= high]
    assert problem.budget < problem.macs(uniform_size(problem)) == min(in_band)


def test_ratio_says_when_no_ratio_fits():
    with pytest.raises(InputError, match=r"ratio: no single keep-ratio .*widen t or leave the method out"):
        uniform_size(dataclasses.replace(PROBLEM, keep=0.6, t=0.001))


def test_ratio_counts_what_the_budget_counts():
    problem = dataclasses.replace(PROBLEM, cost="params")
    low, _ = problem.band
    size = uniform_size(problem)
    assert low <= PARAMS.of(problem.layers, size) <= problem.budget
    assert size != uniform_size(PROBLEM)
    with pytest.raises(InputError, match=r"has 6\.561 k to 6\.574 k params \(nearest 6\.244 k\)"):
        uniform_size(dataclasses.replace(problem, t=0.001))


# ---------------------------------------------------------------- random search


def test_random_search_draws_in_band_and_takes_the_best():
    [batch], size = drive(RandomSearch().plan(PAPER, 3), made_up)
    assert len(batch) == 24
    assert len({job.size for job in batch}) == 24
    low, high = PAPER.band
    assert all(low <= PAPER.macs(job.size) <= high for job in batch)
    assert all(job.kind == "candidate" and job.recipe == PAPER.recipe and job.seed == 3 for job in batch)
    best = max(batch, key=lambda job: made_up(job).val_accuracy)
    assert PAPER.backbone.canonical(size) == best.size


def test_random_search_breaks_ties_by_order():
    [batch], size = drive(RandomSearch(trials=5).plan(PAPER, 0), lambda job: Outcome(val_accuracy=0.0))
    assert PAPER.backbone.canonical(size) == batch[0].size
    ties = [Outcome(val_accuracy=v) for v in (0.1, 0.7, 0.7)]
    assert best_of([Outcome(status="oom"), Outcome(status="failed", val_accuracy=0.9), *ties]) == 3
    assert best_of([Outcome(status="oom")]) is None
    assert best_of([Outcome(val_accuracy=None)]) is None
    assert best_of([Outcome(val_accuracy=math.nan), *ties]) == 2


def test_random_search_seeds_draw_apart_and_proxies_train_shorter():
    (one,), _ = drive(RandomSearch(trials=4, proxy_epochs=7).plan(PAPER, 0), made_up)
    (two,), _ = drive(RandomSearch(trials=4).plan(PAPER, 1), made_up)
    assert {job.size for job in one}.isdisjoint(job.size for job in two)
    assert {job.recipe for job in one} == {dataclasses.replace(PAPER.recipe, epochs=7)}
    more, _ = drive(RandomSearch(trials=6, proxy_epochs=7).plan(PAPER, 0), made_up)
    assert keys(more)[0][:4] == keys([one])[0], "more trials go on where fewer stopped"


# ---------------------------------------------------------------- CMA-ES


def depth_first(problem, size):
    """A made-up objective with one best corner: narrow front, wide back."""
    full = problem.backbone.full
    shares = np.array(size.widths) / np.array(full.widths)
    return float(1 / (1 + np.exp(-shares @ np.linspace(-1, 1, len(shares)))))


def test_cma_es_asks_for_generations_in_band():
    batches, size = drive(CmaEs(generations=3, population=5).plan(PROBLEM, 0), made_up)
    assert [len(batch) for batch in batches] == [5, 5, 5]
    jobs = [job for batch in batches for job in batch]
    assert all(PROBLEM.band[0] <= PROBLEM.macs(job.size) <= PROBLEM.band[1] for job in jobs)
    best = max(jobs, key=lambda job: made_up(job).val_accuracy)
    assert PROBLEM.backbone.canonical(size) == best.size


def test_cma_es_beats_the_mean_of_random_draws():
    for seed in range(3):
        _, size = drive(
            CmaEs().plan(PROBLEM, seed), lambda job: Outcome(val_accuracy=depth_first(PROBLEM, job.size))
        )
        draws = [depth_first(PROBLEM, s) for s in BAND.sample(np.random.default_rng(seed), 200)]
        assert depth_first(PROBLEM, size) > np.mean(draws) + np.std(draws)


def test_cma_es_learns():
    """Later generations are better than the first: it is told the right way up."""
    batches, _ = drive(
        CmaEs(generations=12, population=8).plan(PROBLEM, 0),
        lambda job: Outcome(val_accuracy=depth_first(PROBLEM, job.size)),
    )
    means = [np.mean([depth_first(PROBLEM, job.size) for job in batch]) for batch in batches]
    assert np.mean(means[-3:]) > means[0] + 0.02


def test_cma_es_leaves_global_numpy_alone():
    np.random.seed(5)  # noqa: NPY002
    want = np.random.random(4)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    drive(CmaEs().plan(PROBLEM, 0), made_up)
    assert np.random.random(4).tolist() == want.tolist()  # noqa: NPY002


def test_cma_es_strategies_do_not_disturb_each_other():
    alone = {seed: keys(drive(CmaEs().plan(PROBLEM, seed), made_up)[0]) for seed in (0, 1)}
    plans = {seed: CmaEs().plan(PROBLEM, seed) for seed in (0, 1)}
    batches = {seed: [next(plan)] for seed, plan in plans.items()}
    for _ in range(CmaEs().generations - 1):
        for seed, plan in plans.items():
            batches[seed].append(plan.send([made_up(job) for job in batches[seed][-1]]))
    assert {seed: keys(found) for seed, found in batches.items()} == alone
    assert alone[0] != alone[1]


def test_cma_es_goes_on_from_any_generation():
    whole, size = drive(CmaEs().plan(PROBLEM, 0), made_up)
    for cut in range(1, len(whole)):
        known = {job_id(job) for batch in whole[:cut] for job in batch}
        asked = []

        def answer(job, known=known, asked=asked):
            if job_id(job) not in known:
                asked.append(job)
            return made_up(job)

        again, size_again = drive(CmaEs().plan(PROBLEM, 0), answer)
        assert keys(again) == keys(whole)
        assert size_again == size
        assert known.isdisjoint(map(job_id, asked))


def test_cma_es_takes_failures_for_the_worst():
    good = [Outcome(val_accuracy=v) for v in (0.75, 0.25)]
    bad = [Outcome(status="failed"), Outcome(status="diverged", val_accuracy=0.99), Outcome(val_accuracy=None)]
    assert losses_of([*good, *bad]) == [0.25, 0.75, 0.75, 0.75, 0.75]
    assert losses_of(bad) is None


def test_cma_es_never_returns_a_failed_size():
    failed = set()

    def answer(job):
        if made_up(job).val_accuracy > 0.5:
            failed.add(job.size)
            return Outcome(status="failed", error="made up")
        return made_up(job)

    _, size = drive(CmaEs().plan(PROBLEM, 0), answer)
    assert failed
    assert PROBLEM.backbone.canonical(size) not in failed


def test_cma_es_decodes_to_the_argmax_where_it_meets_the_budget():
    wide = dataclasses.replace(BAND, low=0.3 * BAND.low)
    rng, counts, met = np.random.default_rng(0), BAND.space.counts, 0
    for _ in range(20):
        point = rng.normal(size=counts.sum())
        rows = np.split(point, np.cumsum(counts)[:-1])
        argmax = BAND.space.size([int(row.argmax()) for row in rows])
        assert BAND.low <= PROBLEM.macs(decode_logits(point, BAND)) <= BAND.high
        if wide.low <= PROBLEM.macs(argmax) <= wide.high:
            met += 1
            assert decode_logits(point, wide) == argmax
    assert met > 3


# ---------------------------------------------------------------- TAS as a method


def test_tas_is_one_search_with_its_own_epochs():
    [[job]], size = drive(Tas(search_epochs=9).plan(PAPER, 4), made_up)
    assert job.kind == "search"
    assert job.problem == dataclasses.replace(PAPER, recipe=dataclasses.replace(PAPER.recipe, epochs=9))
    assert size == made_up(job).size


def test_tas_refuses_more_samples_than_candidates_before_any_job():
    for samples, search in ((9, "WD"), (99, "W")):
        with pytest.raises(InputError, match=rf"\|I\|\) is {samples}; resnet32 has 8 candidates"):
            next(Tas(samples=samples, search=search).plan(PAPER, 0))
    assert next(Tas(samples=8).plan(PAPER, 0))
    assert next(Tas(samples=99, search="D").plan(dataclasses.replace(PROBLEM, keep=0.9, t=0.2), 0)), (
        "it is of widths"
    )


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_tas_refuses_senseless_settings(value):
    for name in ("lambda_cost", "tau_start", "tau_end", "arch_lr"):
        with pytest.raises(InputError, match=name):
            Tas(**{name: value})
