"""A long job's state between epochs, in the results directory, so that a stop costs seconds, not hours."""

from __future__ import annotations

import contextlib
import io
import os
import time
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from tas_bench import measure
from tas_bench.files import read_whole, remote, temporary_of, write_synced, write_whole
from tas_bench.jobs import Context, checkpoint_path
from tas_bench.text import reason


class Checkpoint:
    """The last two checkpoints of one job: all that its next epoch depends on, and what it measured so far.

    Args:
        parts: networks and optimisers by name, whatever has a state_dict.
        generator: source of all randomness.
        precision: what they are trained in here; what another machine began in another one starts again.

    Attributes:
        warning: what went wrong with a checkpoint, one line; the job goes on.
    """

    def __init__(
        self, context: Context, key: str, parts: Mapping[str, Any], generator: torch.Generator, precision: str
    ) -> None:
        self.path, self.device = checkpoint_path(context.results, key), context.device
        self.precision = precision
        self.parts, self.generator = parts, generator
        self.every, self.saved = context.checkpoint_seconds, time.monotonic()
        self.warning: str | None = None

    def restore(self, usable: Callable[[dict[str, Any]], bool] = lambda _values: True) -> dict[str, Any]:
        """Put the parts where an earlier attempt left them.

        Args:
            usable: whether the job can go on from a checkpoint with such values.

        Returns:
            What `save` was given; empty where there is no checkpoint, or none that is whole and usable.

        Raises:
            StoreIOError: one cannot be read now.
        """
        for path in (self.path, previous(self.path)):
            try:
                state = read_state(path, self.device)
            except FileNotFoundError:
                continue
            except (ValueError, IsADirectoryError):
                self.warning = "its last checkpoint was damaged: it went on from an earlier one, or from the start"
                path.unlink(missing_ok=True)  # or it would take the place of the good one before it
                continue
            if state["device"] != self.device:  # whose random numbers are others
                self.warning = f"its checkpoint was made on {state['device']}: it started again"
                return {}
            if (made := state.get("precision", self.precision)) != self.precision:  # older ones do not tell
                self.warning = f"its checkpoint was made in {made}, here it is {self.precision}: it started again"
                return {}
            values: dict[str, Any] = state["values"]
            if not usable(values):
                continue
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
            self.generator.set_state(state["generator"].cpu())
            return values
        return {}

    def save(self, *, now: bool = False, **values: Any) -> None:
        """Keep parts and values, whole or not at all.

        Args:
            now: at once; else not sooner than `checkpoint_seconds` after the last ones.
        """
        if not now and time.monotonic() - self.saved < self.every:
            return
        self.saved = time.monotonic()
        states = {name: part.state_dict() for name, part in self.parts.items()}
        state = {
            "device": self.device, "precision": self.precision, "parts": states,
            "generator": self.generator.get_state(), "values": values,
        }  # fmt: skip
        data = io.BytesIO()
        torch.save(state, data)
        try:
            self.path.parent.mkdir(exist_ok=True)
            _keep_two(self.path, data.getvalue())
        except OSError as error:  # a full disk, most likely; the earlier checkpoint stands
            self.warning = f"a checkpoint could not be kept ({reason(error, 120)})"


def _keep_two(path: Path, data: bytes) -> None:
    """Write a file, and keep the one there was; at every moment one of them is whole."""
    if remote(path) is not None:
        with contextlib.suppress(FileNotFoundError):
            path.rename(previous(path))
        write_whole(path, data)
        return
    temporary = temporary_of(path)
    try:
        write_synced(temporary, data, mode=0o600)
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, previous(path))
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_state(path: Path, device: str) -> dict[str, Any]:
    """What `save` wrote. The checksums of its parts are compared, which torch does not do.

    Raises:
        ValueError: it is damaged.
        FileNotFoundError: there is none.
        StoreIOError: it cannot be read now, which is no damage.
    """
    data = io.BytesIO(read_whole(path))
    try:
        with zipfile.ZipFile(data) as archive:
            if (name := archive.testzip()) is not None:
                raise ValueError(f"checksum of {name}")
        data.seek(0)
        state: dict[str, Any] = torch.load(data, map_location=device, weights_only=True)
        if missing := {"device", "parts", "generator", "values"} - set(state):
            raise ValueError(f"it has no {' and no '.join(sorted(missing))}")
    except Exception as error:  # damaged bytes may raise anything at all
        if measure.out_of_memory(error):
            raise
        raise ValueError(reason(error, 160)) from error
    return state


def previous(path: Path) -> Path:
    """Where the checkpoint before the last lies."""
    return path.with_suffix(".previous.pt")


def drop(results: Path, keys: Collection[str]) -> None:
    """Drop the checkpoints of these keys, as far as the file system lets us."""
    for path in (results / "_checkpoints").glob("*.pt") if keys else ():
        if path.name.split(".")[0] in keys:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
