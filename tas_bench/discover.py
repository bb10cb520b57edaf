"""Find plug-ins by looking: a new file in the right folder is all a newcomer adds."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, TypeVar

from tas_bench.errors import check_name

T = TypeVar("T")


def instances(package: str, kind: type[T]) -> dict[str, T]:
    """Every module-level object of type `kind` in the modules of `package`, by its `name`."""
    found: dict[str, T] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for value in vars(importlib.import_module(f"{package}.{module.name}")).values():
            if isinstance(value, kind):
                found[_name(value, f"a {kind.__name__} of {package}.{module.name}")] = value
    return found


def classes(package: str, has: str) -> dict[str, type]:
    """Every class defined in the modules of `package` that has the attribute `has`, by its `name`."""
    found = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        full_name = f"{package}.{module.name}"
        for value in vars(importlib.import_module(full_name)).values():
            if isinstance(value, type) and value.__module__ == full_name and hasattr(value, has):
                found[_name(value, f"{full_name}.{value.__name__}")] = value
    return found


def _name(thing: Any, what: str) -> str:
    """Its name.

    Raises:
        InputError: it has none, or one that `check_name` refuses.
    """
    name: str = getattr(thing, "name", None)  # type: ignore[assignment]  # which is refused
    check_name(what, name)
    return name
