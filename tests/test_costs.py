"""Costs against the published figures, and a loop written from the rules' words alone."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_bench.backbones import all_backbones, find_backbone
from tas_bench.backbones.backbone import ImageShape
from tas_bench.backbones.cifar_resnet import RESNET20
from tas_bench.costs import all_costs
from tas_bench.costs.layer import Cost
from tas_bench.costs.macs import MACS, macs_of_layer
from tas_bench.costs.macs_search import MACS_SEARCH
from tas_bench.costs.params import PARAMS
from tas_bench.space import Size
from tas_bench.testing import check_cost, check_names

SHAPES = json.loads((Path(__file__).parent / "golden" / "shapes.json").read_text())

UNPRUNED = {  # rule I, for CIFAR-10 and CIFAR-100
    "resnet20": (40_813_194, 40_819_044),
    "resnet32": (69_124_746, 69_130_596),
    "resnet56": (125_747_850, 125_753_700),
    "resnet110": (253_149_834, 253_155_684),
    "resnet164": (247_646_730, 247_669_860),
}


@pytest.mark.parametrize("cost", all_costs().values(), ids=lambda c: c.name)
def test_contract(cost):
    check_cost(cost)


def test_no_two_costs_share_a_name():
    check_names("tas_bench.costs", Cost)
    assert {"macs", "macs_search", "params"} <= all_costs().keys()


BROKEN = {
    "fraction": lambda layer, c_in, c_out: c_in * c_out / 2,
    "negative": lambda layer, c_in, c_out: -c_in,
    "less for more": lambda layer, c_in, c_out: 300 - c_out,
    "not for arrays": lambda layer, c_in, c_out: c_out if isinstance(c_out, int) else c_out + 1,
}


@pytest.mark.parametrize("formula", BROKEN.values(), ids=BROKEN)
def test_contract_refuses_a_broken_formula(formula):
    with pytest.raises(AssertionError):
        check_cost(Cost("broken", formula))


def test_contract_refuses_a_cost_that_reads_dropped_blocks():
    class Forgetful(Cost):
        def many(self, layers, widths, depths):
            return super().many(layers, widths, depths) + widths.sum(axis=1)

    with pytest.raises(AssertionError, match="dropped blocks"):
        check_cost(Forgetful("forgetful", macs_of_layer))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_published_shapes(shape):
    size = Size(tuple(shape["widths"]), tuple(shape["depths"]))
    layers = find_backbone(shape["backbone"]).layers(shape["num_classes"])
    assert MACS_SEARCH.of(layers, size) == round(shape["macs_search"] * 1e6)
    assert MACS.of(layers, size) == round(shape["macs_deployed"] * 1e6)


@pytest.mark.parametrize("name", UNPRUNED)
def test_unpruned(name):
    backbone = find_backbone(name)
    found = [MACS.of(backbone.layers(classes), backbone.full) for classes in (10, 100)]
    assert found == list(UNPRUNED[name])


@pytest.mark.parametrize(("name", "blocks", "published"), [("resnet20", 5, 21.939), ("resnet32", 9, 40.813)])
def test_tas_depth_only(name, blocks, published):
    """TAS (D) of Table 4: at full widths any choice of that many blocks costs the same."""
    backbone = find_backbone(name)
    cuts = [size for size in backbone.space("D").enumerate() if sum(size.depths) == blocks]
    macs = {MACS.of(backbone.layers(10), size) for size in cuts}
    searched = {MACS_SEARCH.of(backbone.layers(10), size) for size in cuts}
    assert len(cuts) > 1
    assert len(macs) == 1
    assert round(macs.pop() / 1e6, 3) == round((searched.pop() + 10) / 1e6, 3) == published


@pytest.mark.parametrize(("name", "pycls"), [("resnet56", 855_770), ("resnet110", 1_730_714)])
def test_parameters_are_those_of_pycls_but_for_the_shortcuts_norms(name, pycls):
    backbone = find_backbone(name)
    assert PARAMS.of(backbone.layers(10), backbone.full) == pycls - 2 * (32 + 64)


def test_rule_s_reads_the_dropped_last_block_and_rule_i_the_last_kept():
    """ResNet-20 cut to one block in its first stage, whose dropped last block is half as wide."""
    dropped, kept = RESNET20.conv_index(0, 2), RESNET20.conv_index(0, 0)
    widths = [8 if i == dropped else w for i, w in enumerate(RESNET20.full.widths)]
    layers = RESNET20.layers(10)
    cut, full_cut = Size(tuple(widths), (1, 3, 3)), Size(RESNET20.full.widths, (1, 3, 3))
    assert MACS.of(layers, cut) == MACS.of(layers, full_cut)
    first_of_stage = (9 + 1) * 32 * 16**2  # its 3 x 3 and its shortcut, per input channel
    assert MACS_SEARCH.of(layers, full_cut) - MACS_SEARCH.of(layers, cut) == 8 * first_of_stage
    widths[kept] = 8
    assert MACS.of(layers, Size(tuple(widths), (1, 3, 3))) < MACS.of(layers, full_cut)


def half(side):
    return (side + 1) // 2


def naive(backbone, size, classes, image, *, rule):
    """Macs from the words that describe rules S and I: walk all blocks at full depth, charge the kept ones."""
    side, here = half(image.side) if backbone.stem_stride == 2 else image.side, 1
    c_in, unpruned_in = size.widths[0], backbone.stem_width
    total = backbone.stem_kernel**2 * image.channels * c_in * side * side
    side = half(side) if backbone.stem_pool else side
    for stage, depth in zip(backbone.stages, size.depths, strict=True):
        for block in range(stage.blocks):
            stride = stage.stride if block == 0 else 1
            c, kept = c_in, block < depth
            for part in stage.block or backbone.block:
                side = half(side) if part.strided and stride == 2 else side
                filters = c if part.depthwise else c * size.widths[here]
                total += kept * part.kernel * part.kernel * filters * side * side
                if not part.depthwise:
                    c, here = size.widths[here], here + 1
            unpruned_out = stage.width * part.expansion
            joins = stride == 2 or unpruned_in != unpruned_out
            charged = {"all": joins or c_in != c, "identity": not joins and c_in != c, "none": False}
            total += kept * charged[backbone.shortcuts] * c_in * c * side * side
            if kept or rule == "S":  # by index: the dropped block's width is read all the same
                c_in = c
            unpruned_in = unpruned_out
    if backbone.head_width:
        total += c_in * size.widths[-1] * side * side
        c_in = size.widths[-1]
    return total + c_in * classes + (classes if rule == "I" else 0)


@st.composite
def sizes(draw, backbone):
    """Any depths; widths of few values, so that neighbours are often equal and as often not."""
    ratios = draw(st.lists(st.floats(0.05, 1), min_size=1, max_size=3))
    widths = [max(1, int(w * draw(st.sampled_from(ratios)))) for w in backbone.full.widths]
    return Size(tuple(widths), tuple(draw(st.integers(1, s.blocks)) for s in backbone.stages))


@settings(max_examples=15)
@given(st.data())
@pytest.mark.parametrize("backbone", all_backbones().values(), ids=lambda b: b.name)
def test_both_rules_agree_with_the_naive_loop(backbone, data):
    size, classes = data.draw(sizes(backbone)), data.draw(st.sampled_from((2, 10, 100)))
    image = data.draw(st.sampled_from((backbone.image, ImageShape(1, 8), ImageShape(3, 50))))
    layers = backbone.layers(classes, image)
    assert MACS.of(layers, size) == naive(backbone, size, classes, image, rule="I")
    assert MACS_SEARCH.of(layers, size) == naive(backbone, size, classes, image, rule="S")


@settings(max_examples=5)
@given(st.data())
@pytest.mark.parametrize("backbone", all_backbones().values(), ids=lambda b: b.name)
def test_at_full_depth_the_rules_differ_by_the_bias_alone(backbone, data):
    size = Size(data.draw(sizes(backbone)).widths, backbone.full.depths)
    layers = backbone.layers(100)
    assert MACS.of(layers, size) == MACS_SEARCH.of(layers, size) + 100
