"""Where jobs run and what each of them holds."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tas_bench.errors import InputError, unknown
from tas_bench.jobs import KINDS

JOIN_SECONDS = 40
"""How long a cluster may take to let a driver in."""


@dataclass(frozen=True)
class Share:
    """What one job holds."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs"

    @property
    def slots(self) -> float:
        """What its seconds are counted in: GPUs where it has them, else CPU cores."""
        return self.gpus or self.cpus

    def fits(self, cpus: float, gpus: float) -> int:
        """How many such jobs a node takes. A job's share of a GPU is of one GPU."""
        limits = []
        if self.cpus:
            limits.append(int(cpus / self.cpus + 1e-9))
        if self.gpus:
            whole = int(gpus + 1e-9)
            limits.append(whole * int(1 / self.gpus + 1e-9) + int((gpus - whole) / self.gpus + 1e-9))
        return min(limits)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Where jobs run and what each holds.

    Attributes:
        address: a running Ray cluster; None starts a local one that is gone afterwards.
        cpus, gpus: what one job holds; fractions share a core or a GPU. `gpus` None takes a quarter of a GPU
            where there is one.
        cpus_of, gpus_of: likewise of single kinds of job.
        total_cpus, total_gpus: what a local Ray offers; None takes what this process may use.
        job_seconds: a job that runs longer is killed and ends as `timeout`.
        silent_seconds: a worker that gives no sign of life for so long is killed; so is the driver.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float | None = None
    cpus_of: Mapping[str, float] = field(default_factory=dict)
    gpus_of: Mapping[str, float] = field(default_factory=dict)
    total_cpus: int | None = None
    total_gpus: int | None = None
    job_seconds: float = math.inf
    silent_seconds: float = 60

    def __post_init__(self) -> None:
        every = (("cpus", self.cpus, self.cpus_of), ("gpus", self.gpus or 0, self.gpus_of))
        for name, value, values in every:
            _check_share(name, "job", value)
            for kind, own in values.items():
                if kind not in KINDS:
                    raise unknown("kind of job", kind, KINDS)
                _check_share(name, kind, own)
        for share in self.shares(found_gpus=0):
            if not share.cpus and not share.gpus:
                raise InputError("a job needs a share of a CPU or of a GPU")
        if not self.job_seconds > 0:
            raise InputError("a job needs time: the limit must be more than 0 hours")

    def share(self, kind: str, found_gpus: float) -> Share:
        """What a job of that kind holds where so many GPUs were found."""
        gpus = (0.25 if found_gpus else 0.0) if self.gpus is None else self.gpus
        return Share(self.cpus_of.get(kind, self.cpus), self.gpus_of.get(kind, gpus))

    def shares(self, found_gpus: float) -> set[Share]:
        """What jobs hold, of every kind there is."""
        return {self.share(kind, found_gpus) for kind in KINDS}

    @property
    def side_by_side(self) -> int:
        """How many jobs run at once, whatever their kinds; 1 on a cluster, which is not asked."""
        if self.address is not None:
            return 1
        cpus, gpus = self.total
        return max(1, min(share.fits(cpus, gpus) for share in self.shares(gpus)))

    @property
    def total(self) -> tuple[int, int]:
        """CPU cores and GPUs that a local Ray offers: by default those of the node that this process may use."""
        import joblib
        import torch

        gpus = torch.cuda.device_count() if self.total_gpus is None else self.total_gpus
        return self.total_cpus or joblib.cpu_count(), gpus

    def check(self) -> None:
        """Refuse what cannot be had, before anything starts: such jobs would wait forever.

        Raises:
            InputError: nobody answers at the address, or this machine has less than a job asks for.
        """
        if self.address is not None:
            _check_address(self.address)
            return
        cpus, gpus = self.total
        for share in self.shares(gpus):
            if share.cpus > cpus:
                raise InputError(f"a job asks for {share.cpus:g} CPUs, this machine offers {cpus}")
            if share.gpus > gpus:
                raise InputError("a job asks for a GPU, this machine has none")


def _check_share(name: str, kind: str, value: float) -> None:
    if name == "gpus" and not 0 <= value <= 1:
        raise InputError(f"gpus per {kind} is {value}; a job trains on one GPU at most: give a share from 0 to 1")
    if not 0 <= value < 10_000 or (value > 1 and value != int(value)):
        raise InputError(f"{name} per {kind} is {value}; give a fraction below 1 or a whole number")


def shares_of(option: str, texts: Iterable[str]) -> tuple[float | None, dict[str, float]]:
    """What an option was given, "X" for all jobs and "KIND=X" for those of a kind: the first, and the others.

    Raises:
        InputError: no number.
    """
    every: float | None = None
    kinds: dict[str, float] = {}
    for text in texts:
        kind, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise InputError(f"{option} takes a number or KIND=number, not '{text}'") from None
        if kind:
            kinds[kind] = value
        else:
            every = value
    return every, kinds


def _check_address(address: str) -> None:
    """Refuse an address at which no Ray cluster answers.

    A port is tried first, since that is quick; then a process of its own joins, since Ray may wait there for
    minutes and write what it likes.
    """
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit():
            raise InputError(f"--address is '{address}'; give HOST:PORT of a Ray cluster, or auto")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise _nobody(address, str(error)) from error
    join = f"import ray; ray.init(address={address!r}, log_to_driver=False)"
    try:
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", join],
            check=True,
            capture_output=True,
            timeout=JOIN_SECONDS,
            env=join_environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise _nobody(address, f"not within {JOIN_SECONDS} s") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise _nobody(address, " ".join(reason)) from error


def join_environment() -> dict[str, str]:
    """The environment in which a process joins a cluster.

    The head of a cluster asks for a token where it has one itself; who joins must then say so.
    """
    told = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    known = told or Path("~/.ray/auth_token").expanduser().exists()
    return ({"RAY_AUTH_MODE": "token"} if known else {}) | os.environ


def _nobody(address: str, reason: str) -> InputError:
    return InputError(f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`")
