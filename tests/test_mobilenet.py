"""MobileNets: published figures, torchvision's V2, a V1 written by hand, and what pruning does to their blocks."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tas_bench.backbones.backbone import Conv, ImageShape
from tas_bench.backbones.mobilenet import MOBILENET_V1, MOBILENET_V2
from tas_bench.costs.macs import MACS
from tas_bench.costs.macs_search import MACS_SEARCH
from tas_bench.costs.params import PARAMS
from tas_bench.data.vision import torchvision
from tas_bench.layers import DepthwiseConv, padded_sum
from tas_bench.network import Network, Shortcut
from tas_bench.space import Size
from tas_bench.testing import check_backbone
from tas_bench.transfer.init import Init

BOTH = pytest.mark.parametrize("backbone", [MOBILENET_V1, MOBILENET_V2], ids=lambda b: b.name)


class PlainV1(nn.Sequential):
    """Table 1 of Howard et al. 2017, row by row."""

    ROWS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))

    def __init__(self, classes):
        rows, c_in = [*self.conv(3, 32, 3, stride=2, padding=1)], 32
        for c_out, stride in self.ROWS:
            rows += self.conv(c_in, c_in, 3, stride=stride, padding=1, groups=c_in)
            rows += self.conv(c_in, c_out, 1)
            c_in = c_out
        super().__init__(*rows, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, classes))

    @staticmethod
    def conv(*args, **kwargs):
        conv = nn.Conv2d(*args, **kwargs, bias=False)
        return conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()


def torchvision_v2(classes):
    return torchvision("models").mobilenet_v2(num_classes=classes)


SAME = pytest.mark.parametrize(
    ("backbone", "plain"), [(MOBILENET_V1, PlainV1), (MOBILENET_V2, torchvision_v2)], ids=["v1", "v2"]
)
"""Each beside a plain writing of it."""


@pytest.mark.parametrize(
    ("backbone", "macs", "params"),
    [(MOBILENET_V1, 568_740_352, 4_231_976), (MOBILENET_V2, 300_774_272, 3_504_872)],
    ids=lambda x: getattr(x, "name", None),
)
def test_unpruned(backbone, macs, params):
    """As published, without the bias of the classifier, which rule I counts."""
    layers = backbone.layers(1000)
    assert MACS.of(layers, backbone.full) == macs + 1000
    assert MACS_SEARCH.of(layers, backbone.full) == macs
    assert PARAMS.of(layers, backbone.full) == params


@SAME
def test_unpruned_costs_are_those_of_the_plain_network(backbone, plain):
    with torch.device("meta"):
        network = plain(1000).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 224, 224))
    layers = backbone.layers(1000)
    assert MACS.of(layers, backbone.full) == counter.get_total_flops() // 2 + 1000
    assert PARAMS.of(layers, backbone.full) == sum(p.numel() for p in network.parameters())


def randomise(network):
    """Batch norms away from their start, and wide enough for ReLU6 to clip."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1, 4)
            nn.init.uniform_(module.bias, -2, 3)
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 1, 2)
    return network.eval()


@SAME
@pytest.mark.parametrize("side", [32, 50])
def test_outputs_are_those_of_the_plain_network(backbone, plain, side):
    """With its weights, which come in the same order."""
    torch.manual_seed(0)
    theirs, ours = randomise(plain(10)), Network(backbone, backbone.full, 10).eval()
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        found, expected = ours(x), theirs(x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@BOTH
def test_contract_on_small_odd_sides(backbone):
    check_backbone(backbone, ImageShape(1, 33), classes=3)


def test_depths():
    assert MOBILENET_V1.space().depths == ((1,), (1, 2), (1, 2), (1, 3, 5, 6), (1, 2))
    assert MOBILENET_V2.space().depths == ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3), (1, 2, 3), (1,))


def test_convolutions_of_an_inverted_residual():
    """Six times the block's input, then to the stage's width; the depthwise one between has no width."""
    first = MOBILENET_V2.conv_index(2, 0, 0)
    assert MOBILENET_V2.convs[first : first + 4] == (
        Conv(6 * 24, 1, 1, 2, 0), Conv(32, 1, 1, 2, 0), Conv(6 * 32, 1, 1, 2, 1), Conv(32, 1, 1, 2, 1)
    )  # fmt: skip
    assert [(s.kernel, s.stride, s.row) for s in MOBILENET_V2.steps(2, 0)] == [
        (1, 1, first), (3, 2, None), (1, 1, first + 1)
    ]  # fmt: skip
    assert MOBILENET_V2.convs[-1] == Conv(1280, 1, 1, None, 0)


def shortcuts_of(backbone, size):
    with torch.device("meta"):
        network = Network(backbone, size, 10)
    blocks = {(s, b): block for s, stage in enumerate(network.stages) for b, block in enumerate(stage)}
    return {place: block.shortcut for place, block in blocks.items() if block.shortcut is not None}


def test_shortcuts_are_identities_after_the_first_block_of_a_stage():
    found = shortcuts_of(MOBILENET_V2, MOBILENET_V2.full)
    assert found.keys() == {(s, b) for s, stage in enumerate(MOBILENET_V2.stages) for b in range(1, stage.blocks)}
    assert {type(shortcut) for shortcut in found.values()} == {nn.Identity}
    assert shortcuts_of(MOBILENET_V1, MOBILENET_V1.full) == {}


def test_width_mismatch_is_repaired_with_norm_where_there_is_a_shortcut():
    widths = list(MOBILENET_V2.full.widths)
    widths[MOBILENET_V2.conv_index(3, 1)] = 40
    size = Size(tuple(widths), MOBILENET_V2.full.depths)
    repairs = {p: s for p, s in shortcuts_of(MOBILENET_V2, size).items() if isinstance(s, Shortcut)}
    assert repairs.keys() == {(3, 1), (3, 2)}  # into the odd width, and out of it
    for pool, (conv, norm) in repairs.values():
        assert isinstance(pool, nn.Identity)
        assert sorted((conv.in_channels, conv.out_channels)) == [40, 64]
        assert isinstance(norm, nn.BatchNorm2d)


def test_an_inverted_residual_ends_without_activation():
    """Written out: 1 x 1, ReLU6, depthwise 3 x 3, ReLU6, 1 x 1, plus the input."""
    torch.manual_seed(0)
    block = Network(MOBILENET_V2, MOBILENET_V2.full, 10).eval().stages[2][1]
    x, norm = 20 * torch.randn(2, 32, 5, 5), math.sqrt(1 + 1e-5)
    expand, depthwise, project = (conv[0].weight for conv in block.convs)
    assert depthwise.shape == (192, 1, 3, 3)
    y = (F.conv2d(x, expand) / norm).clamp(0, 6)
    planes = [F.conv2d(y[:, c : c + 1], depthwise[c : c + 1], padding=1) for c in range(192)]
    y = F.conv2d((torch.cat(planes, 1) / norm).clamp(0, 6), project) / norm
    assert torch.allclose(block(x), x + y, atol=1e-4)
    assert (block(x) < -6).any()


@BOTH
def test_pruned_networks_train(backbone):
    torch.manual_seed(0)
    size = backbone.space("WD", (0.1, 0.2)).sample(np.random.default_rng(0))
    network = Network(backbone, size, 5)
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@BOTH
def test_init_takes_the_leading_slice(backbone):
    torch.manual_seed(0)
    size = Size(tuple(max(1, w // 3) for w in backbone.full.widths), tuple(s.depths[0] for s in backbone.stages))
    teacher, student = Network(backbone, backbone.full, 5), Network(backbone, size, 5)
    Init().prepare(student, teacher)
    theirs = teacher.state_dict()
    for name, mine in student.state_dict().items():
        assert torch.equal(mine, theirs[name][tuple(map(slice, mine.shape))])
    inner = student.stages[1][0].convs[-2][0]
    assert inner.groups == inner.out_channels == inner.weight.shape[0] > inner.weight.shape[1]


# ---- their parts of the supernet


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution_takes_a_prefix_of_its_channels(stride):
    torch.manual_seed(0)
    layer, x = DepthwiseConv(7, 3, stride), torch.randn(3, 5, 9, 9)
    nn.init.normal_(layer.gamma)
    nn.init.normal_(layer.beta)
    found = layer(x)
    for c in range(5):
        plane = F.conv2d(x[:, c : c + 1], layer.weight[c : c + 1], stride=stride, padding=1)
        normed = (plane - plane.mean()) / (plane.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(found[:, c : c + 1], layer.gamma[c] * normed + layer.beta[c])
    assert layer.macs == 9 * 5 * found.shape[2] * found.shape[3]


def test_narrower_summand_is_padded_with_zeros():
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    for found in (padded_sum(a, b), padded_sum(b, a)):
        assert torch.equal(found[:, :3], a + b[:, :3])
        assert torch.equal(found[:, 3:], b[:, 3:])


def test_depthwise_convolution_under_autocast():
    layer = DepthwiseConv(4, 3, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(torch.randn(2, 4, 6, 6))
    assert found.dtype == torch.bfloat16
    found.float().square().sum().backward()
    assert layer.gamma.grad.dtype == torch.float32
