"""How fast jobs train: multiply-accumulates per device-second, from rows of their kind or from steps on noise."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from tas_bench import measure
from tas_bench.costs.macs import MACS
from tas_bench.jobs import Problem
from tas_bench.latency import Bench
from tas_bench.loop import Loop
from tas_bench.network import Network
from tas_bench.reading import load
from tas_bench.resources import Resources
from tas_bench.search import SearchSettings
from tas_bench.supernet import Architecture, Supernet
from tas_bench.transfer.scratch import Scratch

STEP_MACS = 2e10
"""A step of a calibration on a CPU takes no more images than come to this, but two."""

SECONDS = 1.0
"""Of steps, at least, in a calibration."""


@dataclass
class Pace:
    """Training macs per device-second, by kind of job and backbone.

    Attributes:
        calibrate: measure what no row tells; else it stays unknown.
        sources: where those asked for are from, one line each.
    """

    results: Path
    resources: Resources
    calibrate: bool
    sources: list[str] = field(default_factory=list)
    _measured: dict[tuple[str, str], float] = field(default_factory=dict)

    def known(self, kind: str, problem: Problem) -> bool:
        """Whether rows tell, or may be measured."""
        return self.calibrate or (kind, problem.backbone_name) in self._rows

    def seconds(self, kind: str, problem: Problem, macs: int) -> float:
        """Device-seconds of a job of so many training macs, of a kind that is `known`."""
        name = problem.backbone_name
        if (kind, name) in self._rows:
            pace, count = self._rows[kind, name]
            source = f"{name} {kind}: {pace:.2g} macs per device-second, from {count} rows here"
        else:
            what = "search" if kind == "search" else "training"
            pace = self._of_steps(what, problem)
            source = f"{name} {what}: {pace:.2g} macs per device-second, estimated from a second of steps on noise"
            source += "; start-up, data and evaluation come on top"
        if source not in self.sources:
            self.sources.append(source)
        return macs / pace

    def _of_steps(self, what: str, problem: Problem) -> float:
        key = problem.backbone_name, what
        if key not in self._measured:
            bench = Bench.at_hand(self.resources.cpus, self.resources.gpus)
            self._measured[key] = measured(what == "search", problem, bench)
        return self._measured[key]

    @functools.cached_property
    def _rows(self) -> dict[tuple[str, str], tuple[float, int]]:
        """Macs per device-second of rows that ended well, and how many rows."""
        if not (self.results / "rows").is_dir():
            return {}
        rows = load(self.results)
        rows = rows[(rows["status"] == "ok") & (rows["train_macs"] > 0) & (rows["device_seconds"] > 0)]
        parts: Iterable[Any] = rows.groupby(["kind", "backbone"])
        return {key: (part["train_macs"].sum() / part["device_seconds"].sum(), len(part)) for key, part in parts}


def measured(searching: bool, problem: Problem, bench: Bench) -> float:
    """Training macs per device-second of some steps on noise: of a supernet, or of the unpruned network."""
    with bench.ready(), torch.random.fork_rng(devices=[]):
        step = (_search_step if searching else _training_step)(problem, bench.device)
        step()
        macs, began = 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            macs += step()
            if bench.device == "cuda":
                torch.cuda.synchronize()
        return macs / (time.perf_counter() - began) / (bench.threads if bench.device == "cpu" else 1)


def batch_of(problem: Problem, device: str) -> int:
    """Images of a calibration's step: fewer where it would take long; a GPU that is not full is no faster."""
    if device == "cuda":
        return problem.recipe.batch
    macs = 3 * MACS.of(problem.layers, problem.backbone.full)
    return max(2, min(problem.recipe.batch, int(STEP_MACS / macs)))


def _noise(problem: Problem, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = batch_of(problem, device)
    x = torch.randn(images, problem.image.channels, problem.image.side, problem.image.side, device=device)
    y = torch.randint(problem.classes, (images,), device=device)
    return x.contiguous(memory_format=torch.channels_last), y


def _training_step(problem: Problem, device: str) -> Callable[[], int]:
    """What a step of a training does; it returns the step's macs."""
    x, y = _noise(problem, device)
    full = problem.backbone.full
    network = measure.channels_last(Network(problem.backbone, full, problem.classes, problem.image), device)
    recipe = replace(problem.recipe, lr=1e-6)  # noise teaches nothing, and must not diverge
    loop = Loop(recipe, Scratch(), network, None, measure.precision(device, problem.image), micro_batch=len(x))
    watch, macs = measure.Stopwatch(), 3 * len(x) * MACS.of(problem.layers, full)

    def step() -> int:
        loop.epoch(0, [(x, y)], watch)
        return macs

    return step


def _search_step(problem: Problem, device: str) -> Callable[[], int]:
    """What an update of a supernet's weights does; it returns the step's macs."""
    x, y = _noise(problem, device)
    settings, space = SearchSettings(), problem.space
    supernet = Supernet(problem.backbone, space, problem.classes, problem.image)
    supernet = measure.channels_last(supernet, device)
    architecture = Architecture(space).to(device)
    precision = measure.precision(device, problem.image)

    def step() -> int:
        with torch.no_grad():
            sample = architecture.sample(settings, tau=1.0)
        with measure.autocast(device, precision):
            logits = supernet(x, sample).float()
        F.cross_entropy(logits, y).backward()
        return 3 * len(x) * supernet.macs

    return step
