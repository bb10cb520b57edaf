"""Init: every way to choose channels, on teachers that compute the same without the channels it should drop."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from tas_bench.backbones import all_backbones
from tas_bench.backbones.backbone import ImageShape
from tas_bench.backbones.cifar_resnet import BOTTLENECK, RESNET20, cifar_resnet
from tas_bench.backbones.imagenet_resnet import RESNET18, RESNET50
from tas_bench.backbones.mobilenet import MOBILENET_V1, MOBILENET_V2
from tas_bench.backbones.tiny import TINY
from tas_bench.errors import InputError
from tas_bench.network import Network, Shortcut
from tas_bench.settings import preset_names, setting_names, with_settings
from tas_bench.space import Size
from tas_bench.transfer.init import Init
from tas_bench.transfer.init_identity import InitIdentity
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch

IMAGE, CLASSES = ImageShape(1, 33), 5
PRESETS = Init.presets()


def shrunk(backbone, by=8):
    """The backbone with narrower stages."""
    stages = tuple(replace(stage, width=max(1, stage.width // by)) for stage in backbone.stages)
    widths = {"stem_width": max(1, backbone.stem_width // by), "head_width": backbone.head_width // by}
    return replace(backbone, stages=stages, **widths)


PLAIN = shrunk(MOBILENET_V1, by=4)
RESIDUAL = (
    TINY, shrunk(RESNET20, 2), shrunk(cifar_resnet("bottleneck", 3, BOTTLENECK), 4), shrunk(RESNET18),
    shrunk(RESNET50, 16), shrunk(MOBILENET_V2, 4),
)  # fmt: skip
ALL = tuple(backbone if backbone is TINY else shrunk(backbone) for backbone in all_backbones().values())


def by_backbone(*backbones):
    """Deep ones are left to `make test-slow`."""
    cases = [pytest.param(b, id=b.name, marks=[pytest.mark.slow] * (len(b.convs) > 50)) for b in backbones]
    return pytest.mark.parametrize("backbone", cases)


# ---------------------------------------------------------------- teachers with channels to spare


def streams(backbone):
    """Places in a size whose channels identities add up, in forward order; a place inside a block is alone."""
    found = [[0]]
    stream = found[0]
    for s, stage in enumerate(backbone.stages):
        for b in range(stage.blocks):
            *inner, last = (step.row for step in backbone.steps(s, b) if step.row is not None)
            found += [[row] for row in inner]
            if not backbone.has_shortcut(s, b) or backbone.joins_unequal(s, b):
                stream = []
                found.append(stream)
            stream.append(last)
    return [*found, [len(backbone.convs) - 1]] if backbone.head_width else found


def layers(backbone, network, depths):
    """Every convolution and its norm, the places of its outputs and its inputs, and whether it sets a width."""
    yield network.stem, 0, None, True
    now = 0
    for s, depth in enumerate(depths):
        for b in range(depth):
            block, before = network.stages[s][b], now
            for conv, step in zip(block.convs, backbone.steps(s, b), strict=True):
                if step.row is None:
                    yield conv, now, None, False
                else:
                    yield conv, step.row, now, True
                    now = step.row
            if isinstance(block.shortcut, Shortcut):
                yield block.shortcut[1], now, before, False
    if backbone.head_width:
        yield network.head[0], len(backbone.convs) - 1, now, True


def randomised(network):
    """Batch norms and classifier away from their start."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.8)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.fill_(7)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return network.eval()


class Spare:
    """A teacher that computes with some of its channels what it computes with all.

    Of every place it needs `kept`, as many as the size has there. All others are copies of these from which
    nothing goes on. All filters have an L1 norm of 1, then each is scaled, which its batch norm takes back:
    the first convolution of a stream says by far which channels are needed, and each after it says the opposite.
    """

    def __init__(self, backbone, size, shuffled, dead=False):
        torch.manual_seed(3)
        self.backbone, self.size, self.kept, self.source, self.scale = backbone, size, {}, {}, {}
        self.network = randomised(Network(backbone, backbone.full, CLASSES, IMAGE)).double()
        for rows in streams(backbone):
            self._choose(rows, shuffled)
        with torch.no_grad():
            for layer in layers(backbone, self.network, backbone.full.depths):
                self._set(*layer)
            for s, depth in enumerate(size.depths):
                for block in self.network.stages[s][depth:]:  # dropped: adds nothing
                    nn.init.zeros_(block.convs[-1][1].weight)
                    nn.init.zeros_(block.convs[-1][1].bias)
            self.last = [out for _, out, _, sets in layers(backbone, self.network, size.depths) if sets][-1]
            self.network.classifier.weight[:, self._spare(self.last)] = 0
            for norm, out in self._stream_norms() if dead else ():
                norm.weight[self._spare(out)] = 0
                norm.bias[self._spare(out)] = -1e3

    def _choose(self, rows, shuffled):
        wide = self.backbone.full.widths[rows[0]]
        order = torch.randperm(wide) if shuffled else torch.arange(wide)
        place = order.argsort()
        for row in rows:
            width = self.size.widths[row]
            self.kept[row] = order[:width].sort().values
            self.source[row] = order[place % width]
            first, opposite = 4 * len(rows) * (wide - place), 1 + (place >= width).long()
            self.scale[row] = (first if row == rows[0] else opposite).double()

    def _spare(self, row):
        spare = torch.ones(self.backbone.full.widths[row], dtype=torch.bool)
        spare[self.kept[row]] = False
        return spare

    def _set(self, module, out, into, sets_width):
        conv, norm = module
        if into is not None:
            conv.weight[:, self._spare(into)] = 0
        conv.weight /= conv.weight.abs().sum(dim=(1, 2, 3), keepdim=True)
        if isinstance(norm, nn.BatchNorm2d):  # so that no signal fades on its way
            norm.running_var *= conv.weight.square().sum(dim=(1, 2, 3))
            norm.running_mean *= norm.running_var.sqrt()
        for value in module.state_dict().values():
            if value.dim():
                value.copy_(value[self.source[out]])
        if sets_width:
            factor = self.scale[out]
            conv.weight *= factor[:, None, None, None]
            norm.running_mean *= factor
            norm.running_var.copy_(factor**2 * (norm.running_var + norm.eps) - norm.eps)

    def _stream_norms(self):
        """Batch norms of the places that share a stream: what they put out is added up, then rectified."""
        added = {row for rows in streams(self.backbone) if len(rows) > 1 for row in rows}
        for (_, norm), out, _, sets in layers(self.backbone, self.network, self.size.depths):
            if sets and out in added:
                yield norm, out

    def error_of(self, init):
        """How far a fresh student comes from the teacher, in standard deviations over images."""
        student = Network(self.backbone, self.size, CLASSES, IMAGE).double().eval()
        init.prepare(student, self.network)
        x = torch.randn(4, IMAGE.channels, IMAGE.side, IMAGE.side, dtype=torch.float64)
        with torch.no_grad():
            found, expected = student(x), self.network(x)
        scale = expected.std(dim=0).min().item()
        assert scale > 1e-4, "the image matters"
        return (found - expected).abs().max().item() / scale


EXACT, WRONG = 1e-9, 1
"""Rounding stays below the one (1e-11 was seen), a channel in a wrong place comes above the other (50 was)."""


def halves(backbone):
    """Half of every width."""
    return Size(tuple(max(1, w // 2) for w in backbone.full.widths), backbone.full.depths)


def falling(backbone):
    """Widths that fall along every stream: 1 x 1 convolutions where the teacher has identities."""
    widths = list(backbone.full.widths)
    for rows in streams(backbone):
        for i, row in enumerate(rows):
            widths[row] = max(1, widths[row] * (2 * len(rows) - 1 - i) // (2 * len(rows)))
    return Size(tuple(widths), backbone.full.depths)


def repairs(backbone, size):
    """Batch norms (or none) of the 1 x 1 convolutions that repair a width mismatch."""
    network = Network(backbone, size, CLASSES, IMAGE)
    return [
        block.shortcut[1][1]
        for s, stage in enumerate(network.stages)
        for b, block in enumerate(stage)
        if isinstance(block.shortcut, Shortcut) and not backbone.joins_unequal(s, b)
    ]


@by_backbone(PLAIN, *RESIDUAL)
def test_a_spare_channel_is_a_copy(backbone):
    """What the tests below rest on, seen where the classifier reads."""
    spare, seen = Spare(backbone, halves(backbone), shuffled=True), []
    spare.network.classifier.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    spare.network(torch.randn(2, 1, 33, 33, dtype=torch.float64))
    source = spare.source[spare.last]
    assert (source != torch.arange(len(source))).sum() == len(source) - spare.size.widths[spare.last] > 0
    torch.testing.assert_close(seen[0], seen[0][:, source], rtol=1e-9, atol=1e-12)


@by_backbone(PLAIN, *RESIDUAL)
def test_leading_keeps_the_function_where_the_needed_channels_come_first(backbone):
    for init in (PRESETS["leading"], PRESETS["leading-identity"]):
        assert Spare(backbone, halves(backbone), shuffled=False).error_of(init) < EXACT
        assert Spare(backbone, halves(backbone), shuffled=True).error_of(init) > WRONG


@pytest.mark.parametrize("name", ["l1", "l1-identity"])
def test_l1_keeps_the_function_wherever_they_are(name):
    for size in (halves(PLAIN), falling(PLAIN)):
        assert Spare(PLAIN, size, shuffled=True).error_of(PRESETS[name]) < EXACT


@by_backbone(*RESIDUAL)
def test_of_residual_networks_l1_needs_one_ranking_per_stream(backbone):
    spare = Spare(backbone, halves(backbone), shuffled=True)
    assert spare.error_of(PRESETS["l1-identity"]) < EXACT
    assert spare.error_of(PRESETS["l1"]) > WRONG


@by_backbone(*RESIDUAL)
def test_unequal_widths_keep_the_function_by_a_selection_matrix(backbone):
    size = falling(backbone)
    norms = {type(norm) for norm in repairs(backbone, size)}
    assert norms == {nn.BatchNorm2d if backbone.mismatch_norm else nn.Identity}
    for shuffled, channels in ((False, "leading"), (True, "l1")):
        spare = Spare(backbone, size, shuffled)
        assert spare.error_of(Init(channels, "identity")) < EXACT
        assert spare.error_of(Init(channels, "plain")) > WRONG


@by_backbone(*(b for b in RESIDUAL if not b.linear_blocks))
@pytest.mark.parametrize("seed", range(3))
def test_a_channel_may_come_back_after_a_narrow_block(backbone, seed):
    """Any widths and depths: where the student has not the channel, the teacher's is 0."""
    rng = np.random.default_rng(seed)
    widths = tuple(int(rng.integers((w + 1) // 2, w + 1)) for w in backbone.full.widths)
    size = Size(widths, tuple(int(rng.integers(1, s.blocks + 1)) for s in backbone.stages))
    assert any(a < b for rows in streams(backbone) for a, b in pairwise(widths[row] for row in rows))
    for shuffled, channels in ((False, "leading"), (True, "l1")):
        assert Spare(backbone, size, shuffled, dead=True).error_of(Init(channels, "identity")) < EXACT


@by_backbone(*RESIDUAL)
def test_a_stage_reads_the_last_block_that_is_left(backbone):
    """The dropped blocks of this teacher add nothing, and keep other channels than the last that is left."""
    size = replace(falling(backbone), depths=tuple(max(1, s.blocks - 1) for s in backbone.stages))
    for shuffled, channels in ((False, "leading"), (True, "l1")):
        assert Spare(backbone, size, shuffled).error_of(Init(channels, "identity")) < EXACT


# ---------------------------------------------------------------- the ranking


def test_l1_ranks_by_hand():
    """Norms 2, 3, 1, 3, 2, 0, 2, 2 (the signs do not matter): three are 1, 3 and, of the ties, the first."""
    teacher, student = (Network(TINY, size, CLASSES, IMAGE) for size in (TINY.full, Size((3, *[8] * 8), (2, 2))))
    with torch.no_grad():
        for c, norm in enumerate((2, 3, 1, 3, 2, 0, 2, 2)):
            teacher.stem[0].weight[c] = -norm / 9
        teacher.stem[0].weight[2, 0, 0, 0] *= -1
    Init("l1").prepare(student, teacher)
    assert torch.equal(student.stem[0].weight, teacher.stem[0].weight[[0, 1, 3]])


def norms_of(conv):
    return np.abs(conv[0].weight.detach().double().numpy()).sum(axis=(1, 2, 3))


def test_a_stream_ranks_by_the_sum_of_its_norms():
    """The stem belongs to the first stage; the 1 x 1 convolution that begins the second belongs to that."""
    torch.manual_seed(0)
    teacher = randomised(Network(TINY, TINY.full, CLASSES, IMAGE))
    student = Network(TINY, Size((4, 8, 4, 8, 4, 16, 7, 16, 7), (2, 2)), CLASSES, IMAGE)
    first, second = teacher.stages
    joining = second[0].shortcut[1]
    with torch.no_grad():
        joining[0].weight *= 5  # so that it has a say
    Init("l1", "identity").prepare(student, teacher)
    total = norms_of(teacher.stem) + norms_of(first[0].convs[1]) + norms_of(first[1].convs[1])
    kept = sorted(np.argsort(-total)[:4])
    assert torch.equal(student.stem[0].weight, teacher.stem[0].weight[kept])
    total = norms_of(joining) + norms_of(second[0].convs[1]) + norms_of(second[1].convs[1])
    last = sorted(np.argsort(-total)[:7])
    assert torch.equal(student.classifier.weight, teacher.classifier.weight[:, last])
    assert torch.equal(student.stages[1][0].shortcut[1][0].weight, joining[0].weight[last][:, kept])


# ---------------------------------------------------------------- all backbones


def untrained(backbone, size, seed):
    torch.manual_seed(seed)
    return Network(backbone, size, CLASSES, IMAGE).eval()


def some_size(backbone):
    """Any depths; widths of every kind, some beyond the teacher's."""
    rng = np.random.default_rng(0)
    widths = tuple(max(1, int(w * rng.choice((0.3, 0.7, 1, 1.2)))) for w in backbone.full.widths)
    return Size(widths, tuple(int(rng.integers(1, s.blocks + 1)) for s in backbone.stages))


def same(one, other):
    """Whether two networks have the same tensors, bit by bit."""
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@by_backbone(*ALL)
def test_at_full_size_every_option_is_the_teacher(backbone):
    teacher = randomised(untrained(backbone, backbone.full, 1))
    x = torch.randn(2, 1, 33, 33)
    with torch.no_grad():
        expected = teacher(x)
    for init in PRESETS.values():
        student = untrained(backbone, backbone.full, 2)
        init.prepare(student, teacher)
        assert same(student, teacher)
        with torch.no_grad():
            assert torch.equal(student(x), expected)


@by_backbone(*ALL)
def test_any_size_can_be_prepared_and_nothing_is_drawn(backbone):
    teacher, size = randomised(untrained(backbone, backbone.full, 1)), some_size(backbone)
    before = copy.deepcopy(teacher)
    fresh = untrained(backbone, size, 2)
    for init in PRESETS.values():
        once, twice = copy.deepcopy(fresh), copy.deepcopy(fresh)
        init.prepare(once, teacher)
        state = torch.get_rng_state()
        init.prepare(twice, teacher)
        assert torch.equal(torch.get_rng_state(), state)
        assert same(once, twice)
        assert not same(once, fresh)
        assert once(torch.randn(2, 1, 33, 33)).isfinite().all()
    assert same(teacher, before)


@by_backbone(*ALL)
def test_the_default_is_the_leading_slice_bitwise(backbone):
    """Tensor by tensor of the same name, as it was before there were options."""
    teacher = randomised(untrained(backbone, backbone.full, 1))
    ours = untrained(backbone, some_size(backbone), 2)
    plain = copy.deepcopy(ours)
    Init().prepare(ours, teacher)
    theirs = teacher.state_dict()
    for name, mine in plain.state_dict().items():
        if name in theirs:
            overlap = tuple(slice(min(a, b)) for a, b in zip(mine.shape, theirs[name].shape, strict=True))
            mine[overlap].copy_(theirs[name][overlap])
    assert same(ours, plain)


@pytest.mark.parametrize("preset", ["leading", "l1"])
def test_init_identity_is_init_with_identity(preset):
    teacher, fresh = randomised(untrained(TINY, TINY.full, 1)), untrained(TINY, some_size(TINY), 2)
    students = [copy.deepcopy(fresh) for _ in range(3)]
    presets = (InitIdentity.presets()[preset], PRESETS[f"{preset}-identity"], PRESETS[preset])
    for init, student in zip(presets, students, strict=True):
        init.prepare(student, teacher)
    assert same(students[0], students[1])
    assert not same(students[0], students[2]), "the size has no width that changes along a stream"


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"channels": "l2"}, "init.channels is 'l2'; it must be leading or l1"),
        ({"residual": "none"}, "init.residual is 'none'; it must be plain or identity"),
    ],
)
def test_refuses(bad, said):
    for mode in (Init, InitIdentity):
        with pytest.raises(InputError) as caught:
            mode(**bad)
        assert str(caught.value) == said.replace("init.", f"{mode.name}.")


def test_settings_by_name(sweep):
    def init(**settings):
        return with_settings(sweep, {k.replace("__", "."): v for k, v in settings.items()}).transfers[1]

    assert setting_names(sweep)["init.channels"] == "leading"
    assert preset_names(sweep)["init"] == ("leading", "leading-identity", "l1", "l1-identity")
    assert init() == init(init="leading") == Init() == PRESETS["leading"]
    assert init(init="l1-identity") == init(init__channels="l1", residual="identity") == Init("l1", "identity")
    assert init(init__channels="l1") == init(init="l1") == Init(channels="l1")
    assert init(init="l1-identity", init__channels="leading") == Init(residual="identity")
    with pytest.raises(InputError, match=r"^init\.channels is 'l3'; it must be leading or l1$"):
        init(init__channels="l3")
    with pytest.raises(InputError, match="unknown preset of init 'l1-identty'; did you mean 'l1-identity'"):
        init(init="l1-identty")


@pytest.fixture
def sweep():
    from sweeps import demo

    return replace(demo.SWEEP, transfers=(Scratch(), Init(), KD()))
