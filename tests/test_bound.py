"""The bound on in-band scores, against enumeration."""

import numpy as np
import pytest

from tas_bench import budget
from tas_bench.backbones.backbone import Backbone, ImageShape, Stage
from tas_bench.backbones.cifar_resnet import BASIC, BOTTLENECK, RESNET32, RESNET164
from tas_bench.backbones.mobilenet import INVERTED, SEPARABLE
from tas_bench.bound import Chain, most_probable_and_gap, upper_bound
from tas_bench.budget import Band
from tas_bench.costs.macs import MACS
from tas_bench.costs.params import PARAMS
from tas_bench.errors import InputError

BACKBONES = {
    "basic": (Backbone("basic", 8, BASIC, (Stage(8, 1, (1, 3)), Stage(16, 2, (1,))), True), (0.5, 1.0)),
    "bottleneck": (Backbone("neck", 8, BOTTLENECK, (Stage(4, 1, (1, 2)), Stage(4, 2, (1,))), False), (0.5, 1.0)),
    "short": (Backbone("short", 8, BASIC, (Stage(8, 1, (1, 2)),), True), (0.3, 0.6, 1.0)),
    "separable": (
        Backbone("separable", 8, SEPARABLE, (Stage(8, 1, (1, 2)), Stage(16, 2, (1, 2))), True, shortcuts="none"),
        (0.3, 0.6, 1.0),
    ),
    "inverted": (
        Backbone(
            "inverted", 8, INVERTED, (Stage(8, 1, (1, 2)), Stage(12, 2, (1,))), True,
            shortcuts="identity", linear_blocks=True, head_width=20,
        ),
        (0.5, 1.0),
    ),
}  # fmt: skip


def case(name, seed, low=0.5, high=0.6, cost=MACS):
    backbone, ratios = BACKBONES[name]
    layers, space = backbone.layers(7, ImageShape(1, 8)), backbone.space("WD", ratios)
    full = cost.of(layers, backbone.full)
    scores = np.random.default_rng(seed).normal(size=space.padded.shape)
    band = Band(layers, space, cost, low * full, high * full)
    return budget.scores_of(scores, band), band


def every(scores, band):
    """Scores and costs of all sizes."""
    sizes = budget._all_combinations(band.space.counts)
    return scores[np.arange(len(scores)), sizes].sum(axis=1), band.costs(sizes)


@pytest.mark.parametrize("cost", [MACS, PARAMS], ids=lambda c: c.name)
@pytest.mark.parametrize("name", BACKBONES)
def test_the_walk_finds_the_best_of_all_sizes_for_any_slope(name, cost):
    for seed in range(5):
        scores, band = case(name, seed, cost=cost)
        score, costs = every(scores, band)
        chain = Chain(scores, band)
        for slope in (0.0, 1e-6, -1e-6, 1e-5, -1e-5, 1e-3, -1e-3):
            assert chain.best(slope) == pytest.approx((score - slope * costs).max(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", BACKBONES)
def test_no_in_band_size_scores_more_and_the_best_is_near(name):
    gaps = []
    for seed in range(20):
        scores, band = case(name, seed, *((0.4, 0.5) if seed % 2 else (0.8, 0.9)))
        score, costs = every(scores, band)
        best = score[band.holds(costs)].max()
        bound = upper_bound(scores, band)
        assert bound >= best - 1e-9
        assert bound <= score.max() + 1e-9
        gaps.append(bound - best)
    assert np.median(gaps) < 1.0, "the spread of a single row's scores"


@pytest.mark.parametrize("name", BACKBONES)
def test_the_stated_gap_covers_the_true_one(name, monkeypatch):
    """With the enumeration switched off, what the heuristic finds is no worse than it says."""
    for seed in range(10):
        scores, band = case(name, seed)
        score, costs = every(scores, band)
        exact, none = most_probable_and_gap(scores, band)
        best = scores[np.arange(len(exact)), exact].sum()
        assert none == 0.0
        assert best == pytest.approx(score[band.holds(costs)].max())
        with monkeypatch.context() as patch:
            patch.setattr(budget, "ENUMERABLE", 0)
            try:
                found, gap = most_probable_and_gap(scores, band)
            except InputError:
                continue  # it may find none where there are few
        true = best - scores[np.arange(len(found)), found].sum()
        assert -1e-9 <= true <= gap + 1e-9


@pytest.mark.parametrize("backbone", [RESNET32, RESNET164], ids=lambda b: b.name)
def test_on_the_papers_networks_the_gap_is_small(backbone):
    """Log-probabilities as a decided search leaves them: the gap is a small part of what the band costs."""
    layers, space = backbone.layers(100), backbone.space()
    full = MACS.of(layers, backbone.full)
    for seed in range(2):
        logits = np.random.default_rng(seed).normal(size=space.padded.shape)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        band = Band(layers, space, MACS, 0.3 * full, 0.33 * full)
        _, gap = most_probable_and_gap(log_p, band)
        assert 0 <= gap < 1.0
