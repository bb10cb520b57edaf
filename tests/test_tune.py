"""Tuning: what it asks for, that replay goes the same way, its Optuna study, and what it refuses."""

import itertools
import json
from dataclasses import replace

import pytest
from helpers import drive, line
from helpers import problem as some_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps import lambda_tolerance
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.estimate import made_up
from tas_bench.jobs import Outcome, job_id
from tas_bench.plans import NamedPlan, Plans
from tas_bench.settings import setting_names, smoke, with_settings
from tas_bench.space import Size
from tas_bench.sweep import Sweep, without_test
from tas_bench.tas import Tas
from tas_bench.train import Train
from tas_bench.tune import Tuning
from tas_bench.tune.advice import advise, ranked
from tas_bench.tune.space import Axis, axes_of
from tas_bench.tune.study import importances, keep_study, open_study, pareto
from tas_bench.tune.tuning import Tuner
from tas_bench.variant import settings_of

PROBLEM = some_problem(epochs=2)
TAS = Tas(search_epochs=10)
RANGES = ("lambda_cost=0.1:10:log", "t=0.02:0.2")
OF_SAMPLERS = {
    "grid": {"over": ("lambda_cost=0.5/1/2", "t=0.05/0.1")},
    "random": {"over": RANGES, "trials": 9},
    "tpe": {"over": RANGES, "trials": 9, "startup": 3, "objectives": ("gap",)},
    "motpe": {"over": (*RANGES, "samples=2/3"), "trials": 9, "startup": 3, "parallel": 3},
    "nsga2": {"over": RANGES, "trials": 9, "startup": 3, "objectives": ("accuracy", "gap")},
}
EVERY = [Tuning(tas=TAS, sampler=name, **changed) for name, changed in OF_SAMPLERS.items()]
GRID = EVERY[0]
every_sampler = pytest.mark.parametrize("tuning", EVERY, ids=OF_SAMPLERS)


def answer(job):
    """A search hits where lambda_cost is at least 1; the farther from 2 it is, the worse is all else."""
    if isinstance(job, Train):
        return Outcome(size=job.size, val_accuracy=0.5 + int(job_id(job)[:4], 16) / 16**4 / 10)
    search = getattr(job, "search", job)
    lambda_cost, budget = search.settings.lambda_cost, search.problem.budget
    full = search.problem.backbone.full
    size = Size((*full.widths[:-1], full.widths[-1] - job.seed - 4 * int(lambda_cost)), full.depths)
    return Outcome(
        size=size, derived="argmax" if lambda_cost >= 1 else "in-band", epochs=search.settings.search_epochs,
        argmax_macs=round(budget * (1 + abs(lambda_cost - 2) / 100)), train_macs=10**9 + int(job_id(job)[:4], 16),
    )  # fmt: skip


def plans_of(tuner, known=None):
    """The tuner's plan, going on from outcomes by key."""
    found = known or {}
    steps = without_test(tuner.plan())
    return Plans([NamedPlan("tune-s0", "tune", 0, PROBLEM, steps)], lambda _job, key: found.get(key))


def driven(tuning, seed=0, known=None, stop_after=None, pick=lambda n: 0, answer=answer):
    """A tuner run to its end, or until so many jobs have ended; the outcomes by key, as they ended; its plan."""
    tuner = Tuner(tuning, PROBLEM, seed)
    plans = plans_of(tuner, known)
    ended, waiting = dict(known or {}), []
    while not plans.done and (stop_after is None or len(ended) < stop_after):
        while (use := plans.next_job()) is not None:
            waiting.append(use)
        use = waiting.pop(pick(len(waiting)))
        ended[use.key] = answer(use.job)
        plans.finish(use.key, ended[use.key])
    return tuner, ended, plans.plans[0]


def told(tuner):
    """Every trial with its settings, jobs and values."""
    return [(t.number, t.params, [run.key for run in t.runs], t.values) for t in (*tuner.trials, *tuner.confirmed)]


# ---------------------------------------------------------------- the plan


@every_sampler
def test_the_seed_alone_decides_the_plan(tuning):
    first, again = driven(tuning)[0], driven(tuning)[0]
    assert told(first) == told(again)
    assert len(first.trials) == tuning.count
    other = driven(tuning, seed=1)[0]
    assert not {r.key for t in first.trials for r in t.runs} & {r.key for t in other.trials for r in t.runs}
    if tuning.sampler != "grid":
        assert [t.params for t in first.trials] != [t.params for t in other.trials]


@every_sampler
@settings(max_examples=3)
@given(data=st.data())
def test_a_killed_tuning_goes_on_with_the_same_trials(tuning, data):
    whole, outcomes, _ = driven(tuning)
    cut = data.draw(st.integers(1, len(outcomes) - 1), label="jobs that had ended")
    known = driven(tuning, stop_after=cut, pick=lambda n: data.draw(st.integers(0, n - 1)))[1]
    assert len(known) == cut
    again, rest, _ = driven(tuning, known=known, pick=lambda n: n - 1)
    assert told(again) == told(whole)
    assert rest == outcomes


@pytest.mark.parametrize("tuning", EVERY[1:], ids=list(OF_SAMPLERS)[1:])
def test_more_trials_go_on_from_those_there_are(tuning):
    more = driven(replace(tuning, trials=14))[0]
    assert [t.params for t in more.trials[:9]] == [t.params for t in driven(tuning)[0].trials]
    assert len(more.trials) == 14


def test_a_grid_tries_every_pair_once():
    tuner = driven(GRID)[0]
    pairs = list(itertools.product((0.5, 1, 2), (0.05, 0.1)))
    assert sorted(tuple(t.params.values()) for t in tuner.trials) == pairs
    tried = [(r.job.settings.lambda_cost, r.job.problem.t) for t in tuner.trials for r in t.runs]
    assert sorted(tried) == pairs


def test_searches_are_those_of_a_run_and_what_they_find_is_trained_on_the_halves():
    tuner = driven(replace(GRID, repeats=2, train_epochs=3))[0]
    run = tuner.trials[0].runs[1]
    problem = replace(PROBLEM, t=0.05)
    [search] = next(replace(TAS, lambda_cost=0.5).plan(problem, 1))
    assert run.key == job_id(search)
    assert [r.job.seed for t in tuner.trials for r in t.runs] == [0, 1] * 6
    assert run.trained.size.widths
    assert tuner.trials[0].accuracy == pytest.approx(sum(r.trained.val_accuracy for r in tuner.trials[0].runs) / 2)


def test_fresh_seeds_confirm_what_is_recommended_and_the_next_where_they_do_not():
    tuner = driven(GRID)[0]
    assert [[r.job.seed for r in t.runs] for t in tuner.confirmed] == [[1, 2, 3]]

    def fickle(job):
        found = answer(job)
        return replace(found, derived="in-band") if found.derived and job.seed else found

    tuner = driven(GRID, answer=fickle)[0]
    assert [t.hits for t in tuner.confirmed] == [0, 0, 0]
    assert len({tuple(t.params.items()) for t in tuner.confirmed}) == 3
    assert driven(replace(GRID, confirm=0))[0].confirmed == []


def test_without_accuracy_nothing_is_trained():
    _, outcomes, _ = driven(replace(GRID, objectives=("gap",)))
    assert {o.val_accuracy for o in outcomes.values()} == {None}


def test_failed_and_given_up_searches_are_told_as_such():
    """Where lambda_cost is 0.5 the search fails, where it is 1 it is given up."""

    def bad(job):
        search = getattr(job, "search", job)
        lambda_cost = search.settings.lambda_cost if not isinstance(job, Train) else None
        found = answer(job)
        return {0.5: Outcome(status="oom"), 1.0: replace(found, epochs=3)}.get(lambda_cost, found)

    tuner, _, plan = driven(replace(GRID, stop_after=0.5), answer=bad)
    states = {t.params["lambda_cost"]: (t.state, t.hits, t.accuracy is None) for t in tuner.trials}
    assert states == {0.5: ("FAIL", 0, True), 1.0: ("PRUNED", 0, True), 2.0: ("COMPLETE", 1, False)}
    assert plan.error is None
    assert {t.params["lambda_cost"] for t in tuner.confirmed} == {2.0}

    *_, plan = driven(GRID, answer=lambda _job: Outcome(status="failed"))
    assert plan.error == "no search of the tuning ended well"


def test_one_lucky_seed_does_not_speak_for_those_that_were_given_up():
    def bad(job):
        search = getattr(job, "search", job)
        found = answer(job)
        if isinstance(job, Train) or job.seed == 0:
            return found
        return replace(found, epochs=3, argmax_macs=round(1.5 * search.problem.budget))

    tuner, *_ = driven(replace(GRID, stop_after=0.5, repeats=3), answer=bad)
    [trial, *_] = [t for t in tuner.trials if t.params["lambda_cost"] == 2.0]
    assert (trial.state, trial.hits, len(trial.ended)) == ("COMPLETE", 1, 1)
    assert trial.gap == pytest.approx((0 + 0.5 + 0.5) / 3, abs=1e-6)


def test_tunings_of_several_seeds_share_no_search():
    tunings = [driven(replace(GRID, repeats=3), seed=seed)[1] for seed in (0, 1, 2)]
    assert len(set().union(*tunings)) == sum(map(len, tunings))


@every_sampler
def test_samplers_bear_failed_and_given_up_trials(tuning):
    def bad(job):
        kind = int(job_id(job)[:4], 16) % 3
        found = answer(job)
        return found if kind == 0 else Outcome(status="failed") if kind == 1 else replace(found, epochs=1)

    known = driven(tuning, answer=bad)
    assert len(known[0].trials) == tuning.count
    assert told(driven(tuning, known=known[1])[0]) == told(known[0])


def test_the_plan_returns_a_size_of_the_recommended_settings():
    tuner = Tuner(GRID, PROBLEM, 0)
    _, size = drive(tuner.plan(), answer)
    assert size in [r.search.size for r in tuner.confirmed[-1].runs]
    low, high = PROBLEM.band
    assert PROBLEM.cost_of(size) > high, "none is in the band here"
    _, size = drive(Tuner(GRID, PROBLEM, 0).plan(), lambda job: made_up(job) if job.seed == 2 else answer(job))
    assert low <= PROBLEM.cost_of(size) <= high

    def fickle(job):  # fresh seeds confirm the second alone
        found = answer(job)
        first = best and job.seed and found.derived and job.settings.lambda_cost == best["lambda_cost"]
        return replace(found, derived="in-band") if first else found

    best = dict(ranked(tuner.trials, GRID.axes)[0])
    other = Tuner(GRID, PROBLEM, 0)
    _, size = drive(other.plan(), fickle)
    advice = advise(other.trials, other.confirmed, GRID.axes)
    assert advice.params["lambda_cost"] != best["lambda_cost"]
    assert size in [
        r.search.size for t in (*other.confirmed, *other.trials) if t.params == advice.params for r in t.runs
    ]
    gone = Tuner(GRID, PROBLEM, 0).plan()
    next(gone)
    with pytest.raises(PlanFailedError):
        gone.send([Outcome(status="failed")] * 6)


# ---------------------------------------------------------------- the study


@every_sampler
def test_the_study_reopens_with_the_rows_values_and_replay_adds_nothing(tuning, tmp_path):
    path = tmp_path / "_tune" / "optuna.log"
    half = driven(tuning, stop_after=len(driven(tuning)[1]) // 2)[0]
    keep_study(half, "mine", path)
    tuner = driven(tuning)[0]
    for _ in range(3):
        keep_study(tuner, "mine", path)
    lines = path.read_text().count("\n")
    keep_study(driven(tuning)[0], "mine", path)
    assert path.read_text().count("\n") == lines

    study = open_study("mine", path)
    assert [(t.number, t.params, t.values) for t in study.get_trials()] == [
        (t.number, t.params, t.values) for t in tuner.trials
    ]
    assert study.user_attrs["sampler"]["name"] == tuning.sampler
    assert study.user_attrs["sampler"]["seed"] == 0
    assert study.metric_names == list(tuning.objectives)
    assert [t.number for t in sorted(study.best_trials, key=lambda t: t.number)] == pareto(tuner)
    first = study.get_trials()[0].user_attrs
    assert (first["jobs"], first["hits"]) == ([tuner.trials[0].runs[0].key], tuner.trials[0].hits)


def test_a_damaged_or_foreign_journal_is_made_again(tmp_path):
    path, tuner = tmp_path / "optuna.log", driven(GRID)[0]
    keep_study(tuner, "mine", path)
    keep_study(tuner, "other", path)
    whole = path.read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        whole[:-20],
        b"",
        b"\0" * 100,
        whole.replace(b"lambda_cost", b"lambda_tost"),
    ):
        path.write_bytes(damaged)
        keep_study(tuner, "mine", path)
        assert len(open_study("mine", path).get_trials()) == 6
    keep_study(driven(EVERY[3])[0], "mine", path)
    assert [t.params for t in open_study("mine", path).get_trials()] == [
        t.params for t in driven(EVERY[3])[0].trials
    ]


def test_a_study_that_changes_leaves_others_alone(tmp_path):
    path, tuner, half = tmp_path / "optuna.log", driven(GRID)[0], driven(GRID, stop_after=7)[0]
    for name in ("mine", "other"):
        keep_study(tuner, name, path)
    for changed in (half, driven(EVERY[3])[0]):  # fewer trials than are there; another sampler's
        keep_study(changed, "mine", path)
        assert len(open_study("mine", path).get_trials()) == len(changed.trials)
        assert len(open_study("other", path).get_trials()) == 6


def test_importances_name_every_objective_that_varies():
    found = importances(driven(replace(GRID, objectives=("gap", "cost")))[0])
    assert set(found) == {"gap", "cost"}
    assert found["gap"]["lambda_cost"] > 0.9  # see `answer`
    assert importances(driven(replace(GRID, over=("lambda_cost=1/2",)))[0]) == {}


# ---------------------------------------------------------------- settings


def test_axes_are_parsed():
    assert axes_of(["lambda_cost=2/0.5", "t=0.02:0.1", "arch_lr=1e-4:1e-2:log", "samples=2:4"]) == (
        Axis("lambda_cost", (0.5, 2.0)), Axis("t", low=0.02, high=0.1),
        Axis("arch_lr", low=1e-4, high=1e-2, log=True), Axis("samples", low=2, high=4),
    )  # fmt: skip
    assert Axis("lambda_cost", low=0.1, high=10, log=True).place(1) == pytest.approx(0.5)
    assert [Axis("t", (0.02, 0.05, 0.1)).place(v) for v in (0.02, 0.05, 0.1)] == [0, 0.25, 0.5]


BAD = {
    "over=lambda_cots=1/2": "unknown setting to tune 'lambda_cots'; did you mean 'lambda_cost'?",
    "over=lambda_cost": "what to tune is written NAME=V1/V2/...",
    "over=lambda_cost=": "lambda_cost must be a number, not ''",
    "over=lambda_cost=1/x": "lambda_cost must be a number, not 'x'",
    "over=lambda_cost=nan": "lambda_cost must be a number, not 'nan'",
    "over=lambda_cost=1/1": "lambda_cost=1/1 has a value twice",
    "over=lambda_cost=2:1": "a range the wrong way round",
    "over=lambda_cost=1:1": "a range the wrong way round",
    "over=lambda_cost=0:1:log": "a range on a log scale begins above zero",
    "over=lambda_cost=1:2:lin": "what to tune is written",
    "over=lambda_cost=-1/1": "tas.lambda_cost is -1.0; it must not be negative",
    "over=samples=2.5/3": "samples must be a whole number",
    "over=samples=0/3": "tas.samples is 0; it must be at least 1",
    "over=t=0.5/1.5": "t is 1.5; it must be in [0, 1]",
    "over=t=0.1,t=0.2": "what to tune is t, t; give at least one setting, each once",
    "sampler=tpee": "unknown sampler 'tpee'; did you mean 'tpe'?",
    "objectives=accuracy,speed": "unknown objective 'speed'",
    "objectives=gap,gap": "objectives are gap,gap; give at least one, each once",
    "trials=0": "tune.trials is 0; it must be at least 1",
    "parallel=0": "tune.parallel is 0; it must be at least 1",
    "confirm=-1": "tune.confirm is -1; it must not be negative",
    "stop_after=1": "tune.stop_after is 1.0; it must be in [0, 1)",
}
SWEEP = Sweep(
    name="mine",
    title="A title",
    datasets=("digits",),
    backbones=("tiny",),
    methods=(GRID,),
    transfers=(),
    seeds=(0,),
)


@pytest.mark.parametrize("setting", BAD)
def test_bad_settings_are_refused_in_a_line(setting):
    name, _, text = setting.partition("=")
    assert BAD[setting] in line(with_settings, SWEEP, {f"tune.{name}": text})


TOGETHER = {
    "a grid needs values of t, not a range": {"over": ("t=0.05:0.1",)},
    "tune.trials is 5; this grid has 6 points: leave it out": {"trials": 5},
    "tpe has one objective": {"sampler": "tpe"},
    "motpe is for several objectives": {"sampler": "motpe", "objectives": ("gap",)},
    "nsga2 is for several objectives": {"sampler": "nsga2", "objectives": ("gap",)},
    "tas.samples (|I|) is 9; tiny has": {"over": ("samples=2/9",)},
}


@pytest.mark.parametrize("told", TOGETHER)
def test_what_does_not_go_together_is_refused_before_the_first_job(told):
    assert told in line(Tuner, replace(GRID, **TOGETHER[told]), PROBLEM, 0)


def test_a_budget_in_other_than_macs_or_out_of_reach_is_refused():
    assert "the budget is in params" in line(Tuner, GRID, replace(PROBLEM, cost="params"), 0)
    with pytest.raises(InputError, match="no size has"):
        Tuner(replace(GRID, over=("t=0/0.1",)), PROBLEM, 0)


def test_settings_of_the_tuning_and_of_its_tas_are_reached_by_name():
    changed = with_settings(SWEEP, {"tas.samples": "3", "tune.repeats": "2", "tas": "released", "stop_off": "0.5"})
    [tuning] = changed.methods
    assert (tuning.repeats, tuning.stop_off) == (2, 0.5)
    assert (tuning.tas.samples, tuning.tas.zone, tuning.tas.search_epochs) == (3, "released", 10)
    assert {"tune.over", "tas.samples"} <= set(setting_names(SWEEP))
    assert "tune.tas" not in setting_names(SWEEP)


def test_the_manifest_holds_both_and_lets_trials_grow():
    fixed = SWEEP.manifest()["fixed"]
    assert fixed["tune.tas.search_epochs"] == 10
    assert fixed["tune.sampler"] == "grid"
    assert not {"tune.trials", "tune.confirm", "tune.tas"} & set(fixed)
    json.dumps(SWEEP.manifest())


def test_the_smoke_form_of_lambda_tolerance_is_a_small_grid_on_digits():
    short = smoke(lambda_tolerance.SWEEP)
    assert (short.name, short.datasets) == ("lambda_tolerance-smoke", ("digits",))
    tuning = settings_of(short.methods[0])
    assert tuning.count == 6
    assert tuning.tas.search_epochs <= 15
    assert short.jobs <= 20
