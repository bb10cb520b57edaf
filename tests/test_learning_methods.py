"""Methods that learn from what was trained, as evolution: steps, replay, failures, gain on random search."""

import dataclasses
import json
import logging
import math
import os
import subprocess
import sys
from collections import deque
from functools import partial

import numpy as np
import optuna
import pytest
from helpers import drive, hidden_best, keys
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from baselines.cma_es import CmaEs
from baselines.evolution import Evolution, mutate
from baselines.optuna_nsga2 import OptunaNsga2
from baselines.optuna_study import quiet_study
from baselines.optuna_tpe import Model, OptunaTpe
from baselines.random_search import RandomSearch
from tas_bench.budget import Band
from tas_bench.errors import InputError
from tas_bench.jobs import Outcome
from tas_bench.testing import PROBLEM, made_up

RESNET20 = dataclasses.replace(PROBLEM, backbone_name="resnet20")
BAND = Band.of(RESNET20)
accuracy_near = partial(hidden_best, BAND)
METHODS = [Evolution(), OptunaTpe(), OptunaNsga2()]
EACH = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
FAILED = [
    Outcome(status="failed", error="made up"),
    Outcome(status="diverged", val_accuracy=0.99),
    Outcome(val_accuracy=math.nan),
    Outcome(val_accuracy=None),
]


# ---------------------------------------------------------------- each


@EACH
def test_starts_with_random_searchs_draws_and_goes_on_in_band(method):
    batches, size = drive(method.plan(RESNET20, 3), made_up)
    assert [len(batch) for batch in batches] == ([8, 8, 8] if method == OptunaNsga2() else [8, 4, 4, 4, 4])
    jobs = [job for batch in batches for job in batch]
    assert len(jobs) == method.jobs == RandomSearch().jobs
    assert all(job.size in RESNET20.space and job.seed == 3 for job in jobs)
    assert all(BAND.low <= RESNET20.macs(job.size) <= BAND.high for job in jobs)
    (draws,), _ = drive(RandomSearch().plan(RESNET20, 3), made_up)
    assert keys(batches)[0] == keys([draws])[0][:8]
    best = max(jobs, key=lambda job: made_up(job).val_accuracy)
    assert RESNET20.backbone.canonical(size) == best.size


@pytest.mark.parametrize(
    ("method", "batch_sizes"),
    [
        (Evolution(cycles=11, parallel=2), [8, 2, 1]),
        (OptunaTpe(n_trials=11, parallel=2), [8, 2, 1]),
        (OptunaNsga2(n_trials=11, population_size=4), [4, 4, 3]),
    ],
)
def test_asks_for_no_more_than_told(method, batch_sizes):
    batches, _ = drive(dataclasses.replace(method, proxy_epochs=7).plan(RESNET20, 0), made_up)
    assert [len(batch) for batch in batches] == batch_sizes
    assert {job.recipe.epochs for batch in batches for job in batch} == {7}


@EACH
def test_killed_after_any_batch_it_takes_the_same_path_again(method):
    def answer(job):
        return FAILED[0] if made_up(job).val_accuracy < 0.3 else made_up(job)

    whole, size = drive(method.plan(RESNET20, 1), answer)
    for cut in range(len(whole)):
        plan = method.plan(RESNET20, 1)
        batch = next(plan)
        for _ in range(cut):
            batch = plan.send([answer(job) for job in batch])
        plan.close()
        assert keys([batch])[0] == keys(whole)[cut]
    again, size_again = drive(method.plan(RESNET20, 1), answer)
    assert keys(again) == keys(whole)
    assert size_again == size


def paths():
    return [keys(drive(method.plan(PROBLEM, 0), made_up)[0]) for method in METHODS]


def test_another_process_takes_the_same_path():
    """The order of sets of strings differs there."""
    code = "import json, test_learning_methods as t; print(json.dumps(t.paths()))"
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == paths()


@EACH
@pytest.mark.parametrize("failed", FAILED, ids=lambda o: f"{o.status}-{o.val_accuracy}")
def test_goes_on_over_failures_and_never_returns_one(method, failed):
    def answer(job):
        return failed if made_up(job).val_accuracy > 0.4 else made_up(job)

    batches, size = drive(method.plan(PROBLEM, 0), answer)
    sizes = [job.size for batch in batches for job in batch if made_up(job).val_accuracy <= 0.4]
    assert method.jobs > len(sizes) > 0
    assert PROBLEM.backbone.canonical(size) in sizes


@EACH
def test_a_later_batch_may_fail_whole(method):
    draws = {job.size for job in next(method.plan(PROBLEM, 0))}
    _, size = drive(method.plan(PROBLEM, 0), lambda job: made_up(job) if job.size in draws else FAILED[0])
    assert PROBLEM.backbone.canonical(size) in draws


@pytest.mark.parametrize(
    "method",
    [
        Evolution(cycles=96),
        pytest.param(OptunaTpe(n_trials=48), marks=pytest.mark.slow),
        pytest.param(OptunaNsga2(n_trials=96), marks=pytest.mark.slow),
        pytest.param(CmaEs(generations=16, coding="index"), marks=pytest.mark.slow),
        CmaEs(generations=12, population=10),
    ],
    ids=["evolution", "optuna_tpe", "optuna_nsga2", "cma_es by index", "cma_es by logits"],
)
def test_beats_random_search_at_as_many_trainings(method):
    margins = []
    for seed in range(4 if method.name == "cma_es" else 10):  # it takes longest, and leads by most
        accuracy = accuracy_near(seed)
        found = [
            drive(m.plan(RESNET20, seed), lambda job, f=accuracy: Outcome(val_accuracy=f(job.size)))[1]
            for m in (method, RandomSearch(trials=method.jobs))
        ]
        margins.append(accuracy(found[0]) - accuracy(found[1]))
    assert np.mean(margins) > 0.015
    assert np.mean(margins) > 2 * np.std(margins, ddof=1) / np.sqrt(len(margins))


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        (Evolution, {"cycles": 7}, "evolution.cycles is 7; it must be at least population_size, 8"),
        (Evolution, {"population_size": 0}, "evolution.population_size is 0"),
        (Evolution, {"sample_size": 0}, "evolution.sample_size is 0"),
        (Evolution, {"parallel": 0}, "evolution.parallel is 0"),
        (Evolution, {"proxy_epochs": 0}, "evolution.proxy_epochs is 0"),
        (OptunaTpe, {"n_trials": 7}, "optuna_tpe.n_trials is 7; it must be at least n_startup_trials, 8"),
        (OptunaTpe, {"n_startup_trials": 0}, "optuna_tpe.n_startup_trials is 0"),
        (OptunaTpe, {"parallel": -1}, "optuna_tpe.parallel is -1"),
        (OptunaTpe, {"proxy_epochs": 0}, "optuna_tpe.proxy_epochs is 0"),
        (OptunaNsga2, {"n_trials": 7}, "optuna_nsga2.n_trials is 7; it must be at least population_size, 8"),
        (OptunaNsga2, {"population_size": 1}, "optuna_nsga2.population_size is 1; it must be at least 2"),
        (OptunaNsga2, {"proxy_epochs": 0}, "optuna_nsga2.proxy_epochs is 0"),
    ],
)
def test_refuses_senseless_settings(method, settings, said):
    with pytest.raises(InputError, match=said):
        method(**settings)


# ---------------------------------------------------------------- evolution


def algorithm_1(problem, seed, C, P, S):
    """The paper's pseudocode, one model at a time."""
    band, rng = Band.of(problem), np.random.default_rng([seed, 0])
    starts = deque(band.space.indices(size) for size in band.sample(rng, P))
    population, history = deque(), []
    while len(history) < C:
        if starts:
            arch = starts.popleft()
        else:
            sample = [population[i] for i in rng.integers(P, size=S)]
            arch = mutate(max(sample, key=lambda model: model[1])[0], problem, band, rng)
        size = problem.backbone.canonical(band.space.size(arch))
        population.append((arch, float(accuracy_near(5)(size))))
        history.append(size)
        if len(population) > P:
            population.popleft()
    return history


def test_one_child_at_a_time_is_algorithm_1():
    method = Evolution(cycles=30, population_size=6, sample_size=3, parallel=1)
    batches, _ = drive(method.plan(RESNET20, 2), lambda job: Outcome(val_accuracy=accuracy_near(5)(job.size)))
    assert [job.size for batch in batches for job in batch] == algorithm_1(RESNET20, 2, C=30, P=6, S=3)


@given(seed=st.integers(0, 2**32))
def test_a_child_is_another_network_in_band(seed):
    rng = np.random.default_rng(seed)
    [parent] = BAND.sample(rng, 1)
    child = BAND.space.size(mutate(BAND.space.indices(parent), RESNET20, BAND, rng))
    assert BAND.low <= RESNET20.macs(child) <= BAND.high
    canonical = RESNET20.backbone.canonical
    assert canonical(child) != canonical(parent)


def test_a_failed_parent_is_the_last_choice():
    method = Evolution(sample_size=64)
    population = [(np.array([i]), outcome) for i, outcome in enumerate([*FAILED, Outcome(val_accuracy=0.0)])]
    assert method._parent(population, np.random.default_rng(0)) == [4]
    assert method._parent(population[:4], np.random.default_rng(0)) in range(4)


# ---------------------------------------------------------------- TPE


def model(n_startup_trials=4):
    study = quiet_study(OptunaTpe(n_startup_trials=n_startup_trials).sampler(0), "maximize")
    return Model(BAND, study, np.random.default_rng(0))


def test_tpe_learns_from_what_was_trained():
    tpe = model()
    asked = [tpe.ask() for _ in range(12)]
    for i, trial in enumerate(asked):
        tpe.tell(trial, FAILED[i] if i < 4 else Outcome(val_accuracy=i / 100))
    trials = tpe.study.get_trials()
    known = [t for t in trials if t.state == TrialState.COMPLETE]
    assert [t.value for t in known] == [i / 100 for i in range(4, 12)]
    assert [tpe.size(t) for t in known] == [tpe.size(t) for t in asked[4:]]
    assert all(BAND.low <= RESNET20.macs(tpe.size(t)) <= BAND.high for t in known)
    rest = [t for t in trials if t.state != TrialState.COMPLETE]
    assert {t.state for t in rest} == {TrialState.FAIL}, "and none is left running"
    assert len(rest) > 4, "proposals that missed the budget"


def test_tpe_takes_a_batch_for_bad_while_it_runs_as_what_it_trains():
    """A constant liar: the model knows of the batch's other sizes, and asks for others than it would without."""
    tpe = model()
    for size in BAND.sample(np.random.default_rng(0), 12):
        tpe.tell(tpe.place(BAND.space.indices(size)), Outcome(val_accuracy=accuracy_near(0)(size)))
    asked = [tpe.ask() for _ in range(4)]
    running = tpe.study.get_trials(states=[TrialState.RUNNING])
    assert [tpe.size(t) for t in running] == [tpe.size(t) for t in asked]
    assert tpe.study.sampler._constant_liar


@pytest.mark.parametrize("method", [OptunaTpe(n_trials=10), OptunaNsga2(n_trials=10)], ids=lambda m: m.name)
def test_optuna_is_quiet_and_its_logging_left_alone(method, caplog):
    level, logger = optuna.logging.get_verbosity(), logging.getLogger("optuna")
    logger.addHandler(caplog.handler)
    try:
        for mine in (logging.INFO, logging.ERROR):
            optuna.logging.set_verbosity(mine)
            drive(method.plan(PROBLEM, 0), made_up)
            assert optuna.logging.get_verbosity() == mine
    finally:
        optuna.logging.set_verbosity(level)
        logger.removeHandler(caplog.handler)
    assert caplog.records == []
