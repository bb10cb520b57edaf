"""Transfer modes: Equations 9 and 10 against float64 formulas, Init against known answers, contracts for all."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tas_bench.backbones.backbone import ImageShape
from tas_bench.backbones.cifar_resnet import RESNET20
from tas_bench.backbones.tiny import TINY
from tas_bench.errors import InputError
from tas_bench.network import Network
from tas_bench.space import Size
from tas_bench.testing import check_transfer
from tas_bench.transfer import all_transfers
from tas_bench.transfer.init import Init
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch

IMAGE = ImageShape(1, 8)


@pytest.mark.parametrize("name", sorted(all_transfers()))
def test_contract(name):
    check_transfer(all_transfers()[name])


def softmax(row):
    top = max(row)
    exps = [math.exp(v - top) for v in row]
    return [e / sum(exps) for e in exps]


def equation_10(logits, teacher, labels, temperature, hard_weight, soft_weight):
    """Equations 9 and 10 in plain Python floats."""
    total = 0.0
    for z, z_hat, y in zip(logits, teacher, labels, strict=True):
        hard = -math.log(softmax(z)[y])
        p = softmax([v / temperature for v in z_hat])
        q = softmax([v / temperature for v in z])
        total += hard_weight * hard + soft_weight * -sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    return total / len(labels)


@given(st.integers(0, 10_000), st.floats(1, 8), st.floats(0, 1))
def test_kd_is_equation_10_in_both_weightings(seed, temperature, soft_weight):
    torch.manual_seed(seed)
    z, z_hat = torch.randn(3, 5, dtype=torch.float64) * 3, torch.randn(3, 5, dtype=torch.float64) * 3
    y = torch.randint(5, (3,))
    for t_squared in (False, True):
        ours = KD(temperature=temperature, soft_weight=soft_weight, t_squared=t_squared).loss(z, z_hat, y)
        soft = soft_weight * (temperature**2 if t_squared else 1)
        naive = equation_10(z.tolist(), z_hat.tolist(), y.tolist(), temperature, 1 - soft_weight, soft)
        assert ours.item() == pytest.approx(naive, rel=1e-9, abs=1e-9)


def test_kd_presets_weigh_as_released_code_and_paper_do():
    z, z_hat, y = torch.randn(4, 10), torch.randn(4, 10), torch.randint(10, (4,))
    hard, soft = torch.nn.functional.cross_entropy(z, y), KD(soft_weight=1, t_squared=False).loss(z, z_hat, y)
    released, paper = (KD.presets()[name].loss(z, z_hat, y) for name in ("released", "paper"))
    assert KD() == KD.presets()["released"]
    torch.testing.assert_close(released, 0.1 * hard + 0.9 * 16 * soft)
    torch.testing.assert_close(paper, 0.9 * hard + 0.1 * soft)


def test_kd_has_the_gradient_of_the_kl_divergence_the_released_code_takes():
    z_hat, y = torch.randn(4, 10), torch.randint(10, (4,))
    grads = []
    for loss in (
        lambda z: KD(soft_weight=1).loss(z, z_hat, y),
        lambda z: 16 * torch.nn.functional.kl_div(
            torch.log_softmax(z / 4, 1), torch.softmax(z_hat / 4, 1), reduction="batchmean"
        ),
    ):  # fmt: skip
        torch.manual_seed(0)
        z = torch.randn(4, 10, requires_grad=True)
        loss(z).backward()
        grads.append(z.grad)
    torch.testing.assert_close(*grads)


def test_kd_without_soft_weight_is_scratch_bitwise():
    y = torch.randint(10, (8,))
    grads = []
    for transfer, teacher in ((Scratch(), None), (KD(soft_weight=0), torch.randn(8, 10))):
        torch.manual_seed(0)
        z = torch.randn(8, 10, requires_grad=True)
        transfer.loss(z, teacher, y).backward()
        grads.append(z.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize("bad", [{"soft_weight": -0.1}, {"soft_weight": 1.1}, {"temperature": 0.0}])
def test_kd_refuses(bad):
    with pytest.raises(InputError, match="kd"):
        KD(**bad)


def trained(backbone, size):
    """A network whose every tensor, batch-norm statistics included, is away from its initial value."""
    torch.manual_seed(1)
    network = Network(backbone, size, 10, IMAGE)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.dtype.is_floating_point:
                value.copy_(torch.rand_like(value) + 0.5)
    return network.eval()


def test_init_at_full_size_is_the_teacher():
    teacher = trained(RESNET20, RESNET20.full)
    student = Network(RESNET20, RESNET20.full, 10, IMAGE).eval()
    Init().prepare(student, teacher)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(student(x), teacher(x))


def test_init_takes_the_leading_slice_and_leaves_the_rest():
    teacher = trained(TINY, TINY.full)
    size = Size((6, 5, 6, 4, 9, 12, 10, 16, 16), (2, 1))  # a mismatch in stage 0, block 1; a width above 8
    student = Network(TINY, size, 10, IMAGE)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    Init().prepare(student, teacher)
    theirs, mine = teacher.state_dict(), student.state_dict()
    conv = "stages.0.0.convs.0.0.weight"
    assert torch.equal(mine[conv], theirs[conv][:5, :6])
    assert torch.equal(mine["stem.1.running_var"], theirs["stem.1.running_var"][:6])
    assert torch.equal(mine["classifier.weight"], theirs["classifier.weight"][:, :10])
    wide = "stages.0.1.convs.1.0.weight"  # 9 output channels, the teacher has 8
    assert torch.equal(mine[wide][:8], theirs[wide][:8, :4])
    assert torch.equal(mine[wide][8:], before[wide][8:])
    repair = "stages.0.1.shortcut.1.0.weight"  # the teacher has an identity there
    assert repair not in theirs
    assert torch.equal(mine[repair], before[repair])


def test_init_keeps_the_function_where_the_dropped_channels_are_dead():
    """Known answer: channels past the student's that put out nothing may go without a trace."""
    teacher = trained(TINY, TINY.full)
    inner = {1: 5, 3: 3, 5: 7, 7: 9}  # the first convolution of every block: inside the block, off the stream
    with torch.no_grad():
        blocks = [b for stage in teacher.stages for b in stage]
        for block, keep in zip(blocks, inner.values(), strict=True):
            norm = block.convs[0][1]
            norm.weight[keep:], norm.bias[keep:] = 0, 0
    widths = tuple(inner.get(i, w) for i, w in enumerate(TINY.full.widths))
    student = Network(TINY, Size(widths, TINY.full.depths), 10, IMAGE).eval()
    Init().prepare(student, teacher)
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(student(x), teacher(x))
