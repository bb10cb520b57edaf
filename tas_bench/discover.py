"""Find plug-ins by looking: a new file in the right folder is all a newcomer adds."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

T = TypeVar("T")


def instances(package: str, kind: type[T]) -> dict[str, T]:
    """Every module-level object of type `kind` in the modules of `package`, by its `name`."""
    found: dict[str, T] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for value in vars(importlib.import_module(f"{package}.{module.name}")).values():
            if isinstance(value, kind):
                found[value.name] = value  # type: ignore[attr-defined]
    return found


def classes(package: str, has: str) -> dict[str, type]:
    """Every class defined in the modules of `package` that has the attribute `has`, by its `name`."""
    found = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        full_name = f"{package}.{module.name}"
        for value in vars(importlib.import_module(full_name)).values():
            if isinstance(value, type) and value.__module__ == full_name and hasattr(value, has):
                found[value.name] = value  # type: ignore[attr-defined]
    return found
