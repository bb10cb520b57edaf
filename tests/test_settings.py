"""A sweep's settings by name, its variants and several problems, and what follows the slots."""

from dataclasses import fields, replace

import pytest
from helpers import drive, line
from small_sweep import KNOWN, PROBLEM, SWEEP, SWEEPS, changed, other_value

from baselines.cma_es import CmaEs
from baselines.random_search import RandomSearch
from baselines.ratio import Ratio
from tas_bench.jobs import Outcome, Recipe
from tas_bench.settings import for_slots, setting_names, with_settings
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch
from tas_bench.variant import Variant


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


@pytest.mark.parametrize("key", setting_names(SWEEP))
def test_every_setting_can_be_changed(key):
    before, found = setting_names(SWEEP), setting_names(with_settings(SWEEP, {key: other_value(key)}))
    assert [k for k, value in found.items() if value != before[k]] == [key]


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
        ({"teacher_epochs": "0"}, "teacher_epochs is 0; it must be at least 1, or none"),
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
