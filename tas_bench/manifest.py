"""A results directory's manifest from one run to the next: what may be added, and what must stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tas_bench.errors import InputError

NEWER = {"teacher_epochs": None}
"""Settings that manifests of earlier days lack, and what they were."""


def joined(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The wanted manifest with the problems, seeds, methods and transfers that earlier runs added.

    Args:
        path: of the directory.

    Raises:
        InputError: what is there must not be compared with what is wanted.
    """
    _compare(found, wanted, path)
    more = {
        key: [*found[key], *(x for x in wanted[key] if x not in found[key])]
        for key in ("problems", "seeds", "transfers")
    }
    labels = {method["name"]: method for method in (*found["methods"], *wanted["methods"])}  # the later one's
    return {**wanted, **more, "methods": [*labels.values()], "fixed": {**found["fixed"], **wanted["fixed"]}}


def _compare(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    if found["name"] != wanted["name"]:
        raise InputError(f"{path} holds sweep '{found['name']}', not '{wanted['name']}'; use another --results")
    for key, value in wanted["fixed"].items():
        absent = NEWER.get(key, value)  # of a method or transfer that is new here
        there = found["fixed"].get(key, absent)
        if there != value:
            raise InputError(f"{path} was made with {key} = {there}, now it is {value}; use another --results")
