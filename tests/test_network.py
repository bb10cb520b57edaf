"""The deployed network: its shortcuts (as the released deployment code has them), its shapes, its arithmetic."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tas_bench.backbones.backbone import ImageShape
from tas_bench.backbones.cifar_resnet import RESNET20, RESNET164
from tas_bench.backbones.imagenet_resnet import RESNET18, RESNET50
from tas_bench.backbones.tiny import TINY
from tas_bench.errors import InputError
from tas_bench.network import Network, Shortcut, fold_norms
from tas_bench.space import Size


def shortcut(network, stage, block):
    return network.stages[stage][block].shortcut


def with_width(backbone, stage, block, width):
    """The full size, but for the output width of one block."""
    i = backbone.conv_index(stage, block)
    widths = backbone.full.widths
    return Size((*widths[:i], width, *widths[i + 1 :]), backbone.full.depths)


@pytest.mark.parametrize("backbone", [RESNET20, RESNET164], ids=lambda b: b.name)
@pytest.mark.parametrize("stage", [1, 2])
def test_stride_two_is_an_average_pooling_and_a_convolution_without_norm(backbone, stage):
    network = Network(backbone, backbone.full, 10)
    pool, (conv, norm) = shortcut(network, stage, 0)
    assert (pool.kernel_size, pool.stride) == (2, 2)
    assert (conv.kernel_size, conv.stride, conv.bias) == ((1, 1), (1, 1), None)
    assert isinstance(norm, nn.Identity)

    x = torch.rand(2, conv.in_channels, 8, 8)
    by_hand = F.conv2d(
        (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4, conv.weight
    )
    assert torch.allclose(shortcut(network, stage, 0)(x), by_hand, atol=1e-5)


@pytest.mark.parametrize(("backbone", "norm"), [(RESNET20, nn.BatchNorm2d), (RESNET164, nn.Identity)])
def test_width_mismatch_is_repaired_with_norm_in_basic_blocks_only(backbone, norm):
    network = Network(backbone, with_width(backbone, 1, 1, 19), 10)
    for block in (1, 2):  # into the odd width, and out of it
        pool, (conv, found) = shortcut(network, 1, block)
        assert isinstance(pool, nn.Identity)
        assert conv.kernel_size == (1, 1)
        assert 19 in (conv.in_channels, conv.out_channels)
        assert type(found) is norm


@pytest.mark.parametrize("backbone", [RESNET18, RESNET50], ids=lambda b: b.name)
def test_a_norm_follows_every_convolution_of_an_imagenet_network(backbone):
    with torch.device("meta"):
        network = Network(backbone, with_width(backbone, 1, 1, 19), 10)
    blocks = {(s, b): block for s, stage in enumerate(network.stages) for b, block in enumerate(stage)}
    shortcuts = {place: x.shortcut for place, x in blocks.items() if isinstance(x.shortcut, Shortcut)}
    strided = {(1, 0), (2, 0), (3, 0)}
    others = {(1, 1)} if backbone is RESNET18 else {(0, 0), (1, 1), (1, 2)}  # with its odd width, and out of it
    assert shortcuts.keys() == strided | others
    for place, (pool, (conv, norm)) in shortcuts.items():
        assert type(pool) is (nn.AvgPool2d if place in strided else nn.Identity)
        assert (conv.kernel_size, conv.stride) == ((1, 1), (1, 1))
        assert type(norm) is nn.BatchNorm2d


def test_imagenet_stem_and_pooling():
    torch.manual_seed(0)
    network, x = Network(RESNET18, RESNET18.full, 10).eval(), torch.randn(2, 3, 32, 32)
    stem = F.relu(F.conv2d(x, network.stem[0].weight, stride=2, padding=3) / math.sqrt(1 + 1e-5))
    assert stem.shape == (2, 64, 16, 16)
    features = F.max_pool2d(F.pad(stem, (1, 1, 1, 1)), 3, 2)  # zeros are no maximum but of zeros
    for stage in network.stages:
        features = stage(features)
    assert features.shape == (2, 512, 1, 1)
    assert torch.allclose(network(x), network.classifier(features.mean((2, 3))), atol=1e-5)


@pytest.mark.parametrize("backbone", [RESNET20, RESNET164], ids=lambda b: b.name)
def test_equal_widths_are_joined_by_identity(backbone):
    network = Network(backbone, backbone.full, 10)
    convs = [
        (s, b)
        for s in range(3)
        for b, block in enumerate(network.stages[s])
        if isinstance(block.shortcut, Shortcut)
    ]
    # the bottleneck widens 16 to 64 already in its first block
    assert convs == ([(1, 0), (2, 0)] if backbone is RESNET20 else [(0, 0), (1, 0), (2, 0)])
    assert all(type(shortcut(network, 0, b)) is nn.Identity for b in (1, 2))


def test_unequal_unpruned_widths_keep_their_convolution_when_pruned_to_equal():
    """Rule S and I charge it, so the network has it."""
    network = Network(RESNET164, with_width(RESNET164, 0, 0, 16), 10)
    _, (conv, norm) = shortcut(network, 0, 0)
    assert (conv.in_channels, conv.out_channels) == (16, 16)
    assert isinstance(norm, nn.Identity)


def test_block_is_relu_of_the_sum():
    torch.manual_seed(0)
    block = Network(TINY, TINY.full, 10).eval().stages[0][0]
    x = torch.randn(2, 8, 8, 8)
    first, second = (conv[0].weight for conv in block.convs)
    inner = F.conv2d(F.relu(F.conv2d(x, first, padding=1) / math.sqrt(1 + 1e-5)), second, padding=1)
    assert torch.allclose(block(x), F.relu(inner / math.sqrt(1 + 1e-5) + x), atol=1e-5)


def test_network_is_stem_stages_mean_classifier():
    torch.manual_seed(0)
    network, x = Network(TINY, TINY.full, 10).eval(), torch.randn(2, 3, 32, 32)
    features = F.relu(network.stem(x))
    for stage in network.stages:
        features = stage(features)
    assert features.shape == (2, 16, 16, 16)
    assert torch.equal(network(x), network.classifier(features.mean((2, 3))))


def test_small_grey_images_train():
    torch.manual_seed(0)
    network = Network(TINY, Size((3, 5, 4, 8, 8, 7, 6, 2, 6), (1, 2)), 5, ImageShape(1, 8))
    logits = network(torch.randn(4, 1, 8, 8))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_depths_are_the_numbers_of_blocks():
    network = Network(RESNET20, Size(RESNET20.full.widths, (1, 3, 2)), 10)
    assert [len(stage) for stage in network.stages] == [1, 3, 2]


def test_initialisation():
    torch.manual_seed(0)
    network = Network(RESNET20, RESNET20.full, 100)
    conv = network.stages[2][0].convs[0][0]  # from 32 channels to 64: by fan-out
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.03)
    assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not network.classifier.bias.any()


def test_misfit_is_refused():
    with pytest.raises(InputError, match="tiny has 9 widths, the size has 8"):
        Network(TINY, Size(TINY.full.widths[1:], TINY.full.depths), 10)


def test_odd_image_sides_round_up_as_the_costs_do():
    image = ImageShape(3, 7)
    network = Network(TINY, TINY.full, 10, image)
    assert network(torch.zeros(2, 3, 7, 7)).shape == (2, 10)


@pytest.mark.parametrize("backbone", [TINY, RESNET164], ids=lambda b: b.name)
def test_folded_norms_compute_the_same(backbone):
    torch.manual_seed(0)
    network = Network(backbone, backbone.full, 10, ImageShape(3, 16))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    network.eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = network(x)
        fold_norms(network)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
        torch.testing.assert_close(network(x), before, rtol=1e-3, atol=1e-3 * before.abs().max().item())
