"""Where jobs run and what each of them holds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tas_bench.errors import InputError

JOIN_SECONDS = 40
"""How long a cluster may take to let a driver in."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Where jobs run and what each holds.

    Attributes:
        address: a running Ray cluster; None starts a local one that is gone afterwards.
        cpus, gpus: what one job holds; fractions share a core or a GPU. `gpus` None takes a quarter of a GPU
            where there is one.
        total_cpus, total_gpus: what a local Ray offers; None takes what the machine has.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float | None = None
    total_cpus: int | None = None
    total_gpus: int | None = None

    def __post_init__(self) -> None:
        for name in ("cpus", "gpus"):
            value = getattr(self, name) or 0
            if not 0 <= value < 10_000 or (value > 1 and value != int(value)):
                raise InputError(f"{name} per job is {value}; give a fraction below 1 or a whole number")
        if self.cpus == 0 and not self.gpus:
            raise InputError("a job needs a share of a CPU or of a GPU")

    def check(self) -> None:
        """Refuse what cannot be had, before anything starts: such jobs would wait forever.

        Raises:
            InputError: nobody answers at the address, or this machine has less than a job asks for.
        """
        if self.address is not None:
            _check_address(self.address)
            return
        import torch

        cpus = self.total_cpus or os.cpu_count() or 1
        gpus = torch.cuda.device_count() if self.total_gpus is None else self.total_gpus
        if self.cpus > cpus:
            raise InputError(f"a job asks for {self.cpus:g} CPUs, this machine offers {cpus}")
        if (self.gpus or 0) > gpus:
            raise InputError(f"a job asks for {self.gpus:g} GPUs, this machine offers {gpus}")


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

    `ray start` asks for a token where one lies in the home directory; who joins must then say so.
    """
    token = Path("~/.ray/auth_token").expanduser()
    return ({"RAY_AUTH_MODE": "token"} if token.exists() else {}) | os.environ


def _nobody(address: str, reason: str) -> InputError:
    return InputError(f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`")
