"""What a sweep will cost, told before anything is trained: jobs, training macs, device and wall time, disk.

The sweep's own plans are driven with made-up outcomes where there is no row yet, so that the jobs are those a run
makes; of how many seconds they take, rows of the same kind tell, or a second of training steps on noise.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tas_bench.budget import Band, most_probable
from tas_bench.costs.params import PARAMS
from tas_bench.data import train_count
from tas_bench.jobs import Job, Outcome, Problem, job_id
from tas_bench.pace import Pace
from tas_bench.plans import Plans, Use
from tas_bench.replay import left_by, plans_of
from tas_bench.resources import Resources, Share
from tas_bench.store import Store
from tas_bench.sweep import Sweep
from tas_bench.text import duration

ROW_BYTES, EPOCH_BYTES = 60_000, 1_000
"""What a job's row, curve and uses take on disk, at most; and every epoch of it."""

CHECKPOINT_COPIES = 3 * 3
"""Weights, momentum and the best epoch's weights; the last two checkpoints, and one that is being written."""

LARGE_JOBS, LARGE_SECONDS = 100, 3600.0
"""A run of more jobs or more time than this tells its estimate first."""

SecondsOf = Callable[[Use], float | None]


@dataclass(frozen=True)
class Planned:
    """A job that the sweep asks for.

    Attributes:
        macs: of all its training steps; None where the job cannot tell. `seconds` on the device likewise.
    """

    use: Use
    finished: bool
    macs: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What a sweep will cost.

    Attributes:
        slots: most jobs side by side; on a cluster, which is not asked for its size, as if it had no end.
        wall: seconds until the last job ends; None on a cluster, or where a job's seconds are unknown.
        disk: bytes that the results directory grows by, at most.
        sources: what the seconds are from, one line each.
    """

    jobs: tuple[Planned, ...]
    slots: int
    wall: float | None
    disk: int
    sources: tuple[str, ...] = ()

    @property
    def to_run(self) -> list[Planned]:
        """Jobs without a row."""
        return [job for job in self.jobs if not job.finished]

    @property
    def macs(self) -> float | None:
        """Training macs of all that is to run."""
        return total(job.macs for job in self.to_run)

    @property
    def seconds(self) -> float | None:
        """Device-seconds of all that is to run."""
        return total(job.seconds for job in self.to_run)

    @property
    def large(self) -> bool:
        """Whether to think twice."""
        return len(self.to_run) > LARGE_JOBS or (self.seconds or 0) > LARGE_SECONDS

    def __str__(self) -> str:
        if not self.to_run:
            return f"estimate: nothing to run, {len(self.jobs):,} jobs finished"
        told = [f"{len(self.to_run):,} jobs to run, {len(self.jobs) - len(self.to_run):,} finished"]
        if self.macs is not None:
            told.append(f"{self.macs:.3g} training macs")
        if self.seconds is not None:
            told.append(f"about {duration(self.seconds)} on the device")
        if self.wall is not None:
            told.append(f"{duration(self.wall)} with up to {self.slots} side by side")
        return f"estimate: {', '.join(told)}, up to {self.disk / 1e6:.0f} MB of disk"


def estimate(
    sweep: Sweep, results: Path, data_root: Path | None, resources: Resources, calibrate: bool = True
) -> Estimate:
    """Estimate a sweep that `preflight.check_run` lets pass; nothing is written.

    Args:
        calibrate: take some seconds to measure what no row tells; else that stays unknown, macs and all.

    Raises:
        StoreDamagedError: a row of the results directory cannot be read.
    """
    store, pace, room = Store(results), Pace(results, resources, calibrate), room_of(resources)
    images = functools.cache(lambda data: train_count(data, data_root))
    made: dict[str, Planned] = {}

    def share_of(use: Use) -> Share:
        return resources.share(use.job.kind, torch.cuda.device_count())

    def seconds_of(use: Use) -> float | None:
        made[use.key] = Planned(use, False)
        if not hasattr(use.job, "expected_macs") or not pace.known(use.job.kind, use.problem):
            return None
        macs = use.job.expected_macs(images(use.problem.data))
        seconds = pace.seconds(use.job.kind, use.problem, macs)
        made[use.key] = Planned(use, False, macs, seconds)
        return seconds

    plans = plans_of(sweep, store)
    wall, slots = drive(plans, room, share_of, seconds_of)
    jobs = tuple(made.get(key) or Planned(use, True) for key, use in plans.first_use.items())
    timed = resources.address is None and all(job.seconds is not None for job in made.values())
    left = len(left_by(job.use for job in made.values()))
    disk = disk_of(sweep, len(made), left + (slots if resources.address is None else 0))
    return Estimate(jobs, slots, wall if timed else None, disk, tuple(pace.sources))


def drive(
    plans: Plans, room: tuple[float, float], share_of: Callable[[Use], Share], seconds_of: SecondsOf
) -> tuple[float, int]:
    """Let plans run to their end in imagination, each job as soon as there is room: seconds, most side by side.

    Args:
        room: CPU cores and GPUs.
        seconds_of: device-seconds of a job: of every core (or GPU) that it holds.
    """
    now, most, count = 0.0, 0, itertools.count()
    cpus, gpus = room
    running: list[tuple[float, int, Use]] = []
    upcoming = plans.next_job()
    while True:
        while upcoming:
            share = share_of(upcoming)
            if running and (share.cpus > cpus + 1e-9 or share.gpus > gpus + 1e-9):
                break
            cpus, gpus = cpus - share.cpus, gpus - share.gpus
            end = now + (seconds_of(upcoming) or 0.0) / (share.gpus or share.cpus)
            heapq.heappush(running, (end, next(count), upcoming))
            upcoming = plans.next_job()
        most = max(most, len(running))
        if not running:
            return now, most
        now = running[0][0]
        while running and running[0][0] <= now:
            ended = heapq.heappop(running)[2]
            share = share_of(ended)
            cpus, gpus = cpus + share.cpus, gpus + share.gpus
            plans.finish(ended.key, made_up(ended.job))
        upcoming = upcoming or plans.next_job()


def made_up(job: Job) -> Outcome:
    """An outcome without training: a hash of the job is the accuracy; a search finds a random size in the band."""
    size, accuracy = getattr(job, "size", None), int(job_id(job)[:6], 16) / 16**6
    problem: Problem | None = getattr(job, "problem", None)
    if size is None and problem is not None:
        band = Band.of(problem)
        scores = np.random.default_rng(int(job_id(job), 16)).normal(size=band.space.padded.shape)
        size = band.space.size(most_probable(scores, band))
    return Outcome(size=size, val_accuracy=accuracy, curve=[{"epoch": 1, "val_accuracy": accuracy}])


def room_of(resources: Resources) -> tuple[float, float]:
    """CPU cores and GPUs that jobs may hold in all; no end of them on a cluster, which is not asked."""
    if resources.address is not None:
        return math.inf, math.inf
    return resources.total


def disk_of(sweep: Sweep, jobs: int, checkpoints: int) -> int:
    """About the bytes that so many jobs take: rows and curves, teachers' weights (not supernets'), checkpoints.

    Args:
        checkpoints: of jobs side by side (0 where nobody knows how many), and those left for jobs to come.
    """
    if not jobs:
        return 0
    sizes = [4 * PARAMS.of(p.layers, p.backbone.full) for p in sweep.problems]
    rows = jobs * (ROW_BYTES + EPOCH_BYTES * sweep.recipe.epochs)
    return rows + len(sweep.seeds) * sum(sizes) + checkpoints * CHECKPOINT_COPIES * max(sizes)


def total(values: Iterable[float | None]) -> float | None:
    """The sum; None where one is unknown."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)
