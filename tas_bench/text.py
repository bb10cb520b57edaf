"""Text for people: lines and durations, and other libraries' silence."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator


def one_line(text: object) -> str:
    """Printable text on one line: no control character or stray byte reaches a terminal or breaks a table."""
    plain = str(text).encode(errors="replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())


def reason(error: BaseException, most: int = 300) -> str:
    """What an error says, in one line of so many characters at most; its name where it says nothing."""
    return one_line(error)[:most] or type(error).__name__


def file_name(text: str) -> str:
    """Text as the name of a file in the folder at hand, whoever wrote it: nothing in it leads elsewhere."""
    return re.sub(r"[^A-Za-z0-9._-]|^\.", "_", text)[:200] or "_"


def duration(seconds: float, half_width: float | None = None) -> str:
    """Seconds as text in the unit that suits them, with ± where a half width is given."""
    size, unit = next(((s, u) for s, u in ((3600, "h"), (60, "min")) if seconds >= s), (1, "s"))
    spread = "" if half_width is None else f" ± {half_width / size:.1f}"
    return f"{seconds / size:.1f}{spread} {unit}"


def own_version() -> str:
    """Of tas_bench; "not installed" in a clone that pip does not know."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tas-bench")
    except PackageNotFoundError:
        return "not installed"


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's lines about what it does; what others log stays as they set it."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
