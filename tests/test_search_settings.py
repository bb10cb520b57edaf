"""The settings of a search, its presets, and the schedules that follow from them, by hand."""

import dataclasses
import math

import pytest

from tas_bench.errors import InputError
from tas_bench.search.settings import (
    MAX_ARCH_LR,
    PAPER_STEPS,
    SETTLING,
    scaled_arch_lr,
    settled_lr,
    settles,
    tau_at,
)
from tas_bench.tas import Tas

PAPER, RELEASED = Tas.presets()["paper"], Tas.presets()["released"]


# ---- schedules


@pytest.mark.parametrize(
    ("settings", "taus"),
    [
        (PAPER, [10.0, 7.525, 5.05, 2.575, 0.1]),
        (RELEASED, [5.0, 2.55 + 2.45 * math.sqrt(0.5), 2.55, 2.55 - 2.45 * math.sqrt(0.5), 0.1]),
        (Tas(tau_shape="constant", tau_start=3.0), [3.0] * 5),
    ],
    ids=["linear", "cosine", "constant"],
)
def test_temperature(settings, taus):
    assert [tau_at(settings, i / 4) for i in range(5)] == pytest.approx(taus)


@pytest.mark.parametrize(
    ("steps", "rate"), [(58_800, 1e-3), (29_400, 2e-3), (1_000, 0.0588), (392, 0.15), (391, 0.15), (1, 0.15)]
)
def test_shorter_searches_take_larger_steps_up_to_a_cap(steps, rate):
    assert scaled_arch_lr(Tas(), steps) == pytest.approx(rate)
    assert scaled_arch_lr(Tas(), steps) * steps <= 58.8 + 1e-9


def test_the_argmax_settles_in_the_last_updates():
    assert [settles(Tas(), left) for left in (5_000, SETTLING, SETTLING - 1, 0)] == [False, False, True, True]
    assert not settles(Tas(lambda_cost=0.0), 0), "there is nothing to settle in"


def test_settling_is_long_enough_for_any_rate():
    lr = MAX_ARCH_LR
    for _ in range(SETTLING):
        lr = settled_lr(Tas(), lr, MAX_ARCH_LR, in_band=True)
    assert lr == Tas().arch_lr


def test_a_scaled_rate_falls_while_the_budget_is_met():
    assert settled_lr(Tas(), 0.05, 0.1, in_band=True) == pytest.approx(0.04)
    assert settled_lr(Tas(), 0.04, 0.1, in_band=False) == pytest.approx(0.05)
    assert settled_lr(Tas(), 0.09, 0.1, in_band=False) == 0.1
    assert settled_lr(Tas(), 0.0011, 0.1, in_band=True) == 0.001, "the paper's own rate is the least"
    assert [settled_lr(Tas(), 0.001, 0.001, met) for met in (True, False)] == [0.001] * 2


def test_longer_searches_and_bold_settings_keep_their_rate():
    assert scaled_arch_lr(Tas(), 100_000) == 1e-3
    assert scaled_arch_lr(Tas(arch_lr=0.5), 10) == 0.5


def test_papers_number_of_updates():
    """600 epochs over 25,000 images in batches of 256."""
    assert 600 * math.ceil(25_000 / 256) == PAPER_STEPS == 58_800


# ---- settings


def test_presets():
    """The paper's section 4.1; the released code where it differs."""
    paper = {
        "search": "WD", "samples": 2, "lambda_cost": 2.0, "search_epochs": 600,
        "tau_start": 10.0, "tau_end": 0.1, "tau_shape": "linear",
        "arch_lr": 0.001, "arch_weight_decay": 0.001, "arch_beta1": 0.9,
        "zone": "paper", "rule": "deployed", "exact_expectation": True,
        "depth_samples": None, "draws": 1, "selection": "gumbel", "alignment": "cwi",
    }  # fmt: skip
    released = paper | {
        "tau_start": 5.0, "tau_shape": "cosine", "arch_beta1": 0.5,
        "zone": "released", "rule": "released", "exact_expectation": False,
    }  # fmt: skip
    assert Tas() == PAPER
    assert {k: dataclasses.asdict(v) for k, v in Tas.presets().items()} == {"paper": paper, "released": released}
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER.samples = 3


BAD = [
    {"search": "depth"}, {"search": "w"}, {"samples": 0}, {"samples": -1}, {"search_epochs": 0},
    {"lambda_cost": -0.1}, {"lambda_cost": math.nan}, {"lambda_cost": math.inf},
    {"tau_start": 0.0}, {"tau_end": -1.0}, {"tau_end": math.nan}, {"tau_shape": "square"},
    {"arch_lr": 0.0}, {"arch_lr": math.nan}, {"arch_weight_decay": -1.0}, {"arch_beta1": 1.0}, {"rule": "params"},
    {"depth_samples": 0}, {"draws": 0}, {"selection": "random"}, {"alignment": "bicubic"},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_settings_are_refused_in_one_line(bad):
    with pytest.raises(InputError) as caught:
        Tas(**bad)
    [name] = bad
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
