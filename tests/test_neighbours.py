"""The costs of single changes, kept up to date, against costing every neighbour whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bound import BACKBONES
from test_counting import small

from tas_bench.backbones import find_backbone
from tas_bench.budget import Band
from tas_bench.costs.macs import MACS
from tas_bench.costs.params import PARAMS


def large(name, cost):
    backbone = find_backbone(name)
    return Band(backbone.layers(100), backbone.space(), cost, 0.0, 1.0)


BANDS = [
    *(small(name, cost) for name in [*BACKBONES, "uneven"] for cost in (MACS, PARAMS)),
    *(large(name, MACS) for name in ("resnet20", "resnet164", "mobilenet_v2")),
]


@pytest.mark.parametrize("band", BANDS)
@settings(max_examples=6)
@given(seed=st.integers(0, 10_000))
def test_changes_after_a_walk(band, seed):
    rng = np.random.default_rng(seed)
    near = band.neighbours(band.space.sample_indices(rng, 1)[0])
    for _ in range(6):
        rows, candidates = np.nonzero(near.others)
        assert len(rows) == (band.space.counts - 1).sum()
        sizes = np.repeat(near.indices[None], len(rows), axis=0)
        sizes[np.arange(len(rows)), rows] = candidates
        costs = band.costs(sizes)
        assert near.cost == band.costs(near.indices[None])[0]
        assert np.array_equal(near.cost + near.changes[rows, candidates], costs)

        i, j = rng.integers(len(rows), size=(2, 200))
        apart = (rows[i] != rows[j]) & ~near.tied[rows[i], rows[j]]
        i, j = i[apart], j[apart]
        both = sizes[i]
        both[np.arange(len(i)), rows[j]] = candidates[j]
        assert np.array_equal(band.costs(both) - near.cost, costs[i] + costs[j] - 2 * near.cost)

        pick = rng.integers(len(rows))
        near.move(int(rows[pick]), int(candidates[pick]))
