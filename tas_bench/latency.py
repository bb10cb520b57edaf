"""Measures layers on the device at hand, for the table that the cost `latency` looks up in.

Every layer is measured as it is deployed: in eval mode, with what follows it (batch norm, ReLU, shortcut,
pooling), in the hardware's precision, channels last, a fixed batch. A network's layers find the caches as other
layers left them, so layers are timed one after another, not each again and again. The least of all rounds stands,
which leaves out what else the machine was doing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from tas_bench import measure
from tas_bench.backbones.backbone import CIFAR
from tas_bench.costs.latency import LATENCY, Config, Table, cache_folder, config, read_table, write_table
from tas_bench.costs.layer import Cost, Layer, Tap
from tas_bench.network import ConvNorm, Shortcut
from tas_bench.progress import bar
from tas_bench.space import Size, SizeSpace
from tas_bench.sweep import Sweep
from tas_bench.variant import settings_of

METHOD = {"cpu": 2, "cuda": 3}
"""Raise it when what is measured changes, so that old tables are left alone."""

BATCH = {"cpu": 32, "cuda": 256}
"""Images per forward pass: enough for the kernels, not the calls, to be what is measured."""

DELAY = 2_000_000
"""Cycles of a GPU, about a millisecond, in which a call's kernels are launched."""

ROUNDS = 5
"""How often all layers are gone over, in another order each time."""

MOST_SECONDS = 100.0
"""No further round is begun that would end later than this; a quiet machine needs a fraction of it."""

CHAIN, PASSES = 16, 4
"""Layers timed one after another, and how often in a round, after one pass that warms up."""


def settle(sweep: Sweep, bench: Bench, console: Console, quiet: bool = False) -> Sweep:
    """The sweep with the cost "latency" settled to a table that knows all its methods may ask for.

    What is missing in this device's table is measured; other costs stay as they are.
    """
    if sweep.cost != LATENCY:
        return sweep
    wanted: set[Config] = set()
    for problem in replace(sweep, cost="macs").problems:
        sizes = [problem.backbone.full]
        for method in sweep.methods:
            sizes += getattr(settings_of(method), "outside", lambda _problem: ())(problem)
        wanted |= configs_of_space(problem.layers, problem.space) | configs_of_sizes(problem.layers, sizes)
    return replace(sweep, cost=measured(wanted, bench, console, quiet).cost.name)


def configs_of_space(layers: Sequence[Layer], space: SizeSpace) -> set[Config]:
    """Every layer at every pair of candidate widths."""

    def widths(tap: Tap) -> set[int]:
        return {w for conv in tap.convs for w in space.widths[conv]} or {tap.constant}

    return {
        config(layer, c_in, c_out)
        for layer in set(layers)
        for c_in in widths(layer.source)
        for c_out in ([c_in] if layer.depthwise else widths(layer.target))
    }


def configs_of_sizes(layers: Sequence[Layer], sizes: Sequence[Size]) -> set[Config]:
    """The layers of these networks."""
    found: set[Config] = set()

    def note(layer: Layer, c_in: Any, c_out: Any) -> int:
        found.update(config(layer, i, o) for i, o in zip(c_in.tolist(), c_out.tolist(), strict=True))
        return 0

    Cost("noted", note).many(layers, np.array([s.widths for s in sizes]), np.array([s.depths for s in sizes]))
    return found


def measured(wanted: Iterable[Config], bench: Bench, console: Console, quiet: bool = False) -> Table:
    """This device's table with an entry for all that is wanted; only what it lacks is measured.

    Raises:
        StoreDamagedError: the table cannot be read.
    """
    setting, folder = bench.setting, cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, console):  # two at a time would disturb each other
        found = sorted(folder.glob(f"{_stem(setting)}-*.parquet"))
        table = read_table(found[0]) if found else Table(Path(), setting, {})
        missing = sorted(set(wanted) - table.entries.keys())
        if missing:
            entries = {**table.entries, **_measure(missing, bench, console, quiet)}
            path = table.path if found else folder / f"{_stem(setting)}-{_id(entries)}.parquet"
            table = Table(path, setting, entries)
            write_table(table)
    return table


def _stem(setting: dict[str, Any]) -> str:
    """The setting as part of a file name, by which its table is found again."""
    words = (
        setting["device"], f"{setting['threads']}t" * bool(setting["threads"]), setting["precision"],
        f"b{setting['batch']}", f"torch{setting['torch']}", f"v{setting['method']}",
    )  # fmt: skip
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(words).lower()).strip("-.")


def _id(entries: dict[Config, int]) -> str:
    """Tells this table from any other that is measured in the same setting."""
    return hashlib.sha256(repr((time.time_ns(), sorted(entries.items()))).encode()).hexdigest()[:8]


@contextlib.contextmanager
def _lock(folder: Path, console: Console) -> Iterator[None]:
    with open(folder / ".lock", "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("waiting for another process to end its measuring", highlight=False)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# ---- measuring


def _measure(configs: Sequence[Config], bench: Bench, console: Console, quiet: bool) -> dict[Config, int]:
    """Nanoseconds per image of every layer."""
    rng, least, began = np.random.default_rng(0), dict.fromkeys(configs, math.inf), time.monotonic()
    what = f"measuring the latency of {len(configs):,} layers on {measure.device_name(bench.device)}"
    what += f" (once; kept in {cache_folder()})"
    with bench.ready(), bar(what, ROUNDS * len(configs), console, quiet) as tell:
        for done in range(ROUNDS):
            if done and (time.monotonic() - began) * (done + 1) / done > MOST_SECONDS:
                break
            order = rng.permutation(len(configs))
            for start in range(0, len(order), CHAIN):
                chain = [configs[i] for i in order[start : start + CHAIN]]
                for entry, seconds in zip(chain, bench.seconds(chain), strict=True):
                    least[entry] = min(least[entry], seconds)
                tell(done * len(order) + start + len(chain), 0)
    return {entry: max(1, round(1e9 * seconds / BATCH[bench.device])) for entry, seconds in least.items()}


@dataclass(frozen=True)
class Bench:
    """Runs layers on a device.

    Attributes:
        threads: on a CPU. One is what a job holds unless told otherwise, and all that a busy machine can promise.
    """

    device: str = "cpu"
    threads: int = 1

    @classmethod
    def at_hand(cls, cpus: float = 1, gpus: float | None = None) -> Bench:
        """What a job with these resources would run on: the GPU where there is one and it is wanted."""
        return cls("cuda") if torch.cuda.is_available() and gpus != 0 else cls("cpu", max(1, int(cpus)))

    @property
    def setting(self) -> dict[str, Any]:
        """What all entries of a table share."""
        return {
            "device": measure.device_name(self.device),
            "precision": self.precision,
            "batch": BATCH[self.device],
            "threads": self.threads if self.device == "cpu" else 0,
            "torch": torch.__version__,
            "method": METHOD[self.device],
        }

    @property
    def precision(self) -> str:
        """The hardware's, whatever the images."""
        return measure.precision(self.device, CIFAR)

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Prepare this process for measuring."""
        measure.keep_memory()
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @torch.inference_mode()
    def seconds(self, chain: Sequence[Config]) -> list[float]:
        """Least seconds of a call of each, all being called in turn."""
        calls = [self.call(entry) for entry in chain]
        for call in calls:
            call()
        passes = [[self.timed(call) for call in calls] for _ in range(PASSES)]
        return [min(times) for times in zip(*passes, strict=True)]

    def timed(self, call: Callable[[], Tensor]) -> float:
        """Seconds of one call."""
        if self.device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(DELAY)  # the call's kernels queue up meanwhile: their time, not the launching's
            start.record()
            call()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    def call(self, entry: Config) -> Callable[[], Tensor]:
        """The layer as the deployed network runs it, with an input of its own."""
        x = self.images(entry.c_in, entry.positions_in)
        if entry.role == "classifier":
            linear = self.deployed(nn.Linear(entry.c_in, entry.c_out, bias=entry.bias))
            return lambda: linear(x.mean(dim=(2, 3)))
        if entry.role == "shortcut":
            shortcut = self.deployed(Shortcut(entry.c_in, entry.c_out, entry.stride, entry.norm))
            return lambda: shortcut(x)
        widths = entry.c_in, entry.c_out
        conv = self.deployed(ConvNorm(*widths, entry.kernel, entry.stride, entry.norm, entry.depthwise))
        if entry.role in ("join", "linear join"):
            other = self.images(entry.c_out, entry.positions)
            return lambda: conv(x) + other if entry.role == "linear join" else F.relu(conv(x) + other)
        if entry.role == "linear":
            return lambda: conv(x)
        if entry.role == "pooled":
            return lambda: F.max_pool2d(F.relu(conv(x)), 3, stride=2, padding=1)
        return lambda: F.relu(conv(x))

    def deployed(self, module: nn.Module) -> nn.Module:
        """A module as it is deployed."""
        dtype = getattr(torch, self.precision)
        return measure.channels_last(module, self.device, dtype).eval()

    def images(self, channels: int, positions: int) -> Tensor:
        """A batch of noise (B, channels, side, side)."""
        shape = (BATCH[self.device], channels, math.isqrt(positions), math.isqrt(positions))
        noise = torch.empty(
            shape, dtype=getattr(torch, self.precision), device=self.device, memory_format=torch.channels_last
        )
        return noise.uniform_(-1, 1)
