"""A long job's state between epochs, in the results directory, so that a stop costs seconds, not hours."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from tas_bench.jobs import Context, checkpoint_path


class Checkpoint:
    """The checkpoint of one job. A file is there whole or not at all."""

    def __init__(self, context: Context, key: str) -> None:
        self.path, self.device = checkpoint_path(context.results, key), context.device
        self.every, self.saved = context.checkpoint_seconds, time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state of an earlier attempt; None where there is none (a damaged one counts as none)."""
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None
        return state

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keep the state, unless the last one is younger than the context's `checkpoint_seconds`."""
        if time.monotonic() - self.saved < self.every:
            return
        self.path.parent.mkdir(exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(dict(state()), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)
        self.saved = time.monotonic()
