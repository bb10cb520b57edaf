"""What is tuned: settings of TAS by name, and t, each with the values it may have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tas_bench.errors import InputError, unknown

KINDS: Mapping[str, type[int] | type[float]] = {
    "lambda_cost": float, "t": float, "arch_lr": float, "arch_weight_decay": float,
    "tau_start": float, "tau_end": float, "samples": int, "search_epochs": int,
}  # fmt: skip
"""What can be tuned: fields of `Tas`, and the tolerance t of the problem. Samples is |I|."""

SYNTAX = "NAME=V1/V2/... or NAME=LOW:HIGH or NAME=LOW:HIGH:log"

Params = Mapping[str, float]
"""A value of every axis, by name."""


@dataclass(frozen=True)
class Axis:
    """One setting: its `choices`, in ascending order; where there are none all from `low` to `high`."""

    name: str
    choices: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The least value and the greatest."""
        return (self.choices[0], self.choices[-1]) if self.choices else (self.low, self.high)

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1: choices lie side by side, a quarter apart at most."""
        if self.choices:
            return self.choices.index(value) / max(4, len(self.choices) - 1)
        low, high, at = (math.log(v) if self.log else v for v in (*self.ends, value))
        return (at - low) / (high - low)


def axes_of(texts: Sequence[str]) -> tuple[Axis, ...]:
    """The axes, each written as `SYNTAX` says.

    Raises:
        InputError: not a name or not values of it; a range the wrong way round; a name twice, or none at all.
    """
    axes = tuple(_axis(text) for text in texts)
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names) or not names:
        raise InputError(f"what to tune is {', '.join(names) or 'nothing'}; give at least one setting, each once")
    return axes


def _axis(text: str) -> Axis:
    name, equals, values = text.strip().partition("=")
    if not equals:
        raise InputError(f"what to tune is written {SYNTAX}, not '{text}'")
    if name not in KINDS:
        raise unknown("setting to tune", name, KINDS)
    if ":" not in values:
        choices = sorted(_number(name, value) for value in values.split("/"))
        if len(set(choices)) < len(choices):
            raise InputError(f"{name}={values} has a value twice")
        return Axis(name, tuple(choices))
    low, high, *log = values.split(":")
    if log not in ([], ["log"]):
        raise InputError(f"what to tune is written {SYNTAX}, not '{text}'")
    axis = Axis(name, low=_number(name, low), high=_number(name, high), log=bool(log))
    if axis.low >= axis.high:
        raise InputError(f"{name}={values} is a range the wrong way round; write the lower end first")
    if log and axis.low <= 0:
        raise InputError(f"{name}={values} begins at {axis.low:g}; a range on a log scale begins above zero")
    return axis


def _number(name: str, text: str) -> float:
    kind = KINDS[name]
    try:
        value = kind(text)
        if not math.isfinite(value):
            raise ValueError(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} must be {wanted}, not '{text}'") from error
    return value
