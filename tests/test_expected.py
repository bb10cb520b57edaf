"""The expected cost against enumeration of every size; the cost loss against Equation 8 and differences."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_bench.backbones.backbone import Backbone, BlockConv, ImageShape, Stage
from tas_bench.backbones.cifar_resnet import BASIC, BOTTLENECK, RESNET32
from tas_bench.backbones.mobilenet import DEPTHWISE, SEPARABLE
from tas_bench.costs import all_costs
from tas_bench.costs.layer import Cost
from tas_bench.costs.macs import MACS
from tas_bench.expected import ExpectedCost, cost_loss

COSTS = {name: all_costs()[name] for name in ("macs", "macs_search", "params")}
COSTS["product"] = Cost("product", lambda layer, c_in, c_out: layer.positions * c_in * c_out)
"""A formula that reads both ends of a layer, depthwise or not."""
BASE = Backbone("basic", 8, BASIC, (Stage(8, 1, (1, 3)), Stage(8, 1, (1, 2)), Stage(16, 2, (1,))), True)
NECK = Backbone("neck", 8, BOTTLENECK, (Stage(4, 1, (1, 2)), Stage(4, 2, (1, 2))), mismatch_norm=False)
PLAIN = Backbone(
    "plain", 8, SEPARABLE, (Stage(8, 1, (1, 3)), Stage(16, 2, (1, 2))), mismatch_norm=True, shortcuts="none"
)  # fmt: skip
INVERTED = Backbone(
    "inverted", 8, (BlockConv(1, expansion=2, of_input=True), DEPTHWISE, BlockConv(1)),
    (Stage(8, 1, (1,), block=SEPARABLE), Stage(8, 2, (1, 2)), Stage(8, 1, (1,))), mismatch_norm=True,
    shortcuts="identity", head_width=16,
)  # fmt: skip
CLASSES, IMAGE = 7, ImageShape(1, 8)

SPACES = {  # width rows of two or three candidates, and of one
    "WD": BASE.space("WD", (0.5, 1.0)),
    "W": BASE.space("W", (0.3, 1.0)),
    "D": BASE.space("D"),
    "bottleneck": NECK.space("WD", (0.6, 1.0)),
}
RATIOS3 = Backbone("short", 8, BASIC, (Stage(8, 1, (1, 2)), Stage(8, 1, (1,))), True)
SPACES["three ratios"] = RATIOS3.space("WD", (0.3, 0.6, 1.0))
SPACES |= {"plain": PLAIN.space("WD", (0.3, 1.0)), "inverted": INVERTED.space("WD", (0.6, 1.0))}
BACKBONES = {"bottleneck": NECK, "three ratios": RATIOS3, "plain": PLAIN, "inverted": INVERTED}


def layers_of(kind):
    return BACKBONES.get(kind, BASE).layers(CLASSES, IMAGE)


@cache
def every_size(kind):
    """Indices of all sizes of a space (N, rows), and their widths and depths."""
    space = SPACES[kind]
    indices = np.indices(tuple(map(len, space.rows))).reshape(len(space.rows), -1).T
    table = [np.array(row)[column] for row, column in zip(space.rows, indices.T, strict=True)]
    convs = len(space.widths)
    return indices, np.stack(table[:convs], axis=1), np.stack(table[convs:], axis=1)


@cache
def enumerated(kind, name):
    """The cost of every size."""
    _, widths, depths = every_size(kind)
    return COSTS[name].many(layers_of(kind), widths, depths)


@cache
def mismatches(kind):
    """Macs of every size's 1 x 1 shortcuts between unequal widths where the unpruned ones are equal."""
    backbone, (_, widths, depths) = BACKBONES.get(kind, BASE), every_size(kind)
    found, place = np.zeros(len(widths), np.int64), 1
    side, here, unpruned = IMAGE.side, widths[:, 0], backbone.stem_width
    for s, stage in enumerate(backbone.stages):
        for b in range(stage.blocks):
            place += sum(not part.depthwise for part in stage.block or backbone.block)
            out, kept = widths[:, place - 1], depths[:, s] > b
            full = stage.width * backbone.block[-1].expansion
            side //= stage.stride if b == 0 else 1
            if (stage.stride == 1 or b > 0) and unpruned == full and backbone.shortcuts != "none":
                found += kept * (here != out) * here * out * side**2
            here, unpruned = np.where(kept, out, here), full
    return found


def chances(kind, p):
    """The probability of every size, rows being independent."""
    indices, _, _ = every_size(kind)
    return np.prod([row[column] for row, column in zip(p, indices.T, strict=True)], axis=0)


def table_of(p, most):
    """Rows of probabilities as one table, zero past a row's candidates."""
    return torch.stack([torch.from_numpy(np.pad(row, (0, most - len(row)))) for row in p])


@st.composite
def distributions(draw, space):
    """Probabilities of every row, from mild to almost one-hot."""
    rng, sharpness = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.sampled_from([0.1, 1, 10]))
    scores = [np.exp(sharpness * rng.normal(size=len(row))) for row in space.rows]
    return [s / s.sum() for s in scores]


@settings(max_examples=10)
@given(st.data())
@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("kind", SPACES)
def test_expectation_is_the_sum_over_every_size(kind, name, data):
    space = SPACES[kind]
    p = data.draw(distributions(space))
    expected = ExpectedCost(layers_of(kind), space, COSTS[name])(table_of(p, space.padded.shape[1]))
    assert expected.dtype == torch.float64
    assert expected.item() == pytest.approx(chances(kind, p) @ enumerated(kind, name), rel=1e-9)


@pytest.mark.parametrize("kind", SPACES)
def test_released_expectation_leaves_out_the_mismatch_shortcuts(kind):
    space = SPACES[kind]
    p = [np.full(len(row), 1 / len(row)) for row in space.rows]
    table = table_of(p, space.padded.shape[1])
    without = ExpectedCost(layers_of(kind), space, MACS, exact=False)(table).item()
    assert without == pytest.approx(chances(kind, p) @ (enumerated(kind, "macs") - mismatches(kind)), rel=1e-9)
    assert mismatches(kind).any() == (kind not in ("D", "plain"))


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("search", ["W", "D", "WD"])
def test_a_certain_size_costs_what_it_costs(search, name):
    """To the last digit, at a size of real networks."""
    space, layers = RESNET32.space(search), RESNET32.layers(100)
    model = ExpectedCost(layers, space, COSTS[name])
    rng = np.random.default_rng(0)
    for _ in range(5):
        indices = space.sample_indices(rng, 1)[0]
        one_hot = torch.eye(space.padded.shape[1])[indices]
        assert model(one_hot).item() == COSTS[name].of(layers, space.size(indices))


def test_probabilities_in_float32_are_summed_in_float64():
    space = RESNET32.space()
    p = torch.rand(len(space.rows), 8).softmax(1)
    model = ExpectedCost(RESNET32.layers(100), space, MACS)
    assert model(p).item() == model(p.double()).item()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", ["WD", "bottleneck", "inverted"])
@pytest.mark.parametrize("name", COSTS)
def test_gradient_is_that_of_finite_differences(kind, name, exact):
    space = SPACES[kind]
    model = ExpectedCost(layers_of(kind), space, COSTS[name], exact)
    logits = torch.randn(space.padded.shape, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x.softmax(1)) / 1e4, logits)


# ---- Equation 8

LOW, HIGH = 90.0, 110.0


@pytest.mark.parametrize(
    ("actual", "sign"), [(0, -1), (89.999, -1), (90, 0), (100, 0), (110, 0), (110.001, 1), (1e9, 1)]
)
def test_cost_loss_is_piecewise_and_f_cost_alone_decides_the_piece(actual, sign):
    for value in (0.5, 1.0, 100.0, 5000.0):
        expected = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        assert cost_loss(expected, torch.tensor(actual), LOW, HIGH).item() == pytest.approx(sign * math.log(value))
        loss = cost_loss(expected, torch.tensor(actual), LOW, HIGH) + 0 * expected
        [slope] = torch.autograd.grad(loss, expected)
        assert slope.item() == pytest.approx(sign / value)


@pytest.mark.parametrize("actual", [50, 150])
def test_cost_loss_has_the_gradient_of_finite_differences(actual):
    space = SPACES["WD"]
    model = ExpectedCost(layers_of("WD"), space, MACS)
    logits = torch.randn(space.padded.shape, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: cost_loss(model(x.softmax(1)), torch.tensor(actual), LOW, HIGH), logits
    )


def test_stepping_against_the_loss_moves_the_cost_towards_the_band():
    space = SPACES["WD"]
    model = ExpectedCost(layers_of("WD"), space, MACS)
    for actual, direction in ((50, 1), (150, -1)):
        logits = torch.zeros(space.padded.shape, dtype=torch.float64).requires_grad_()
        before = model(logits.softmax(1))
        [slope] = torch.autograd.grad(cost_loss(before, torch.tensor(actual), LOW, HIGH), logits)
        after = model((logits - 0.1 * slope).softmax(1))
        assert direction * (after - before).item() > 0
