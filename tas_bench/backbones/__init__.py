"""Backbones, one network family per file. A new file with `Backbone`s in it is found by itself."""

from __future__ import annotations

from tas_bench.backbones.backbone import Backbone
from tas_bench.discover import instances
from tas_bench.errors import unknown


def all_backbones() -> dict[str, Backbone]:
    """Every backbone of this package, by name."""
    return instances(__name__, Backbone)


def find_backbone(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        InputError: there is none; the near miss is suggested.
    """
    found = all_backbones()
    if name not in found:
        raise unknown("backbone", name, found)
    return found[name]
