"""Where jobs run and what each of them holds."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from tas_bench.errors import InputError


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
        if self.cpus == 0 and self.gpus == 0:
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
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address is '{address}'; give HOST:PORT of a Ray cluster, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`"
        ) from error
