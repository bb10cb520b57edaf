"""A sweep: its short version, its plans, and the wall before the test set."""

import json
from dataclasses import dataclass, fields, replace
from functools import cache

import pytest
from helpers import drive, line
from small_sweep import PROBLEM, SWEEP, SWEEPS, other_value

from baselines.ratio import Ratio
from tas_bench.budget import Band
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.jobs import Outcome, Recipe, job_id
from tas_bench.network import Network
from tas_bench.plans import Plans
from tas_bench.settings import setting_names, smoke, with_settings
from tas_bench.sweep import cell_plan, without_test
from tas_bench.tas import Tas
from tas_bench.train import candidate_job, final_job, teacher_job
from tas_bench.transfer.scratch import Scratch
from tas_bench.tune import Tuning
from tas_bench.variant import parts_of

# ---------------------------------------------------------------- sweeps, and their short versions


@pytest.fixture(scope="module")
def one_check_per_band():
    """Sweeps share bands, and in a large space a check takes half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Band, "check", cache(Band.check))
        yield


@pytest.mark.parametrize("sweep", [*SWEEPS.values(), *(smoke(s) for s in SWEEPS.values())], ids=lambda s: s.name)
def test_every_sweep_is_valid(sweep, one_check_per_band):
    assert sweep.name
    assert sweep.title
    sweep.check_budget()
    assert all(next(plan.steps) for plan in sweep.plans() if plan.seed == sweep.seeds[0])
    manifest = sweep.manifest()
    assert json.loads(json.dumps(manifest, allow_nan=False)) == manifest


def schedule(method):
    """How long it searches."""
    settings = parts_of(method)[-1]  # the innermost
    return getattr(settings, "search_epochs", getattr(settings, "trials", 0))


@pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS)
def test_a_short_version_keeps_the_comparison(sweep):
    short = smoke(sweep)
    assert short.name != sweep.name, "rows never mix"
    assert [m.name for m in short.methods] == [m.name for m in sweep.methods]
    assert short.transfers == sweep.transfers
    assert (short.datasets, short.t) == (sweep.datasets, sweep.t)
    assert {p.keep for p in short.problems} <= {p.keep for p in sweep.problems}
    for whole, brief in zip(sweep.methods, short.methods, strict=True):
        assert schedule(brief) <= schedule(whole)
    assert short.recipe.epochs < sweep.recipe.epochs or not sweep.transfers


def test_a_short_version_is_made_from_the_sweeps_own_words():
    short = smoke(SWEEP)
    assert (short.name, short.seeds, short.recipe.epochs) == ("mine-smoke", (0,), 1)
    assert short.methods[1].trials == 2
    assert "no evidence" in short.title
    with pytest.raises(InputError, match="unknown setting"):
        smoke(replace(SWEEP, shortened={"epoch": "1"}))


def test_a_budget_out_of_reach_says_what_is_within():
    text = line(replace(SWEEP, keep=0.001).check_budget)
    assert "this space reaches" in text
    assert "change keep" in text
    text = line(replace(SWEEP, keep=0.001, cost="params").check_budget)
    assert text == "no size has 0.010 k to 0.011 k params; this space reaches 0.392 k to 10.946 k: change keep"


def test_a_budget_in_parameters():
    [problem] = replace(SWEEP, cost="params").problems
    unpruned = sum(p.numel() for p in Network(problem.backbone, FULL, 10, problem.image).parameters())
    assert problem.cost_of(FULL) == unpruned
    assert problem.budget == 0.6 * unpruned
    assert problem.band == pytest.approx((0.57 * unpruned, 0.63 * unpruned))
    assert "40% of params pruned" in replace(SWEEP, cost="params").heading
    assert "40% of macs pruned" in SWEEP.heading
    released = with_settings(replace(SWEEP, cost="params"), {"tas": "released"})
    with pytest.raises(InputError, match=r"rule is released, which counts macs; the budget is in params"):
        next(released.methods[3].plan(problem, 0))


def test_the_manifest_names_what_may_not_change():
    manifest = SWEEP.manifest()
    assert manifest["seeds"] == [0, 1]
    assert manifest["methods"][3] == {"name": "tas", "label": "TAS"}
    fixed = {
        "cost",
        "keep of digits tiny",
        "t",
        "train_subset",
        "recipe.batch",
        "tas.lambda_cost",
        "kd.temperature",
    }
    assert fixed <= set(manifest["fixed"])
    assert not {"seeds", "methods", "transfers"} & set(manifest["fixed"])


def test_settings_of_a_method_and_of_one_inside_another_are_told_apart():
    def fixed(*methods):
        return replace(SWEEP, methods=methods).manifest()["fixed"]

    plain, tuned = Tas(lambda_cost=1.0), Tuning(tas=Tas(lambda_cost=4.0))
    both = fixed(plain, tuned)
    assert (both["tas.lambda_cost"], both["tune.tas.lambda_cost"]) == (1.0, 4.0)
    assert fixed(plain).items() <= both.items(), "so that either may run alone afterwards"
    assert fixed(tuned).items() <= both.items()


@pytest.mark.parametrize(
    "key", [key for key in setting_names(SWEEP) if key not in ("methods", "transfers", "seeds")]
)
def test_a_setting_of_what_is_compared_may_not_change(key):
    assert with_settings(SWEEP, {key: other_value(key)}).manifest()["fixed"] != SWEEP.manifest()["fixed"]


# ---------------------------------------------------------------- plans


def kinds(batches):
    return [[job.kind for job in batch] for batch in batches]


def test_every_seed_has_a_teacher_and_a_plan_per_method():
    named = [(p.name, p.method, p.seed) for p in SWEEP.plans()]
    assert named[:2] == [("teacher-s0", "teacher", 0), ("teacher-s1", "teacher", 1)]
    assert named[2:6] == [(f"{m}-s0", m, 0) for m in ("ratio", "random_search", "cma_es", "tas")]
    assert len(named) == 2 + 2 * 4
    alone = replace(SWEEP, transfers=(Scratch(),))
    assert [p.method for p in alone.plans()].count("teacher") == 0


def test_all_cells_of_a_method_train_the_same_size():
    batches, _ = drive(cell_plan(PROBLEM, Ratio(), SWEEP.transfers, 1), lambda job: Outcome())
    assert kinds(batches) == [["teacher"], ["final", "final", "final"]]
    teacher, *finals = [job for batch in batches for job in batch]
    assert [job.transfer.name for job in finals] == ["scratch", "init", "kd"]
    assert len({job.size for job in finals}) == 1
    assert [job.teacher for job in finals] == [None, teacher, teacher]
    batches, _ = drive(cell_plan(PROBLEM, Ratio(), (Scratch(),), 1), lambda job: Outcome())
    assert kinds(batches) == [["final"]]


def test_a_teacher_may_train_for_longer():
    longer = replace(SWEEP, teacher_epochs=7)
    batches, _ = drive(cell_plan(longer.problems[0], Ratio(), SWEEP.transfers, 1), lambda job: Outcome())
    teacher, *finals = [job for batch in batches for job in batch]
    assert teacher.recipe == replace(SWEEP.recipe, epochs=7)
    assert [job.recipe for job in finals] == [SWEEP.recipe] * 3
    assert [job.teacher for job in finals] == [None, teacher, teacher]
    [search], [same] = (next(Tas().plan(sweep.problems[0], 1)) for sweep in (longer, SWEEP))
    assert search == same


def test_without_a_teacher_its_pupils_are_not_trained():
    plan = cell_plan(PROBLEM, Ratio(), SWEEP.transfers, 1)
    next(plan)
    with pytest.raises(PlanFailedError, match="the teacher of seed 1 ended as diverged: loss"):
        plan.send([Outcome(status="diverged", error="loss")])


def test_one_teacher_serves_all_methods():
    sweep = replace(SWEEP, methods=(Ratio(), Tas()), seeds=(0,))
    plans = Plans(sweep.plans(), lambda job, key: None)
    queued = [plans.next_job().job for _ in range(sum(plans.queued.values()))]
    assert sorted(job.kind for job in queued) == ["search", "teacher"]


@dataclass(frozen=True)
class Cheat:
    """Asks for a job that sees the test set."""

    name = "cheat"

    job: object

    def plan(self, problem, seed):
        yield [candidate_job(problem, problem.backbone.full, seed)]
        [outcome] = yield [self.job]
        return problem.backbone.full if outcome.test_accuracy else None


FULL = PROBLEM.backbone.full


LONGER = replace(PROBLEM, recipe=replace(PROBLEM.recipe, epochs=9))


@pytest.mark.parametrize(
    "job", [teacher_job(PROBLEM, 1), teacher_job(LONGER, 0), final_job(PROBLEM, FULL, 0, Scratch())]
)
def test_a_method_may_not_ask_for_the_test_set(job):
    plan = cell_plan(PROBLEM, Cheat(job), (Scratch(),), 0)
    next(plan)
    with pytest.raises(RuntimeError, match="sees the test set"):
        plan.send([Outcome()])


def test_it_may_ask_for_its_own_teacher_and_does_not_see_how_that_did_in_the_test():
    plan = cell_plan(PROBLEM, Cheat(teacher_job(PROBLEM, 0)), (Scratch(),), 0)
    next(plan)
    assert plan.send([Outcome()]) == [teacher_job(PROBLEM, 0)]
    with pytest.raises(AttributeError):  # of the size that it returns on seeing none
        plan.send([Outcome(test_accuracy=0.9)])


def test_a_method_never_sees_test_accuracy():
    seen = []

    def method():
        seen.extend((yield [candidate_job(PROBLEM, PROBLEM.backbone.full, 0)]))
        return PROBLEM.backbone.full

    tests = {f.name: 0.9 for f in fields(Outcome) if "test" in f.name}
    _, size = drive(without_test(method()), lambda job: Outcome(val_accuracy=0.5, epochs=3, **tests))
    assert len(tests) == 3
    assert seen == [Outcome(val_accuracy=0.5, epochs=3)]
    assert size == PROBLEM.backbone.full


def test_what_decides_a_job_is_in_its_key():
    """Every setting of the problem and of the search changes the key of the search; labels do not."""

    def key(sweep):
        [job] = next(sweep.methods[3].plan(sweep.problems[0], 0))
        return job_id(job)

    told = {"cost", "keep", "t"}
    told |= {f"tas.{f.name}" for f in fields(Tas)} | {f"recipe.{f.name}" for f in fields(Recipe)}
    for name in told - {"recipe.epochs", "recipe.holdout"}:  # the search has epochs of its own, and the halves
        assert key(with_settings(SWEEP, {name: other_value(name)})) != key(SWEEP), name
    assert key(replace(SWEEP, name="other", title="other", seeds=(5,))) == key(SWEEP)
