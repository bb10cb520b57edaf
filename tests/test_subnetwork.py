"""A size taken out of the supernet: the supernet's own outputs, statistics taken anew, a score that tells."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tas_bench.backbones import all_backbones
from tas_bench.backbones.backbone import ImageShape
from tas_bench.data import Batches, Images, dataset_info, halves, load_train
from tas_bench.jobs import DataSpec
from tas_bench.search import SearchSettings
from tas_bench.subnetwork import SubNetwork, recalibrate, score
from tas_bench.supernet import Architecture, Sample, Supernet

BACKBONES = all_backbones()
KINDS = ("tiny", "resnet20", "resnet164", "resnet18", "resnet50", "mobilenet_v1", "mobilenet_v2")
DIGITS = dataset_info("digits")


def build(name, side=16):
    backbone = BACKBONES[name]
    torch.manual_seed(0)
    supernet = Supernet(backbone, backbone.space(), 5, ImageShape(3, side))
    for parameter in supernet.parameters():
        if parameter.dim() < 4:
            nn.init.normal_(parameter)
    return supernet


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", KINDS)
def test_it_computes_what_the_supernet_computes_at_that_size(name):
    supernet, rng = build(name, side=64), np.random.default_rng(0)
    x = torch.randn(4, 3, 64, 64)
    for _ in range(2):
        indices = supernet.space.sample_indices(rng, 1)[0]
        with torch.no_grad():
            expected = supernet(x, Sample.of(indices, len(supernet.space.widths)))
            network = SubNetwork(supernet, supernet.space.size(indices)).train()
            with FlopCounterMode(display=False) as counter:
                found = network(x)
            assert supernet.macs == counter.get_total_flops() // (2 * len(x))
        assert torch.allclose(found, expected, rtol=1e-8, atol=1e-8)
        assert expected.std() > 1e-3


@pytest.mark.usefixtures("float64")
def test_a_single_candidate_is_a_sample_like_any_other():
    supernet = build("tiny")
    architecture = Architecture(supernet.space)
    x = torch.randn(4, 3, 16, 16)
    drawn = architecture.sample(SearchSettings(samples=1, depth_samples=1), 1.0)
    indices = [*(p[0] for p in drawn.picks), *(p[0] for p in drawn.depth_picks)]
    if all(j < len(row) for j, row in zip(indices, supernet.space.rows, strict=True)):
        assert torch.equal(supernet(x, drawn), supernet(x, Sample.of(indices, len(supernet.space.widths))))


def images(n, side=8):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (n, 1, side, side), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.randint(0, 10, (n,), generator=generator))


def test_statistics_are_those_of_the_calibration_images():
    """Of one batch: mean and unbiased variance of every norm's input. Of several: the mean over batches."""
    torch.manual_seed(0)
    backbone = BACKBONES["tiny"]
    supernet = Supernet(backbone, backbone.space(), 10, DIGITS.image)
    network = SubNetwork(supernet, backbone.full)
    one, two = (Batches(images(60), DIGITS, n, augment=False) for n in (60, 20))
    recalibrate(network, one, "float32")
    [(x, _)] = one
    out = network.stem[0](x)
    assert torch.allclose(network.stem[1].running_mean, out.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(network.stem[1].running_var, out.var((0, 2, 3)), rtol=1e-5)
    recalibrate(network, two, "float32")
    parts = [network.stem[0](part).var((0, 2, 3)) for part, _ in two]
    assert torch.allclose(network.stem[1].running_var, torch.stack(parts).mean(0), rtol=1e-5)


def test_a_score_is_the_accuracy_with_those_statistics_and_leaves_the_supernet_alone():
    torch.manual_seed(0)
    backbone = BACKBONES["tiny"]
    supernet = Supernet(backbone, backbone.space(), 10, DIGITS.image)
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    calibration, judged = (
        Batches(images(200), DIGITS, 50, augment=False),
        Batches(images(200), DIGITS, 64, augment=False),
    )
    found = score(supernet, backbone.full, calibration, judged, "float32")
    network = SubNetwork(supernet, backbone.full)
    recalibrate(network, calibration, "float32")
    network.eval()
    with torch.no_grad():
        hits = sum(int((network(x).argmax(1) == y).sum()) for x, y in judged)
    assert found == hits / 200
    assert all(torch.equal(before[k], v) for k, v in supernet.state_dict().items())


@pytest.mark.slow
def test_a_supernet_ranks_a_size_it_was_trained_at_above_an_untrained_one():
    """Trained at one size only, on digits: that one classifies, the smallest does not."""
    torch.manual_seed(0)
    spec = DataSpec(name="digits")
    train, val = halves(load_train(spec, None), spec)
    backbone = BACKBONES["tiny"]
    space = backbone.space()
    supernet = Supernet(backbone, space, 10, DIGITS.image)
    trained = [4] * len(space.widths) + [1, 1]
    sample = Sample.of(trained, len(space.widths))
    optimizer = torch.optim.SGD(supernet.parameters(), 0.1, momentum=0.9)
    batches = Batches(train, DIGITS, 64, augment=True, generator=torch.Generator().manual_seed(0))
    for _ in range(15):
        for x, y in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(supernet(x, sample), y).backward()
            optimizer.step()
    calibration, judged = (Batches(part, DIGITS, 256, augment=False) for part in (train, val))
    known, other = (
        score(supernet, space.size(indices), calibration, judged, "float32")
        for indices in (trained, [0] * len(space.rows))
    )
    assert known > 0.8
    assert other < known - 0.2
