"""A long job's state between epochs, in the results directory, so that a stop costs seconds, not hours."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Mapping
from typing import Any

import torch

from tas_bench.jobs import Context, checkpoint_path


class Checkpoint:
    """The checkpoint of one job: all that its next epoch depends on, and what it measured so far.

    Args:
        parts: networks and optimisers by name, whatever has a state_dict.
        generator: source of all randomness.
    """

    def __init__(self, context: Context, key: str, parts: Mapping[str, Any], generator: torch.Generator) -> None:
        self.path, self.device = checkpoint_path(context.results, key), context.device
        self.parts, self.generator = parts, generator
        self.every, self.saved = context.checkpoint_seconds, time.monotonic()

    def restore(self) -> dict[str, Any]:
        """Put the parts where an earlier attempt left them.

        Returns:
            What `save` was given; empty where there is no checkpoint (a damaged one counts as none).
        """
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return {}
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.generator.set_state(state["generator"].cpu())
        values: dict[str, Any] = state["values"]
        return values

    def save(self, **values: Any) -> None:
        """Keep parts and values, whole or not at all; not sooner than `checkpoint_seconds` after the last ones."""
        if time.monotonic() - self.saved < self.every:
            return
        states = {name: part.state_dict() for name, part in self.parts.items()}
        state = {"parts": states, "generator": self.generator.get_state(), "values": values}
        self.path.parent.mkdir(exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)
        self.saved = time.monotonic()
