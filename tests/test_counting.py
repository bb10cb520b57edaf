"""In-band sizes by counting: the counts and the draws against enumeration, and against rejection on ResNet-110."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_bound import BACKBONES, every

from tas_bench import budget, counting
from tas_bench.backbones import all_backbones, find_backbone
from tas_bench.backbones.backbone import ImageShape
from tas_bench.backbones.tiny import TINY
from tas_bench.budget import Band
from tas_bench.costs.latency import Config, Table
from tas_bench.costs.macs import MACS
from tas_bench.costs.params import PARAMS
from tas_bench.counting import Counted
from tas_bench.errors import InputError
from tas_bench.latency import configs_of_space
from tas_bench.space import SizeSpace

UNEVEN = SizeSpace(
    ((8,), (4, 6, 8), (4, 6, 8), (8,), (4, 8), (16,), (8, 16), (16,), (8, 12, 16)), ((1, 2), (1, 2))
)
"""Blocks of one stage end in different candidates."""


def small(name, cost=MACS, low=0.5, high=0.6):
    backbone, ratios = (TINY, None) if name == "uneven" else BACKBONES[name]
    layers = backbone.layers(7, ImageShape(1, 8))
    space = UNEVEN if name == "uneven" else backbone.space("WD", ratios)
    full = cost.of(layers, backbone.full)
    return Band(layers, space, cost, low * full, high * full)


def counted(band):
    return Counted(band.layers, band.space, band.cost, band.low, band.high)


def enumerated(band):
    """Candidate indices of every size, and their costs."""
    return budget._all_combinations(band.space.counts), every(np.zeros(band.space.padded.shape), band)[1]


@pytest.mark.parametrize("cost", [MACS, PARAMS], ids=lambda c: c.name)
@pytest.mark.parametrize("name", [*BACKBONES, "uneven"])
def test_in_buckets_of_one_the_counts_are_those_of_all_sizes(name, cost, monkeypatch):
    monkeypatch.setattr(counting, "MOST_BUCKETS", 10**9)
    band = small(name, cost, 0.6, 0.6)
    _, costs = enumerated(band)
    target = costs[costs >= np.median(costs)].min()
    table = counted(Band(band.layers, band.space, cost, float(target), float(target)))
    assert table.bucket == 1
    assert table.shares.sum() * band.space.cardinality == pytest.approx((costs == target).sum(), rel=1e-9)
    whole = counted(Band(band.layers, band.space, cost, 0.0, float(target)))
    if whole.bucket == 1:
        found = whole.shares[0] * band.space.cardinality
        assert found == pytest.approx(np.bincount(costs[costs <= target], minlength=len(found)), rel=1e-9)


@pytest.mark.parametrize("fine", [counting.FINE, 0.2])
@pytest.mark.parametrize("name", [*BACKBONES, "uneven"])
def test_draws_are_uniform_over_all_sizes_in_the_band(name, fine, monkeypatch):
    """In coarse buckets, too, where rounding takes many sizes to the band's other side."""
    monkeypatch.setattr(counting, "FINE", fine)
    budget._counted.cache_clear()
    band = small(name)
    sizes, costs = enumerated(band)
    inside = {tuple(size): 0 for size in sizes[band.holds(costs)]}
    assert len(inside) > 20
    for size in band.sample(np.random.default_rng(0), 12 * len(inside)):
        inside[tuple(band.space.indices(size))] += 1
    assert min(inside.values()) > 0
    assert stats.chisquare(list(inside.values())).pvalue > 1e-3


def made_up_latency(layers, space, folder=Path()):
    """A table of the space's own widths alone."""
    entries = {
        c: 50 + 3 * c.kernel**2 * c.c_in + 7 * c.c_out * c.positions for c in configs_of_space(layers, space)
    }
    assert all(isinstance(entry, Config) for entry in entries)
    return Table(folder / "made_up.parquet", {}, entries).cost


def every_case():
    """A few ways of every network, all of a few networks; `make test-slow` has the rest, and deep networks'."""
    for name, *how in product(all_backbones(), ["macs", "params", "latency"], ["W", "D", "WD"]):
        few = how in (["macs", "WD"], ["params", "W"], ["latency", "D"])
        whole = name in ("tiny", "resnet18", "resnet20", "mobilenet_v2")
        slow = name in ("resnet110", "resnet164") or not (few or whole)
        yield pytest.param(name, *how, marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize(("name", "cost", "search"), list(every_case()))
def test_every_backbone(name, cost, search):
    """Every row is counted, and more than half of the draws are in the band wherever that is not a handful."""
    backbone = all_backbones()[name]
    layers, space = backbone.layers(100), backbone.space(search)
    how = {"macs": MACS, "params": PARAMS}.get(cost) or made_up_latency(layers, space)
    some = np.median(how.many(layers, *space.values(space.sample_indices(np.random.default_rng(0), 99))))
    band = Band(layers, space, how, 0.95 * some, 1.05 * some)
    table = budget._counted(band)  # as `sample` has it below
    segments = [table.stem, *(block for stage in table.stages for block in stage.blocks), table.tail]
    assert [row for segment in segments for row in segment.rows] == list(range(len(space.widths)))
    draws = table.draw(np.random.default_rng(0), 500)
    assert ((draws >= 0) & (draws < space.counts)).all()
    held = band.holds(band.costs(draws))
    assert held.mean() > (0.5 if "W" in search else 0.0)
    assert len(band.sample(np.random.default_rng(0), 3)) == 3


def resnet110():
    backbone = find_backbone("resnet110")
    layers = backbone.layers(100)
    full = MACS.of(layers, backbone.full)
    return Band(layers, backbone.space(), MACS, 0.475 * full, 0.525 * full)


@pytest.mark.slow
def test_resnet110_as_rejection_has_it():
    """One uniform size of 5,000 is in this band: their number, and where their widths and depths lie."""
    band, rng, tries = resnet110(), np.random.default_rng(1), 300_000
    draws = [band.space.sample_indices(rng, 10_000) for _ in range(tries // 10_000)]
    rejected = np.concatenate([batch[band.holds(band.costs(batch))] for batch in draws])

    table = counted(band)
    proposed = table.draw(rng, 4000)
    drawn = proposed[band.holds(band.costs(proposed))]
    expected = tries * table.shares.sum() * len(drawn) / len(proposed)
    assert expected > 40
    assert abs(len(rejected) - expected) < 4 * np.sqrt(expected)

    convs = len(band.space.widths)
    for columns in (*np.array_split(np.arange(convs), 3), [convs], [convs + 1], [convs + 2]):
        few, many = rejected[:, columns].mean(axis=1), drawn[:, columns].mean(axis=1)
        assert stats.ks_2samp(few, many, method="asymp").pvalue > 1e-3
    deep, uniform = drawn[:, convs:].mean(axis=0), (band.space.counts[convs:] - 1) / 2
    assert (deep > uniform + 2).all(), "far from uniform depths: the band wants deep networks"


def test_the_first_of_more_draws_are_those_of_fewer():
    band = resnet110()
    few, more = (band.sample(np.random.default_rng(0), n) for n in (3, 1000))
    assert few == more[:3]
    assert len(set(more)) == 1000
    assert band.holds(np.array([MACS.of(band.layers, size) for size in more[:50]])).all()
    assert band.sample(np.random.default_rng(1), 3) != few


@pytest.mark.parametrize(("low", "high"), [(0.60001, 0.60001), (5.0, 6.0), (0.0, 0.001)])
def test_a_band_without_sizes_is_one_line(low, high):
    with pytest.raises(InputError, match=r"^no size found with .* macs$"):
        small("short", low=low, high=high).sample(np.random.default_rng(0), 1)
