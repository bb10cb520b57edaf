"""Torchvision, imported late (it takes a second) and also where it was built for CUDA and torch was not."""

import importlib
from functools import cache
from typing import Any

import torch

from tas_bench.errors import InputError
from tas_bench.text import reason


def torchvision(module: str, otherwise: str = "") -> Any:
    """A module of torchvision, such as "datasets".

    Where torchvision was built for CUDA and torch was not, its import fails for want of two operators' schemas;
    data sets and transforms need no operator.

    Args:
        module: its name below torchvision.
        otherwise: what a user can do instead of installing it.

    Raises:
        InputError: torchvision cannot be imported.
    """
    name = f"torchvision.{module}"
    try:
        try:
            return importlib.import_module(name)
        except RuntimeError:
            _declare_operators()
            return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"torchvision cannot be imported ({reason(error)}); install the one that matches torch{otherwise}"
        ) from error


@cache
def _declare_operators() -> torch.library.Library:
    """The schemas, which live as long as the library does: hence the cache."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
