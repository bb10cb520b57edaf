"""The shared supernet, trained for real on digits: draws, resume, scores of sizes, and how methods use it."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from helpers import drive, problem

from baselines.cma_es import CmaEs
from baselines.evolution import Evolution
from baselines.greedy_slimming import GreedySlimming
from baselines.optuna_tpe import OptunaTpe
from baselines.random_search import RandomSearch
from baselines.reinforce import Reinforce
from tas_bench.budget import Band
from tas_bench.data import Batches, dataset_info, halves, load_test, load_train
from tas_bench.errors import DivergedError, InputError, PlanFailedError
from tas_bench.jobs import Context, DataSpec, Outcome, Recipe, job_id, weights_path
from tas_bench.oneshot import OneShot, Score, _calibrating, _loaded
from tas_bench.plans import NamedPlan, Plans
from tas_bench.reading import load
from tas_bench.store import Store
from tas_bench.subnetwork import score
from tas_bench.supernet import Sample, Supernet
from tas_bench.tables import read_weights
from tas_bench.testing import check_method, made_up
from tas_bench.train import candidate_job
from tas_bench.worker import Labels, execute

PROBLEM = problem(epochs=2)
BAND = Band.of(PROBLEM)
SHARED = [
    *(partial(m, fitness="shared") for m in (RandomSearch, CmaEs, Evolution, OptunaTpe, Reinforce)),
    GreedySlimming,
]
JOB = OneShot(data=DataSpec(name="digits"), backbone_name="tiny", recipe=Recipe(epochs=15, batch=32), seed=0)
LABELS = Labels("sweep", "random_search", None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The context of a directory with a trained supernet."""
    context = Context(results=tmp_path_factory.mktemp("supernet"))
    with Store(context.results).lock():
        execute(JOB, LABELS, context)
    return context


# ---------------------------------------------------------------- the supernet


def test_every_size_is_drawn_alike_and_every_epoch_anew():
    draws = np.concatenate([JOB.draws(epoch, 1000) for epoch in range(4)])
    for row, count in zip(draws.T, PROBLEM.space.counts, strict=True):
        seen = np.bincount(row, minlength=count)
        assert np.abs(seen - 4000 / count).max() < 5 * np.sqrt(4000 / count)
    assert not np.array_equal(draws[:1000], draws[1000:2000])
    assert np.array_equal(JOB.draws(1, 1000), draws[1000:2000])
    assert not np.array_equal(dataclasses.replace(JOB, seed=1).draws(1, 1000), draws[1000:2000])


def test_its_row_says_what_it_cost(trained):
    row = load(trained.results).set_index("kind").loc["supernet"]
    assert (row["status"], row["split"], row["epochs"], row["images"]) == ("ok", "search", 15, 15 * 719)
    assert row["budget"] is None or np.isnan(row["budget"])
    assert row["train_macs"] == pytest.approx(JOB.expected_macs(1438), rel=0.1)
    assert row["train_accuracy"] > 0.5
    weights = read_weights(weights_path(trained.results, job_id(JOB)))
    assert weights.keys() == Supernet(PROBLEM.backbone, PROBLEM.space, 10, PROBLEM.image).state_dict().keys()


def test_a_row_without_its_weights_is_no_answer(tmp_path):
    with Store(tmp_path).lock():
        short = dataclasses.replace(JOB, recipe=Recipe(epochs=1, batch=128))
        row = execute(short, LABELS, Context(results=tmp_path))
        assert Store(tmp_path).outcome(row["job_id"]) is not None
        weights_path(tmp_path, row["job_id"]).unlink()
        assert Store(tmp_path).outcome(row["job_id"]) is None


class StoppedError(Exception):
    """A stand-in for whatever ends a process."""


def test_stopped_it_goes_on_to_bitwise_the_same_end(tmp_path):
    job = dataclasses.replace(JOB, recipe=Recipe(epochs=4, batch=128))

    def stop(done, _):
        if done == 3:
            raise StoppedError

    whole = job.run(Context(results=tmp_path / "whole"))
    (tmp_path / "cut").mkdir()
    context = Context(results=tmp_path / "cut", checkpoint_seconds=0, tick=stop)
    with pytest.raises(StoppedError):
        job.run(context)
    ticks = []
    again = job.run(dataclasses.replace(context, tick=lambda done, _: ticks.append(done)))
    assert ticks == [3, 4]
    assert list(again.curve) == list(whole.curve)
    assert (again.train_macs, again.images) == (whole.train_macs, whole.images)
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in whole.weights.items())


def test_one_that_blows_up_says_so(tmp_path):
    with pytest.raises(DivergedError, match="became"):
        dataclasses.replace(JOB, recipe=Recipe(epochs=2, batch=64, lr=1e30)).run(Context(results=tmp_path))


# ---------------------------------------------------------------- scores


def test_a_score_is_that_of_the_trained_supernet_on_the_validation_half(trained):
    size = BAND.sample(np.random.default_rng(0), 1)[0]
    outcome = Score(supernet=JOB, size=size).run(trained)
    supernet = Supernet(PROBLEM.backbone, PROBLEM.space, 10, PROBLEM.image)
    supernet.load_state_dict(read_weights(weights_path(trained.results, job_id(JOB))))
    train, val = halves(load_train(JOB.data, None), JOB.data)
    info = dataset_info("digits")
    passes = [Batches(half, info, 1000, augment=False) for half in (train, val)]
    assert outcome.val_accuracy == score(supernet, size, *passes, outcome.precision)
    assert outcome.val_accuracy > 0.5
    assert outcome.images == len(train) + len(val)
    supernet(torch.zeros(2, 1, 8, 8), Sample.of(PROBLEM.space.indices(size), len(PROBLEM.space.widths)))
    told = Score(supernet=JOB, size=size).expected_macs(1438)
    assert outcome.train_macs == outcome.images * supernet.macs == told
    assert outcome.test_accuracy is None


def test_statistics_are_of_whole_batches():
    """All batches count alike, so a last one of a few images would decide as much as any."""
    counts = (1, 3, 719, 1000, 1005, 1999, 2003, 5000)
    assert [_calibrating(JOB, count) for count in counts] == [1, 3, 719, 1000, 1000, 1000, 2000, 2000]


def test_a_supernet_at_hand_is_forgotten_by_other_jobs(trained):
    score_it, train_it = (
        Score(supernet=JOB, size=PROBLEM.backbone.full),
        candidate_job(PROBLEM, PROBLEM.backbone.full, 0),
    )
    with Store(trained.results).lock():
        for job, at_hand in ((score_it, 1), (train_it, 0)):
            execute(job, LABELS, trained)
            assert _loaded.cache_info().currsize == at_hand


def test_scores_tell_sizes_apart(trained):
    full, least = PROBLEM.backbone.full, PROBLEM.space.size(np.zeros(len(PROBLEM.space.rows), int))
    known, unknown = (Score(supernet=JOB, size=s).run(trained).val_accuracy for s in (full, least))
    assert known > unknown


def test_neither_reaches_the_test_images(trained, monkeypatch):
    def refuse(*_):
        raise AssertionError("it asked for the test images")

    monkeypatch.setattr("tas_bench.data.load_test", refuse)
    monkeypatch.setattr("tas_bench.train.load_test", refuse)
    assert load_test is not refuse
    dataclasses.replace(JOB, recipe=Recipe(epochs=1, batch=128)).run(trained)
    Score(supernet=JOB, size=PROBLEM.backbone.full).run(trained)


# ---------------------------------------------------------------- methods


@pytest.mark.parametrize("method", SHARED, ids=lambda m: getattr(m, "func", m).name)
def test_contract_with_shared_weights(method):
    check_method(method)


@pytest.mark.parametrize("method", SHARED, ids=lambda m: getattr(m, "func", m).name)
def test_sizes_are_scored_in_one_supernet(method):
    batches, _ = drive(method().plan(PROBLEM, 3), made_up)
    supernets = {job for batch in batches for job in batch if job.kind == "supernet"}
    scores = [job for batch in batches for job in batch if job.kind != "supernet"]
    assert {job.kind for job in scores} == {"score"}
    assert {job.supernet for job in scores} == supernets
    [supernet] = supernets
    assert supernet.seed == 3
    assert batches[0] == [supernet]
    expected = getattr(method(), "jobs", len(scores) + 1)
    assert len(scores) + 1 == expected


def test_methods_and_budgets_share_it_and_seeds_where_they_ask_for_it():
    def supernets(**settings):
        plans = [
            NamedPlan(f"{method.name}-{seed}-{keep}", method.name, seed, p, method.plan(p, seed))
            for method in (RandomSearch(fitness="shared", **settings), Evolution(fitness="shared", **settings))
            for seed in (0, 1)
            for keep in (0.5, 0.6)
            for p in (dataclasses.replace(PROBLEM, keep=keep),)
        ]
        queue = Plans(plans, lambda *_: None)
        found = []
        while use := queue.next_job(["supernet"]):
            found.append(use.job)
        return found

    assert [job.seed for job in supernets()] == [0, 1]
    assert [job.seed for job in supernets(supernet_seed=7)] == [7]
    [short] = supernets(supernet_seed=7, supernet_epochs=1)
    assert short.recipe.epochs == 1


def test_a_supernet_that_failed_ends_the_plan_in_one_line():
    plan = RandomSearch(fitness="shared").plan(PROBLEM, 0)
    next(plan)
    with pytest.raises(PlanFailedError, match=r"^the supernet ended as oom: no room$"):
        plan.send([Outcome(status="oom", error="no room")])


@pytest.mark.parametrize(
    "settings", [{"fitness": "guess"}, {"supernet_epochs": 0}, {"supernet_seed": -1}], ids=str
)
def test_refuses_senseless_settings(settings):
    [(key, value)] = settings.items()
    with pytest.raises(InputError, match=rf"^cma_es\.{key} is '?{value}'?; "):
        CmaEs(**settings)
