"""What a job books beside its work (peak memory, carried seconds), losses that blow up, and modules in NHWC."""

import contextlib
import math
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from tas_bench import measure
from tas_bench.backbones.backbone import ImageShape
from tas_bench.errors import DivergedError

PEAKS = """
import torch
from tas_bench import measure
measure.reset_peak_memory("cpu")
before = measure.peak_memory("cpu")
big = torch.ones(40_000_000)
there = measure.peak_memory("cpu")
del big
gone = measure.peak_memory("cpu")
measure.reset_peak_memory("cpu")
print(there - before, there - gone, there - measure.peak_memory("cpu"))
"""
"""In a process of its own: here the heap may have room for the tensor already."""


def test_peak_memory_is_counted_from_the_reset():
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    grown, shrunk, reset = (int(x) for x in done.stdout.split())
    assert grown > 140e6, "160 MB were touched"
    assert shrunk < 1e6, "it is the peak, not the present"
    assert reset > 140e6


KEPT = """
import torch
from tas_bench import measure

def job(count):
    measure.free_memory()
    measure.keep_memory()
    measure.reset_peak_memory("cpu")
    tensors = [torch.ones(1_000_000) for _ in range(count)]
    return measure.peak_memory("cpu"), torch.ones(10)  # the last above them in the heap, which so cannot shrink

large, above = job(100)
small, _ = job(1)
print(large - small)
"""


def test_memory_kept_for_a_large_job_is_not_booked_to_the_next():
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 350e6, "of 400 MB"


def test_a_part_inside_another_is_booked_apart(monkeypatch):
    now = [0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    watch = measure.Stopwatch()

    def passes(seconds):
        now[0] += seconds

    with watch.on("train"):
        passes(20)
        for _ in watch.each("data", (passes(300) for _ in range(2))):
            passes(1)
        with contextlib.suppress(KeyError), watch.on("eval"):
            passes(4000)
            raise KeyError
    assert watch.seconds == {"startup": 0, "data": 600, "train": 22, "eval": 4000}
    assert watch.total == now[0]


def test_long_jobs_are_compiled_where_it_was_found_to_pay(monkeypatch):
    assert not measure.compile_pays("cpu", 10**9)
    monkeypatch.setitem(measure.COMPILE_FROM, measure.device_name("cpu"), 1000)
    assert measure.compile_pays("cpu", 1000)
    assert not measure.compile_pays("cpu", 999)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), *map(RuntimeError, measure.MEMORY_FAULTS)],
)
def test_out_of_memory(error):
    assert measure.out_of_memory(error)
    assert not measure.out_of_memory(RuntimeError("shapes do not fit"))


def test_a_missing_gpu_is_not_this_ones_matter():
    measure.reset_peak_memory("cuda")


def test_a_carried_attempt_is_part_of_the_total():
    watch = measure.Stopwatch()
    with watch.on("train"):
        pass
    own = watch.total
    watch.carry({"startup": 1.0, "train": 5.0, "eval": 0.5})
    assert watch.carried == 6.5
    assert watch.total == pytest.approx(6.5 + own)
    assert watch.seconds["train"] >= 5.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_loss_is_told_at_once_with_epoch_and_step(bad):
    guard = measure.LossGuard(epoch=4)
    guard.see(torch.tensor(1.0))
    with pytest.raises(DivergedError, match=re.escape(f"the loss became {bad} in epoch 5, step 2")):
        guard.see(torch.tensor(bad))


def test_losses_not_looked_at_are_found_at_the_end_of_the_epoch():
    """As on a GPU, which is asked once: the first bad step is named."""
    guard = measure.LossGuard(epoch=0)
    guard.losses = [torch.tensor(x) for x in (1.0, 2.0, math.nan, 3.0, math.inf)]
    with pytest.raises(DivergedError, match="nan in epoch 1, step 3"):
        guard.check(nn.Linear(1, 1))


def test_weights_are_looked_at_as_well():
    network, guard = nn.Linear(2, 2), measure.LossGuard(epoch=0)
    guard.see(torch.tensor(1.0))
    guard.check(network)
    with torch.no_grad():
        network.bias[1] = math.nan
    with pytest.raises(DivergedError, match="a weight became NaN or infinite in epoch 1"):
        guard.check(network)


def test_modules_lie_channels_last_on_their_device():
    conv = nn.Conv2d(3, 4, 3)
    assert measure.channels_last(conv, "cpu") is conv
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert conv.weight.dtype == torch.float32
    assert measure.channels_last(conv, "meta", torch.bfloat16).weight.dtype == torch.bfloat16
    assert conv.weight.device.type == "meta"


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_that_only_imitates_bfloat16_takes_float32(monkeypatch, native, expected):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native
    )
    assert measure.precision("cuda", ImageShape(3, 32)) == expected
