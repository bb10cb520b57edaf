"""Clocks, precision and memory of a job: what the ledger books besides the work itself."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import platform
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from tas_bench.backbones.backbone import ImageShape
from tas_bench.errors import DivergedError

ModuleT = TypeVar("ModuleT", bound=nn.Module)

T = TypeVar("T")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""


class Stopwatch:
    """Monotonic seconds per named part of a job. A part inside another is booked apart, not twice."""

    def __init__(self) -> None:
        self.seconds = {"startup": 0.0, "data": 0.0, "train": 0.0, "eval": 0.0}
        self.carried = 0.0
        self._inner = [0.0]

    @contextlib.contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Book the time of the block under `part`."""
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - start
            self.seconds[part] += whole - self._inner.pop()
            self._inner[-1] += whole

    def each(self, part: str, items: Iterable[T]) -> Iterator[T]:
        """The items; waiting for them is booked under `part`."""
        upcoming = iter(items)
        while True:
            try:
                with self.on(part):
                    item = next(upcoming)
            except StopIteration:
                return
            yield item

    def carry(self, seconds: Mapping[str, float]) -> None:
        """Add what an earlier attempt booked up to the checkpoint that this one goes on from."""
        self.carried = sum(seconds.values())
        for part, spent in seconds.items():
            self.seconds[part] += spent

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())


class Meter:
    """Running loss and accuracy over the batches of an epoch; sums stay on the device until they are read."""

    def __init__(self) -> None:
        self.losses: Tensor | float = 0.0
        self.hits: Tensor | int = 0
        self.seen = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, logits (B, K), labels (B,)."""
        self.losses = self.losses + loss.detach() * len(labels)
        self.hits = self.hits + (logits.detach().argmax(dim=1) == labels).sum()
        self.seen += len(labels)

    @property
    def loss(self) -> float:
        """Loss per image."""
        return float(self.losses) / self.seen

    @property
    def accuracy(self) -> float:
        """Fraction of images classified right."""
        return float(self.hits) / self.seen


class LossGuard:
    """Stops a job whose loss becomes NaN or infinite. On a GPU the losses are looked at once an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.losses: list[Tensor] = []

    def see(self, loss: Tensor) -> None:
        """Look at a step's loss.

        Raises:
            DivergedError: names epoch and step, both from 1.
        """
        self.losses.append(loss.detach())
        if not loss.is_cuda:
            self._check(len(self.losses) - 1)

    def check(self, network: nn.Module) -> None:
        """Look at an epoch's losses, and at the weights it left.

        Raises:
            DivergedError: as above, or a weight is NaN or infinite.
        """
        self._check(0)
        if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
            raise DivergedError(f"a weight became NaN or infinite in epoch {self.epoch + 1}, in its last step")

    def _check(self, start: int) -> None:
        losses = torch.stack(self.losses[start:])
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            step = int(bad[0])
            raise DivergedError(
                f"the loss became {losses[step].item()} in epoch {self.epoch + 1}, step {start + step + 1}"
            )


def precision(device: str, image: ImageShape) -> str:
    """bfloat16 where the hardware multiplies it and, on a CPU, images are large enough to gain; else float32."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native and image.side >= 16 else "float32"


def channels_last(module: ModuleT, device: str | torch.device, dtype: torch.dtype | None = None) -> ModuleT:
    """The module itself, moved to a device with its weights in NHWC memory, where convolutions are faster.

    In one place since torch's stubs lack this overload of `Module.to`.
    """
    return module.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def autocast(device: str, dtype: str) -> AbstractContextManager[object]:
    """Autocast to bfloat16, or nothing for float32."""
    return torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")


MEMORY_FAULTS = (
    "can't allocate memory", "std::bad_alloc", "could not create a primitive",
    "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip
"""What torch and its libraries say where memory runs out; oneDNN ("primitive") mostly means it."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a GPU's or the CPU's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(fault in str(error) for fault in MEMORY_FAULTS)


COMPILE_FROM: dict[str, int] = {}
"""Training steps from which `torch.compile` pays, by device, as `benchmarks/compiled.py` measured it there.

No GPU has been measured yet. On CPUs a compiled step takes as long as an eager one.
"""


def compile_pays(device: str, steps: int) -> bool:
    """Whether a job of so many steps shall compile its network; every attempt of a job decides alike."""
    return steps >= COMPILE_FROM.get(device_name(device), math.inf)


def device_name(device: str) -> str:
    """The processor's or GPU's name."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def keep_memory() -> None:
    """Let glibc keep what is freed: else it may give a tensor's pages back, and fault them in in every call.

    Not where addresses are limited (`ulimit -v`): what is kept could not be used for anything else.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for threshold in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            libc.mallopt(threshold, 2**30)


def free_memory() -> None:
    """Give back what is not used any more, also what glibc and torch keep of it."""
    gc.collect()
    torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory(device: str) -> None:
    """Count the peak from here on, where the system can (Linux, CUDA): a warm worker runs many jobs."""
    if device == "cuda":
        if torch.cuda.is_available():  # or the job itself says that there is none
            torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str) -> int:
    """Peak bytes: of the allocator on a GPU, of the process on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
