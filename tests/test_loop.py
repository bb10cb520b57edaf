"""One epoch: schedule and accuracies against torch's own, batches in parts, compiled steps."""

import copy
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from tas_bench.backbones.tiny import TINY
from tas_bench.data import dataset_info
from tas_bench.jobs import Recipe
from tas_bench.loop import Loop, accuracies, cosine_lr
from tas_bench.measure import Stopwatch
from tas_bench.network import ConvNorm, Network
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch

INFO = dataset_info("digits")
RECIPE = Recipe(epochs=2, batch=64, lr=0.05)
IMAGES = 64 + 33
"""A whole batch, and one that cannot be halved evenly."""


def test_cosine_is_torchs():
    recipe = Recipe(epochs=7, lr=0.3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    for epoch in range(7):
        assert cosine_lr(recipe, epoch) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def trained(most, norms=True, transfer=None, compiled=False, size=TINY.full):
    """The network after two epochs, at most so many images at a time, and the last epoch's measures."""
    torch.manual_seed(0)
    x, y = torch.randn(IMAGES, 1, 8, 8), torch.randint(10, (IMAGES,))
    network, teacher = (Network(TINY, size, 10, INFO.image) for _ in range(2))
    for module in network.modules() if not norms else ():
        if isinstance(module, ConvNorm):
            module[1] = nn.Identity()
    loop = Loop(
        RECIPE, transfer or Scratch(), network, teacher.eval() if transfer else None, "float32", most, compiled
    )
    for epoch in range(2):
        point = loop.epoch(epoch, [(x[:64], y[:64]), (x[64:], y[64:])], Stopwatch())
    return network, point


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("most", "transfer"), [(1, None), (7, KD()), (32, None)])
def test_gradients_of_parts_add_up_to_the_batchs(most, transfer):
    whole, told = trained(64, norms=False, transfer=transfer)
    parts, also = trained(most, norms=False, transfer=transfer)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert also == pytest.approx(told)


def test_running_statistics_move_as_far_in_parts():
    """Of parts that are alike: also in the short batch that ends an epoch, which has fewer of them."""
    torch.manual_seed(0)
    x, y, network = torch.randn(16, 1, 8, 8), torch.randint(10, (16,)), Network(TINY, TINY.full, 10, INFO.image)
    passes = [(x.repeat(4, 1, 1, 1), y.repeat(4)), (x.repeat(2, 1, 1, 1), y.repeat(2))]
    whole, parts = copy.deepcopy(network), copy.deepcopy(network)
    for student, most in ((whole, 64), (parts, 16)):
        Loop(Recipe(batch=64, lr=1e-9), Scratch(), student, None, "float32", most).epoch(0, passes, Stopwatch())
    for name, value in whole.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(parts.state_dict()[name], value, rtol=0.02, atol=1e-4)
            assert not torch.equal(network.state_dict()[name], value)


COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a compiler on the CPU")


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, COMPILER])])
def test_a_compiled_step_trains_the_same_network(monkeypatch, backend):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    shallow = replace(TINY.full, depths=(1, 1))  # a compiler takes its time over every block
    eager, told = trained(64, size=shallow)
    compiled, also = trained(64, compiled=True, size=shallow)
    for a, b in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert also["train_loss"] == pytest.approx(told["train_loss"], rel=1e-3)


STARVED = """
import resource, sys
from dataclasses import replace
from pathlib import Path

import torch

from tas_bench.jobs import Context, DataSpec, Problem, Recipe
from tas_bench.data import dataset_info
from tas_bench.store import Store
from tas_bench.train import final_job
from tas_bench.transfer.scratch import Scratch
from tas_bench.worker import Labels, execute

if sys.argv[3] == "plain":
    torch.backends.mkldnn.enabled = False
    torch.backends.nnpack.set_flags(False)
info = dataset_info("digits")
problem = Problem(data=DataSpec(name="digits"), backbone_name="resnet20", classes=10, image=info.image,
                  keep=0.6, t=0.1, recipe=Recipe(epochs=1, batch=64))
with Store(Path(sys.argv[1])).lock():
    context = Context(results=Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_AS, (2**40, resource.RLIM_INFINITY))
    small = final_job(problem, problem.backbone.full, 0, Scratch())
    few = replace(problem, data=DataSpec(name="digits", train_subset=100))
    execute(final_job(few, problem.backbone.full, 0, Scratch()), Labels("s", "m", None), context)  # loads
    used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
    row = execute(replace(small, recipe=Recipe(epochs=1, batch=1400)), Labels("s", "m", None), context)
print(row["status"], row["micro_batch"], row["warning"], row["error"], sep="|")
"""


def starved(tmp_path, room, convolutions):
    """Status, micro_batch, warning and error of a training whose process gets so much more memory at most.

    With little left oneDNN may crash; torch's plain convolutions do not, but find room where oneDNN finds none.
    """
    argv = [sys.executable, "-c", STARVED, str(tmp_path), str(room), convolutions]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split("|")


def test_where_memory_runs_out_a_batch_is_halved_and_the_row_says_so(tmp_path):
    status, most, warning, _ = starved(tmp_path, 130_000_000, "plain")
    assert status == "ok"
    assert int(most) in (44, 88, 175, 350, 700)
    assert f"parts of up to {most} images" in warning


@pytest.mark.slow
def test_where_there_is_no_memory_at_all_the_row_says_so(tmp_path):
    status, _, _, error = starved(tmp_path, 1_000_000, "oneDNN")
    assert status == "oom"
    assert error.startswith("out of memory")


@pytest.mark.parametrize("classes", [10, 30])
def test_accuracies_by_sorting(classes):
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(n, classes, generator=generator), torch.randint(classes, (n,), generator=generator))
               for n in (40, 23)]  # fmt: skip
    first, among = accuracies(torch.nn.Identity(), batches, "float32")
    ranks = [
        row.argsort(descending=True).tolist().index(y) for x, ys in batches for row, y in zip(x, ys, strict=True)
    ]
    assert first == pytest.approx(sum(rank == 0 for rank in ranks) / 63)
    assert among == (None if classes == 10 else pytest.approx(sum(rank < 5 for rank in ranks) / 63))
