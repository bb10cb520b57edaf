"""The errors a user may meet, each with the exit code of the command that meets it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

OK, INTERNAL, BAD_INPUT, FAILED_JOBS, DAMAGED, IO_FAULT = 0, 1, 2, 3, 4, 5


class TasBenchError(Exception):
    """An error told in one line: what was wrong, where, what to do."""

    exit_code = INTERNAL


class InputError(TasBenchError):
    """What the user asked for cannot be done; found before any compute is spent."""

    exit_code = BAD_INPUT


class StoreDamagedError(TasBenchError):
    """A committed row cannot be read back."""

    exit_code = DAMAGED


class StoreIOError(TasBenchError):
    """The file system refused a read or a write."""

    exit_code = IO_FAULT


class PlanFailedError(TasBenchError):
    """A method cannot go on (all its candidates failed, say); the sweep's other plans do."""

    exit_code = FAILED_JOBS


class TrainingFailedError(TasBenchError):
    """A training that was asked for by hand ended badly; its row says how."""

    exit_code = FAILED_JOBS


class MismatchError(TasBenchError):
    """An exported network does not compute what the network computes."""


class DivergedError(TasBenchError):
    """A loss became NaN or infinite."""


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """An `InputError` for a name that is not among `known`, with the near miss suggested."""
    known = sorted(set(known))
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    hint = next((f"; did you mean '{k}'?" for k in known if [k.lower()] == near), "")
    return InputError(f"unknown {what} '{name}'{hint} (known: {', '.join(known)})")


def check_least(settings: object, owner: str, least: float, *names: str) -> None:
    """Refuse settings below `least`; those that are None are left out.

    Raises:
        InputError: names the setting.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise InputError(f"{owner}.{name} is {value}; it must be at least {least}")


def check_name(what: str, name: object) -> None:
    """Refuse a name that could lead a path elsewhere, or do harm where it is shown.

    Raises:
        InputError: it is not of 1 to 64 letters, digits, dots, underscores and hyphens of ASCII, or it is . or ..
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) or name in (".", ".."):
        told = ascii(name)[:80]
        raise InputError(f"{what} is named {told}; names are 1 to 64 of A-Z a-z 0-9 . _ - (and not . or ..)")
