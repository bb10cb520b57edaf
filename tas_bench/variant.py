"""One method several times in a sweep, each time with other settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from tas_bench.errors import check_name
from tas_bench.jobs import Method, Plan, Problem


@dataclass(frozen=True)
class Variant:
    """A method under a name of its own. Its settings are reached by the method's name, for all variants at once.

    Attributes:
        name: its name in rows and on the command line.
        label: its name in the tables.
    """

    name: str
    label: str
    method: Method

    def __post_init__(self) -> None:
        check_name("a variant", self.name)

    @property
    def jobs(self) -> int:
        """As the method's."""
        return getattr(self.method, "jobs", 0)

    @property
    def warning(self) -> str | None:
        """As the method's."""
        return getattr(self.method, "warning", None)

    def plan(self, problem: Problem, seed: int) -> Plan:
        """The method's plan."""
        return self.method.plan(problem, seed)


def settings_of(plugin: Any) -> Any:
    """What holds the settings of a method or transfer: itself, or a variant's method."""
    return plugin.method if isinstance(plugin, Variant) else plugin


def parts_of(plugin: Any) -> tuple[Any, ...]:
    """All that holds settings of a method or transfer: what `settings_of` says, and methods inside of that."""
    outer = settings_of(plugin)
    return (outer, *(getattr(outer, name) for name in inner_methods(outer)))


def inner_methods(plugin: Any) -> list[str]:
    """The fields that hold a method; their settings are reached by its name."""
    return [f.name for f in fields(plugin) if hasattr(getattr(plugin, f.name), "plan")]
