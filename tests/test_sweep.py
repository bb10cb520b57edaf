"""A sweep: its settings by name, its short version, its plans, and the wall before the test set."""

import json
from dataclasses import dataclass, fields, replace
from functools import cache

import pytest

from baselines.cma_es import CmaEs
from baselines.random_search import RandomSearch
from baselines.ratio import Ratio
from tas_bench.budget import Band
from tas_bench.discover import instances
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.jobs import Outcome, Recipe, job_id
from tas_bench.network import Network
from tas_bench.plans import Plans
from tas_bench.settings import for_slots, setting_names, smoke, with_settings
from tas_bench.sweep import Sweep, cell_plan, without_test
from tas_bench.tas import Tas
from tas_bench.train import candidate_job, final_job, teacher_job
from tas_bench.transfer.init import Init
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch
from tas_bench.variant import Variant, parts_of

SWEEPS = instances("sweeps", Sweep)
SWEEP = Sweep(
    name="mine",
    title="A title",
    datasets=("digits",),
    backbones=("tiny",),
    methods=(Ratio(), RandomSearch(trials=3), CmaEs(), Tas(search_epochs=5)),
    transfers=(Scratch(), Init(), KD()),
    seeds=(0, 1),
    recipe=Recipe(epochs=2, batch=64),
    shortened={"seeds": "0", "trials": "2", "recipe.epochs": "1"},
)
PROBLEM = SWEEP.problems[0]
KNOWN = {
    "methods": {m.name: m for m in (Ratio, RandomSearch, CmaEs, Tas)},
    "transfers": {t.name: t for t in (Scratch, Init, KD)},
}


def changed(**settings):
    return with_settings(SWEEP, {k.replace("__", "."): v for k, v in settings.items()}, KNOWN)


def line(call, *args, **kwargs):
    """The one line of the InputError that a call raises."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- settings by name


def test_settings_reach_every_field():
    plain = {f.name for f in fields(Sweep)} - {
        "name", "title", "methods", "transfers", "recipe", "keeps", "shortened",
    }  # fmt: skip
    parts = (*SWEEP.methods, *SWEEP.transfers)
    inside = {f"{p.name}.{f.name}" for p in parts for f in fields(p)} | {
        f"recipe.{f.name}" for f in fields(Recipe)
    }
    assert set(setting_names(SWEEP)) == plain | inside | {"methods", "transfers"}


@pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS)
def test_every_setting_can_be_set_to_what_it_is(sweep):
    for key, value in setting_names(sweep).items():
        if "|" in str(value) or not value or key == "keep":
            continue  # variants differ in it; nothing to name; sets the budget of every backbone
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert with_settings(sweep, {key: text}) == sweep, key


OTHERS = {
    "methods": "tas", "transfers": "kd", "datasets": "cifar10", "backbones": "resnet20", "seeds": "3",
    "cost": "params", "tas.search": "W", "tas.tau_shape": "cosine", "tas.rule": "released",
    "tas.selection": "mixture", "tas.alignment": "pad", "tas.depth_samples": "1", "tas.zone": "released",
    "train_subset": "50", "recipe.holdout": "0.1", "init.channels": "l1", "init.residual": "identity",
    "random_search.proxy_epochs": "3", "cma_es.proxy_epochs": "4", "cma_es.coding": "index",
    "cma_es.population": "7",
} | {
    f"{method}.{key}": value
    for method in ("random_search", "cma_es")
    for key, value in (("fitness", "shared"), ("supernet_epochs", "5"), ("supernet_seed", "6"))
}  # fmt: skip


def other_value(key):
    """Another valid value of a setting of SWEEP, as text."""
    value = setting_names(SWEEP)[key]
    if key in OTHERS or isinstance(value, bool):
        return OTHERS.get(key, str(not value))
    return str(value + 1 if isinstance(value, int) else value / 2)


@pytest.mark.parametrize("key", setting_names(SWEEP))
def test_every_setting_can_be_changed(key):
    found = setting_names(with_settings(SWEEP, {key: other_value(key)}))
    assert [k for k, value in found.items() if value != setting_names(SWEEP)[k]] == [key]


def test_a_setting_may_be_named_by_its_last_part():
    assert changed(lambda_cost="4") == changed(tas__lambda_cost="4.0")
    assert changed(lambda_cost="4").methods[3].lambda_cost == 4.0
    assert changed(epochs="9").recipe.epochs == 9
    assert changed(trials="9").methods[1] == RandomSearch(trials=9)
    assert changed(seeds="4, 2").seeds == (4, 2)
    assert changed(train_subset="100").train_subset == 100
    assert changed(exact_expectation="FALSE").methods[3].exact_expectation is False


def test_an_ambiguous_name_is_refused():
    assert line(changed, proxy_epochs="3") == (
        "setting 'proxy_epochs' could be random_search.proxy_epochs or cma_es.proxy_epochs; give it in full"
    )
    assert changed(cma_es__proxy_epochs="3").methods[2] == CmaEs(proxy_epochs=3)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("tas.lamda_cost", "tas.lambda_cost"),
        ("lamda_cost", "lambda_cost"),
        ("seed", "seeds"),
        ("method", "methods"),
    ],
)
def test_a_near_miss_is_suggested(key, near):
    assert f"unknown setting '{key}'; did you mean '{near}'?" in line(with_settings, SWEEP, {key: "1"})


@pytest.mark.parametrize("key", ["name", "title", "recipe.", ".keep", "tas.", "", "shortened", "nothing at all"])
def test_what_is_no_setting_is_refused(key):
    assert "unknown setting" in line(with_settings, SWEEP, {key: "1"})


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("epochs", "3.5", "a whole number"),
        ("epochs", "", "a whole number"),
        ("epochs", "9" * 5000, "a whole number"),
        ("keep", "half", "a number"),
        ("keep", "nan", "a number"),
        ("keep", "1e999", "a number"),
        ("seeds", "0;1", "whole numbers with commas between"),
        ("seeds", "0,", "whole numbers with commas between"),
        ("train_subset", "all", "a whole number or none"),
        ("exact_expectation", "1", "true or false"),
    ],
)
def test_a_wrong_type_is_refused(key, text, wanted):
    assert f"must be {wanted}, not '{text}'" in line(with_settings, SWEEP, {key: text})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep": "0"}, "keep is 0.0"),
        ({"keep": "-1"}, "keep is -1.0"),
        ({"t": "2"}, "t is 2.0; it must be in [0, 1]"),
        ({"t": "-0.1"}, "t is -0.1"),
        ({"seeds": "1,2,1"}, "seeds are 1, 2, 1; give at least one, each once"),
        ({"seeds": "-1"}, "each must be from 0 to"),
        ({"seeds": "99999999999999999999"}, "each must be from 0 to"),
        ({"methods": "tas,tas"}, "methods are tas, tas"),
        ({"cost": "macs_search"}, "cost is 'macs_search', a search's proxy; a budget is in a deployed cost"),
        ({"cost": "parms"}, "unknown cost 'parms'; did you mean 'params'?"),
        ({"datasets": "digit"}, "unknown dataset 'digit'; did you mean 'digits'?"),
        ({"backbones": "resnet23"}, "unknown backbone 'resnet23'; did you mean 'resnet"),
        ({"methods": "ration"}, "unknown method 'ration'; did you mean 'ratio'?"),
        ({"methods": ""}, "unknown method ''"),
        ({"transfers": "kd,inti"}, "unknown transfer 'inti'; did you mean 'init'?"),
        ({"epochs": "0"}, "epochs is 0"),
        ({"momentum": "1"}, "momentum in (0, 1)"),
        ({"samples": "0"}, "tas.samples is 0"),
        ({"lambda_cost": "-1"}, "tas.lambda_cost is -1.0"),
        ({"trials": "0"}, "random_search.trials is 0"),
        ({"cma_es.population": "1"}, "cma_es.population"),
        ({"soft_weight": "1.5"}, "kd.soft_weight is 1.5"),
        ({"channels": "l2"}, "init.channels is 'l2'; it must be leading or l1"),
        ({"tas": "papr"}, "unknown preset of tas 'papr'; did you mean 'paper'?"),
        ({"ratio": "paper"}, "ratio has no presets"),
        ({"recipe": "paper"}, "recipe has no presets"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings, said):
    assert said in line(with_settings, SWEEP, settings, KNOWN)


def test_presets():
    assert changed(tas="released").methods[3] == replace(Tas.presets()["released"], search_epochs=5)
    assert changed(tas__zone="released", tas="paper") == changed(tas="paper", tas__zone="released") != SWEEP
    assert with_settings(changed(tas="released"), {"tas": "paper"}) == SWEEP
    assert changed(tas="released").methods[3].rule == "released"
    assert changed(kd="paper").transfers[2] == KD(soft_weight=0.1, t_squared=False)
    both = with_settings(SWEEP, {"tas": "released", "tas.samples": "3"})
    assert both.methods[3] == replace(Tas.presets()["released"], search_epochs=5, samples=3)


def test_methods_and_transfers_are_chosen_by_name():
    assert changed(methods="tas, ratio").methods == (SWEEP.methods[3], SWEEP.methods[0]), "with their settings"
    assert changed(transfers="kd").transfers == (KD(),)
    small = replace(SWEEP, methods=(Ratio(),), transfers=(Scratch(),))
    grown = with_settings(small, {"trials": "7", "methods": "random_search", "transfers": "kd"}, KNOWN)
    assert grown.methods == (RandomSearch(trials=7),), "others come with their defaults, and can be set"
    assert grown.transfers == (KD(),)


def test_a_population_is_as_large_as_there_are_slots_where_the_directory_was_begun():
    def population(sweep, slots, manifest=None):
        return for_slots(sweep, slots, manifest).methods[2].population

    assert [population(SWEEP, slots) for slots in (1, 6, 40)] == [6, 6, 40]
    begun = for_slots(SWEEP, 40, None).manifest()
    assert population(SWEEP, 2, begun) == 40
    assert population(changed(cma_es__population="9"), 2, begun) == 9, "and is refused there"
    variant = replace(SWEEP, methods=(Ratio(), Tas(), Variant("mine", "Mine", CmaEs())))
    assert for_slots(variant, 12, None).methods[2].method.population == 12
    assert for_slots(variant, 2, for_slots(variant, 12, None).manifest()).methods[2].method.population == 12


@pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS)
def test_sweeps_do_not_depend_on_the_slots(sweep):
    assert for_slots(sweep, 64, None) == sweep


# ---------------------------------------------------------------- variants, several problems

VARIANTS = replace(
    SWEEP,
    methods=(Ratio(), Variant("one", "|I| = 1", Tas(samples=1)), Variant("two", "|I| = 2", Tas(samples=2))),
    datasets=("cifar10", "cifar100"), backbones=("resnet20", "resnet32"), keeps={"resnet20": 0.5},
)  # fmt: skip


def test_a_methods_settings_reach_all_its_variants():
    longer = with_settings(VARIANTS, {"search_epochs": "9", "tas.zone": "released"})
    assert [m.name for m in longer.methods] == ["ratio", "one", "two"]
    assert [m.method for m in longer.methods[1:]] == [
        Tas(samples=n, search_epochs=9, zone="released") for n in (1, 2)
    ]
    assert setting_names(VARIANTS)["tas.samples"] == "1|2"
    alone = with_settings(VARIANTS, {"one.search_epochs": "7", "two.samples": "3", "tas.search_epochs": "8"})
    assert [m.method.samples for m in alone.methods[1:]] == [1, 3]
    assert [m.method.search_epochs for m in alone.methods[1:]] == [7, 8]
    assert "unknown setting 'two.sample'" in line(with_settings, VARIANTS, {"two.sample": "3"})
    assert "two.samples must be a whole number" in line(with_settings, VARIANTS, {"two.samples": "x"})
    assert setting_names(VARIANTS)["tas.zone"] == "paper"
    released = with_settings(VARIANTS, {"tas": "released"}).methods[1].method
    assert (released.rule, released.tau_start) == ("released", 5.0)
    assert [m.name for m in with_settings(VARIANTS, {"methods": "two"}).methods] == ["two"]


def test_every_data_set_meets_every_backbone():
    problems = [(p.data.name, p.backbone_name, p.classes, p.keep) for p in VARIANTS.problems]
    assert problems == [
        ("cifar10", "resnet20", 10, 0.5), ("cifar10", "resnet32", 10, 0.6),
        ("cifar100", "resnet20", 100, 0.5), ("cifar100", "resnet32", 100, 0.6),
    ]  # fmt: skip
    assert {p.keep for p in with_settings(VARIANTS, {"keep": "0.7"}).problems} == {0.7}
    names = [plan.name for plan in VARIANTS.plans()]
    assert len(set(names)) == len(names) == 4 * 2 * (1 + 3)
    assert names[0] == "cifar10-resnet20-teacher-s0"
    manifest = VARIANTS.manifest()
    assert manifest["problems"][3] == {"dataset": "cifar100", "backbone": "resnet32", "keep": 0.6}
    assert manifest["fixed"]["one.samples"] == 1


def test_a_sweep_may_only_search():
    short = changed(transfers="none", methods="tas")
    assert short.transfers == ()
    [plan] = [plan for plan in short.plans() if plan.seed == 0]
    batches, _ = drive(plan.steps, lambda _: Outcome(size=PROBLEM.backbone.full))
    assert [[job.kind for job in batch] for batch in batches] == [["search"]]


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


# ---------------------------------------------------------------- plans


def drive(plan, answer):
    """Batches a plan yields, and what it returns."""
    batches = [next(plan)]
    try:
        while True:
            batches.append(plan.send([answer(job) for job in batches[-1]]))
    except StopIteration as end:
        return batches, end.value


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
