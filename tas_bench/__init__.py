"""Compare ways of choosing a CNN's width and depth under a cost budget.

`tas_bench.load(path)` reads the rows of a results directory; everything else is reached through the
command `tas-bench` or the modules named in ARCHITECTURE.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tas_bench.reading import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # pyarrow and pandas take a second to import: only whoever loads rows pays for them
    if name == "load":
        from tas_bench.reading import load

        return load
    raise AttributeError(f"module 'tas_bench' has no attribute '{name}'")
