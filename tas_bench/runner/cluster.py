"""A Ray to run on: a local one that nobody else can reach, or a running cluster; and what its nodes have."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tas_bench.errors import InputError, TasBenchError
from tas_bench.files import is_running, process_space
from tas_bench.resources import Resources, join_environment


@dataclass(frozen=True)
class Node:
    """A living node and what it offers in all."""

    id: str
    cpus: float
    gpus: float


class RayLostError(TasBenchError):
    """The local Ray has died."""


class NoClusterError(InputError):
    """No cluster answers at the address."""


@contextlib.contextmanager
def ray_for(resources: Resources, folder: Path) -> Iterator[None]:
    """The cluster at `address`, or a local Ray on loopback, without dashboard, gone afterwards.

    Args:
        folder: where a local Ray has its files and sockets; see `private_folder`.

    Raises:
        NoClusterError: no cluster answers.
    """
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # by default workers give way to whatever else the machine does
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "20",  # then a driver without its cluster ends
    }
    if resources.address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # the switch that keeps a local Ray on loopback
    else:
        os.environ |= join_environment()
    import ray

    try:
        _connect(resources, folder)
        ray._private.worker.print_to_stdstream = _to_log  # it tells of every worker that dies
        yield
    finally:
        ray.shutdown()


def nodes() -> list[Node]:
    """The living nodes."""
    import ray

    return [
        Node(node["NodeID"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def _connect(resources: Resources, folder: Path) -> None:
    """Start a local Ray, or join the cluster."""
    import ray

    if resources.address is None:
        ray.init(
            address="local", num_cpus=resources.total[0], num_gpus=resources.total_gpus,
            include_dashboard=False, _temp_dir=str(folder / "r"), log_to_driver=False, logging_level=logging.ERROR,
        )  # fmt: skip
        return
    try:
        ray.init(address=resources.address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        hint = "if there is one, set RAY_AUTH_MODE as it has it"
        raise NoClusterError(f"no Ray cluster answers at {resources.address} ({error}); {hint}") from error


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A private folder for Ray, which opens to all what it is given: it gets one within.

    Its sockets lie 67 characters below and may have 107 in all. What killed runs left is dropped.
    """
    parent = Path(tempfile.gettempdir())
    parent = parent if len(str(parent)) <= 20 else Path("/tmp")  # noqa: S108
    for left in parent.glob("tas-bench-*/pid"):
        with contextlib.suppress(OSError, ValueError):
            space, pid = left.read_text().split()
            if space == process_space() and not is_running(int(pid)):
                shutil.rmtree(left.parent, ignore_errors=True)
    found = Path(tempfile.mkdtemp(prefix="tas-bench-", dir=parent))
    (found / "pid").write_text(f"{process_space()} {os.getpid()}")
    try:
        yield found
    finally:
        shutil.rmtree(found, ignore_errors=True)


def _to_log(message: dict[str, Any], **_options: Any) -> None:
    logging.getLogger("ray").warning("%s", " ".join(message["lines"]))
