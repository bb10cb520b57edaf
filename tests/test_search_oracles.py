"""Searches whose answer is known: planted layers, no constraint, three budgets. Minutes: `make test-slow`."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tas_bench.backbones.backbone import Backbone, BlockConv, ImageShape, Stage
from tas_bench.data import Images
from tas_bench.fused import normalised_mix
from tas_bench.jobs import Context, DataSpec, Problem, Recipe
from tas_bench.layers import ElasticConv
from tas_bench.search.searcher import Searcher
from tas_bench.tas import Tas

pytestmark = pytest.mark.slow

USEFUL, EPOCHS = 4, 30
PLANTED = Backbone(
    "planted", 10, (BlockConv(3),), (Stage(10, 1, (1,)),), mismatch_norm=True, shortcuts="none",
)  # fmt: skip


class NoisyConv(ElasticConv):
    """Its channels from `USEFUL` on are noise, whatever comes in."""

    def forward(self, x, picks, weights_I):
        c_in, c_max = x.shape[1], max(self.candidates[j] for j in picks)
        out = F.conv2d(x, self.weight[:c_max, :c_in], padding=1)
        out = torch.cat([out[:, :USEFUL], torch.randn_like(out[:, USEFUL:])], dim=1)
        return normalised_mix(out, *self._affine(picks, weights_I, c_max))


def textures(n=1440):
    """Ten classes of 8 x 8 images: a 3 x 3 pattern each, repeated from a random place on, with noise."""
    rng = np.random.default_rng(0)
    patterns, labels = rng.random((10, 3, 3)), np.arange(n) % 10
    images = np.stack(
        [np.roll(np.tile(patterns[c], (4, 4)), rng.integers(0, 3, 2), (0, 1))[:8, :8] for c in labels]
    )
    pixels = (255 * np.clip(images + 0.1 * rng.normal(size=images.shape), 0, 1)).astype(np.uint8)
    return Images(torch.from_numpy(pixels[:, None]), torch.from_numpy(labels))


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_layer_is_cut_and_one_that_needs_all_its_channels_is_kept(tmp_path, monkeypatch, seed):
    """Two convolutions, then a classifier that reads class i off channel i: the second needs all ten channels.

    The first one's channels from the fifth on are noise. 40 % of the macs may stay: cutting either meets that.
    """
    monkeypatch.setattr("tas_bench.jobs.find_backbone", lambda _: PLANTED)
    monkeypatch.setattr("tas_bench.search.searcher.load_train", lambda *_: textures())
    problem = Problem(
        data=DataSpec(name="digits"), backbone_name="planted", classes=10, image=ImageShape(1, 8), keep=0.4, t=0.1,
        recipe=Recipe(batch=32, epochs=EPOCHS),
    )  # fmt: skip
    torch.manual_seed(seed)
    searcher = Searcher(problem, Tas(search_epochs=EPOCHS), seed, Context(results=tmp_path))
    searcher.supernet.convs[0].__class__ = NoisyConv
    with torch.no_grad():
        searcher.supernet.classifier.weight.copy_(5 * torch.eye(10))
    searcher.supernet.classifier.requires_grad_(False)
    for epoch in range(EPOCHS):
        curve = searcher.epoch(epoch)
    size = searcher.derive()["size"]
    print(
        seed,
        size,
        curve["val_accuracy"],
        searcher.trajectory(EPOCHS - 1)["discrepancies"],
        searcher.derive()["derived"],
    )
    noisy, needed = size.widths
    assert noisy <= USEFUL + 1
    assert needed >= 9
