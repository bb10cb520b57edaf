"""The supernet against a second writing of it, and at one candidate per row against the deployed network."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tas_bench.backbones.backbone import Backbone, BlockConv, ImageShape, Stage
from tas_bench.backbones.cifar_resnet import BASIC, BOTTLENECK, RESNET20
from tas_bench.backbones.imagenet_resnet import RESNET18, RESNET50
from tas_bench.backbones.mobilenet import DEPTHWISE, MOBILENET_V1, MOBILENET_V2, SEPARABLE
from tas_bench.backbones.tiny import TINY
from tas_bench.layers import DepthwiseConv
from tas_bench.network import Network, Shortcut
from tas_bench.search import SearchSettings
from tas_bench.space import Size, SizeSpace
from tas_bench.supernet import Architecture, Supernet, discrepancies, entropies

WIDE = Backbone("wide", 6, BOTTLENECK, (Stage(4, 1, (1, 3)), Stage(8, 2, (1, 2))), mismatch_norm=False)
FLAT = Backbone("flat", 6, BASIC, (Stage(6, 1, (1, 2)), Stage(6, 1, (2,))), mismatch_norm=True)
STEM = Backbone(
    "stem", 6, BASIC, (Stage(6, 1, (1, 2)), Stage(8, 2, (2,))), mismatch_norm=True, stride_norm=True,
    stem_kernel=7, stem_stride=2, stem_pool=True,
)  # fmt: skip
PLAIN = Backbone(
    "plain", 6, SEPARABLE, (Stage(6, 1, (1, 2)), Stage(8, 2, (1, 2))), mismatch_norm=True, shortcuts="none"
)  # fmt: skip
INVERTED = Backbone(
    "inverted", 6, (BlockConv(1, expansion=2, of_input=True), DEPTHWISE, BlockConv(1)),
    (Stage(4, 1, (1,), block=SEPARABLE), Stage(6, 2, (1, 2)), Stage(8, 1, (1,))), mismatch_norm=True,
    shortcuts="identity", activation="relu6", linear_blocks=True, head_width=9,
)  # fmt: skip
IMAGE, TAU = ImageShape(2, 8), 0.8


pytestmark = pytest.mark.usefixtures("float64")


def how(samples, **settings):
    return SearchSettings(samples=samples, **settings)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def build(backbone, space, classes=5, seed=0, alignment="cwi"):
    """A supernet whose norms and classifier are not as they start, an architecture, images."""
    torch.manual_seed(seed)
    supernet, architecture = Supernet(backbone, space, classes, IMAGE, alignment), Architecture(space)
    for name, parameter in supernet.named_parameters():
        if not name.endswith("weight") or "classifier" in name:
            nn.init.normal_(parameter)
    nn.init.normal_(architecture.logits)
    return supernet, architecture, torch.randn(3, IMAGE.channels, IMAGE.side, IMAGE.side)


class Again:
    """Equations 2 to 5 written a second time: row by row, candidate by candidate, in their own order."""

    def __init__(self, supernet, backbone, space, logits, seed, how):
        self.net, self.backbone, self.space, self.logits, self.how = supernet, backbone, space, logits, how
        convs, generator = len(space.widths), seeded(seed)
        rows, most = len(space.rows), max(map(len, space.rows))
        counts = (
            (convs, rows - convs) if how.selection == "mixture" else (convs, convs, rows - convs, rows - convs)
        )
        noise = [-(-torch.rand(n, most, generator=generator).log()).log() for n in counts]
        if how.selection == "mixture":
            self.draw_noise = torch.cat(noise)
        else:
            self.noise, self.draw_noise = torch.cat(noise[::2]), torch.cat(noise[1::2])

    def hat(self, row):
        """Logits of p^ (Equation 3) of a row's own candidates."""
        n = len(self.space.rows[row])
        p = self.logits[row, :n].exp() / self.logits[row, :n].exp().sum()
        return p.log() if self.how.selection == "mixture" else (p.log() + self.noise[row, :n]) / TAU

    def picks(self, row, samples):
        """The candidates drawn from p^ without replacement: largest log p^ + fresh noise."""
        keys = self.hat(row).detach().log_softmax(0) + self.draw_noise[row, : len(self.space.rows[row])]
        return keys.argsort(descending=True)[:samples].tolist()

    def align(self, x, channels):
        """A feature map with that many channels, by torch's own means."""
        if self.net.alignment == "pad":
            return torch.cat([x, torch.zeros(len(x), channels - x.shape[1], *x.shape[2:])], dim=1)
        if self.net.alignment == "linear":
            return F.interpolate(x[:, None], (channels, *x.shape[2:]), mode="trilinear")[:, 0]
        return F.adaptive_avg_pool3d(x, (channels, *x.shape[2:]))

    def conv(self, module, row, x):
        """Equation 4."""
        picks, logits = self.picks(row, self.how.samples), self.hat(row)
        stride, kernel = module.stride, module.weight.shape[-1]
        full = F.conv2d(x, module.weight[:, : x.shape[1]], stride=stride, padding=(kernel - 1) // 2)
        widest = max(self.space.rows[row][j] for j in picks)
        total = 0
        for j in picks:
            c, weight = self.space.rows[row][j], logits[j].exp() / logits[picks].exp().sum()
            mean = full[:, :c].mean((0, 2, 3), keepdim=True)
            var = full[:, :c].var((0, 2, 3), correction=0, keepdim=True)
            gamma, beta = (t[j, :c, None, None] for t in (module.gamma, module.beta))
            normed = gamma * (full[:, :c] - mean) / (var + 1e-5).sqrt() + beta
            total = total + weight * self.align(normed, widest)
        return total

    def depthwise(self, module, x):
        """Channel by channel; batch norm."""
        planes = []
        for c in range(x.shape[1]):
            plane = F.conv2d(x[:, c : c + 1], module.weight[c : c + 1], stride=module.stride, padding=1)
            normed = (plane - plane.mean()) / (plane.var(correction=0) + 1e-5).sqrt()
            planes.append(module.gamma[c] * normed + module.beta[c])
        return torch.cat(planes, dim=1)

    def act(self, x):
        return x.clamp(0, 6) if self.backbone.activation == "relu6" else x.relu()

    def __call__(self, x):
        place = itertools.count()
        x = self.act(self.conv(self.net.convs[0], next(place), x))
        if self.backbone.stem_pool:
            x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
        unpruned = self.backbone.stem_width
        for s, stage in enumerate(self.backbone.stages):
            outputs = []
            for b in range(stage.blocks):
                branch = x
                for p, part in enumerate(stage.block or self.backbone.block):
                    branch = self.act(branch) if p > 0 else branch
                    if part.depthwise:
                        branch = self.depthwise(self.net.depthwise[f"{s}-{b}-{p}"], branch)
                        continue
                    row = next(place)
                    branch = self.conv(self.net.convs[row], row, branch)
                stride = stage.stride if b == 0 else 1
                unequal = stride == 2 or unpruned != stage.width * part.expansion
                if unequal and self.backbone.shortcuts == "all":
                    pooled = F.avg_pool2d(x, 2) if stride == 2 else x
                    x = self.conv(self.net.shortcuts[f"{s}-{b}"], row, pooled)
                unpruned = stage.width * part.expansion
                if self.backbone.shortcuts == "all" or (self.backbone.shortcuts == "identity" and not unequal):
                    branch = sum_of(x, branch)
                x = branch if self.backbone.linear_blocks else self.act(branch)
                outputs += [x] if b + 1 in self.space.depths[s] else []
            x = self.mix(len(self.space.widths) + s, outputs)
        if self.backbone.head_width:
            row = next(place)
            x = self.act(self.conv(self.net.convs[row], row, x))
        features = x.mean((2, 3))
        classifier = self.net.classifier
        return features @ classifier.weight[:, : features.shape[1]].T + classifier.bias

    def mix(self, row, outputs):
        """Equation 5."""
        depths = self.how.depth_samples or len(outputs)
        picks, q_hat = self.picks(row, depths), self.hat(row).exp()
        widest = max(outputs[j].shape[1] for j in picks)
        return sum(q_hat[j] / q_hat[picks].sum() * self.align(outputs[j], widest) for j in picks)


def sum_of(a, b):
    """Channel by channel; what one of them has not is zero."""
    channels = [[t[:, c] for t in (a, b) if c < t.shape[1]] for c in range(max(a.shape[1], b.shape[1]))]
    return torch.stack([sum(parts) for parts in channels], dim=1)


CASES = [  # as many samples as some row has candidates, at most
    pytest.param(backbone, search, samples, id=f"{backbone.name} {search} {samples}")
    for backbone in (TINY, WIDE, FLAT, STEM, PLAIN, INVERTED)
    for search in ("W", "D", "WD")
    for samples in (1, 2, 3, 8)
    if samples <= max(len(row) for row in backbone.space(search).rows)
]


@pytest.mark.parametrize(("backbone", "search", "samples"), CASES)
def test_forward_and_gradients_are_those_of_the_second_writing(backbone, search, samples):
    ours, _ = compare(backbone, how(samples, search=search), 0)
    assert ours[0].abs().max() > 1e-3 or (samples, search) == (1, "W")


VARIANTS = {
    "no interpolation": ({}, "pad"),
    "linear interpolation": ({}, "linear"),
    "two depths": ({"depth_samples": 2}, "cwi"),
    "one depth": ({"depth_samples": 1}, "cwi"),
    "mixture": ({"selection": "mixture"}, "cwi"),
    "full mixture": ({"selection": "mixture", "samples": 8}, "cwi"),
    "mixture, no interpolation": ({"selection": "mixture"}, "pad"),
    "all at once": ({"selection": "mixture", "depth_samples": 2, "samples": 3}, "linear"),
}
DEEP = Backbone("deep", 6, BASIC, (Stage(6, 1, (1, 2, 3)), Stage(8, 2, (1, 2))), mismatch_norm=True)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed > 0)) for seed in range(3)])
@pytest.mark.parametrize(("settings", "alignment"), VARIANTS.values(), ids=VARIANTS)
def test_ablations_are_those_of_the_second_writing(settings, alignment, seed):
    settings = how(**{"samples": 2} | settings)
    _, net = compare(DEEP, settings, seed, alignment)
    drawn = net.architecture.sample(settings, TAU, seeded(seed))
    assert [len(picks) for picks in drawn.depth_picks] == [settings.depth_samples or 3] * 2


def compare(backbone, settings, seed, alignment="cwi"):
    """Value and every gradient; the gradients of A first."""
    space = backbone.space(settings.search)
    supernet, architecture, x = build(backbone, space, seed=seed, alignment=alignment)
    found = supernet(x, architecture.sample(settings, TAU, seeded(seed)))
    again = Again(supernet, backbone, space, architecture.logits, seed, settings)
    again.architecture = architecture
    expected = again(x)
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-8)

    inputs = [architecture.logits, *supernet.parameters()]
    cotangent = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(y, inputs, cotangent, allow_unused=True) for y in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        zero = torch.zeros(())
        assert torch.allclose(zero if a is None else a, zero if b is None else b, rtol=1e-6, atol=1e-8)
    return ours, again


def only(size):
    """The space of that size alone."""
    return SizeSpace(tuple((w,) for w in size.widths), tuple((d,) for d in size.depths))


def deployed(backbone, size, supernet):
    """The deployed network with the supernet's weights, and a norm on its every shortcut as the supernet has."""
    network = Network(backbone, size, 5, IMAGE).train()
    for module in network.modules():
        if isinstance(module, Shortcut):
            module[1][1] = nn.BatchNorm2d(module[1][0].out_channels)
    pairs = [(network.stem, supernet.convs[0])]
    for s, b in ((s, b) for s, depth in enumerate(size.depths) for b in range(depth)):
        block, first = network.stages[s][b], backbone.conv_index(s, b, 0)
        own = iter(supernet.convs[first:])
        pairs += [
            (conv, supernet.depthwise[f"{s}-{b}-{p}"] if conv[0].groups > 1 else next(own))
            for p, conv in enumerate(block.convs)
        ]
        if isinstance(block.shortcut, Shortcut):
            pairs.append((block.shortcut[1], supernet.shortcuts[f"{s}-{b}"]))
    pairs += [(network.head[0], supernet.convs[-1])] if backbone.head_width else []
    with torch.no_grad():
        for (conv, norm), elastic in pairs:
            conv.weight.copy_(elastic.weight[: conv.out_channels, : conv.in_channels])
            depthwise = isinstance(elastic, DepthwiseConv)
            norm.weight.copy_(elastic.gamma[: conv.out_channels] if depthwise else elastic.gamma[0])
            norm.bias.copy_(elastic.beta[: conv.out_channels] if depthwise else elastic.beta[0])
        network.classifier.weight.copy_(supernet.classifier.weight[:, : network.classifier.in_features])
        network.classifier.bias.copy_(supernet.classifier.bias)
    return network


SINGLE = {  # each stage's outputs equally wide, so that no identity is mismatched
    "unpruned": (TINY, TINY.full),
    "pruned": (TINY, Size((5, 3, 5, 8, 5, 9, 11, 4, 11), (2, 2))),
    "cut": (TINY, Size((5, 3, 5, 8, 5, 9, 11, 4, 11), (1, 1))),
    "strided stem": (STEM, Size((5, 3, 5, 6, 5, 8, 7, 4, 7), (2, 2))),
    "no shortcut": (FLAT, Size((4, 2, 4, 6, 4, 5, 4, 3, 4), (2, 2))),
    "depthwise": (PLAIN, Size((5, 4, 4, 7, 7), (2, 2))),
    "depthwise cut": (PLAIN, Size((5, 4, 6, 7, 8), (1, 1))),
    "inverted": (INVERTED, Size((5, 3, 7, 5, 9, 5, 11, 7, 8), (1, 2, 1))),
    "inverted cut": (INVERTED, Size((5, 3, 7, 5, 9, 6, 11, 7, 8), (1, 1, 1))),
    "bottleneck": (WIDE, Size((5, 4, 2, 13, 1, 2, 13, 3, 3, 13, 6, 7, 20, 8, 2, 20), (3, 2))),
    "bottleneck cut": (WIDE, Size((5, 4, 2, 13, 1, 2, 13, 3, 3, 13, 6, 7, 20, 8, 2, 20), (1, 2))),
}


@pytest.mark.parametrize(("backbone", "size"), SINGLE.values(), ids=SINGLE)
def test_of_one_candidate_each_it_is_the_deployed_network(backbone, size):
    supernet, architecture, x = build(backbone, only(size))
    network = deployed(backbone, size, supernet)
    found, expected = supernet(x, architecture.sample(how(1), TAU)), network(x)
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-9)

    found.square().sum().backward()
    expected.square().sum().backward()
    stem = supernet.convs[0].weight.grad
    assert torch.allclose(stem, network.stem[0].weight.grad, rtol=1e-6, atol=1e-8)
    weights = [m.weight.grad for m in network.modules() if isinstance(m, nn.Conv2d)]
    modules = (*supernet.convs, *supernet.shortcuts.values(), *supernet.depthwise.values())
    elastic = [m.weight.grad for m in modules if m.weight.grad is not None]
    assert sum(g.square().sum() for g in elastic).item() == pytest.approx(
        sum(g.square().sum() for g in weights).item()
    )


def test_a_narrower_output_is_padded_with_zeros_where_the_deployed_network_has_a_convolution():
    """As in the released supernet, channels 3 to 5 of the second block are the first block's, through ReLU."""
    size = Size((6, 4, 6, 4, 3), (2,))
    flat = Backbone("one stage", 6, BASIC, (Stage(6, 1, (2,)),), mismatch_norm=True)
    supernet, architecture, x = build(flat, only(size))
    sample = architecture.sample(how(1), TAU)
    with torch.no_grad():
        supernet.classifier.weight.copy_(torch.eye(6)[:5])
        supernet.classifier.bias.zero_()
        padded = supernet(x, sample)
        for module in supernet.convs[3:]:
            module.gamma.zero_()
            module.beta.zero_()
        without_second_block = supernet(x, sample)
    assert torch.allclose(padded[:, 3:], without_second_block[:, 3:])
    assert not torch.allclose(padded[:, :3], without_second_block[:, :3], atol=1e-3)


def test_it_starts_with_a_small_classifier_and_a_norm_on_every_shortcut():
    supernet = Supernet(RESNET20, RESNET20.space(), 100, ImageShape())
    assert supernet.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not supernet.classifier.bias.any()
    assert supernet.shortcuts.keys() == {"1-0", "2-0"}
    assert supernet.shortcuts["1-0"].gamma.shape == (8, 32)


@pytest.mark.parametrize("backbone", [RESNET18, RESNET50, MOBILENET_V1, MOBILENET_V2], ids=lambda b: b.name)
def test_imagenet_networks_at_a_small_side(backbone):
    torch.manual_seed(0)
    space = backbone.space()
    supernet, architecture = Supernet(backbone, space, 10, ImageShape(3, 64)), Architecture(space)
    logits = supernet(torch.randn(2, 3, 64, 64), architecture.sample(how(2), TAU))
    logits.square().sum().backward()
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    gradient = architecture.logits.grad
    assert gradient.isfinite().all()
    choices = torch.from_numpy(space.counts > 1)
    assert torch.equal(gradient.any(1), choices)  # all widths; all depths but those of stages of one block


# ---- what it costs


@pytest.mark.parametrize("backbone", [TINY, WIDE, STEM, DEEP, PLAIN, INVERTED], ids=lambda b: b.name)
@pytest.mark.parametrize("search", ["D", "W", "WD"])
def test_macs_are_those_of_torchs_counter(backbone, search):
    supernet, architecture, x = build(backbone, backbone.space(search))
    for seed in range(2):
        sample = architecture.sample(how(2, depth_samples=1 + seed % 2), TAU, seeded(seed))
        with FlopCounterMode(display=False) as counter:
            supernet(x, sample)
        assert supernet.macs == counter.get_total_flops() // (2 * len(x))


# ---- architecture parameters


def test_architecture_starts_undecided_and_knows_what_is_missing():
    space = RESNET20.space()
    torch.manual_seed(0)
    architecture = Architecture(space)
    assert architecture.logits.shape == (19 + 3, 8)
    assert architecture.logits.std().item() == pytest.approx(0.01, rel=0.15)
    log_p = architecture.log_p()
    for row, logits, found in zip(space.rows, architecture.logits, log_p, strict=True):
        p = logits[: len(row)].exp()
        assert torch.allclose(found[: len(row)].exp(), p / p.sum())
        assert (found[len(row) :] == -torch.inf).all()


def test_samples_of_short_rows_stay_inside_them_and_depths_take_all_candidates():
    space = SizeSpace(((2, 4, 8), (6,), (3, 5)), ((1, 2), (1,)))
    sample = Architecture(space).sample(how(3), TAU, seeded(0))
    assert [set(picks) for picks in sample.picks] == [{0, 1, 2}, {0}, {0, 1}]
    for row, (picks, weights) in enumerate(zip(sample.picks, sample.weights, strict=True)):
        assert weights.sum().item() == pytest.approx(1)
        assert (weights > 0).sum() == len(set(picks)) == len(space.widths[row])
    assert torch.allclose(sample.depth_weights.sum(1), torch.ones(2))
    assert (sample.depth_weights > 0).tolist() == [[True, True], [True, False]]


def test_what_is_missing_gets_no_gradient():
    space = TINY.space()
    architecture = Architecture(space)
    sample = architecture.sample(how(8), TAU, seeded(0))
    (sample.weights.square().sum() + sample.depth_weights.square().sum()).backward()
    missing = architecture.missing
    assert missing.sum() == 5 + 2 * 6
    assert not architecture.logits.grad[missing].any()
    assert architecture.logits.grad[~missing].all()


def test_discrepancy_and_entropy_of_a_row():
    p = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.1, 0.0, 0.9]])
    assert discrepancies(p).tolist() == pytest.approx([0.5, 0.0, 1.0, 0.8])
    by_hand = [-sum(x * math.log(x) for x in row if x) for row in p.tolist()]
    assert entropies(p).tolist() == pytest.approx(by_hand)
    assert discrepancies(p[2:3, :1]).tolist() == [1.0]
