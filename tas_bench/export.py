"""The deployed network as a file that runs without tas_bench: a torch.export program, or ONNX.

Batches of any size go in. Before anything is written it is loaded from memory and compared with the network.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tas_bench.backbones.backbone import ImageShape
from tas_bench.errors import InputError, MismatchError
from tas_bench.files import write_whole
from tas_bench.network import Network

SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")

ABOUT = "tas_bench.json"
"""Name of the metadata inside a torch.export program."""

BATCHES = (1, 7)
"""Batch sizes that are compared; the export is traced with another."""

TOLERANCE = 1e-4
"""Greatest difference of two logits, as a fraction of the greatest logit: kernels add in other orders."""

Run = Callable[[Tensor], Tensor]


def check_packages(kind: str) -> None:
    """Refuse ONNX where its packages are missing.

    Raises:
        InputError: says how to install them.
    """
    missing = [name for name in ONNX_PACKAGES if kind == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"--to onnx needs packages that are missing: python -m pip install {' '.join(missing)}")


def export(network: Network, image: ImageShape, about: Mapping[str, str], kind: str, path: Path) -> float:
    """Write the network to `path`, and compare what the file computes with what the network does.

    Args:
        image: what it takes.
        about: metadata that goes with it.
        kind: "torch" or "onnx".

    Returns:
        The greatest difference of two logits, as a fraction of the greatest logit.

    Raises:
        MismatchError: the two differ by more than `TOLERANCE`; `path` is left as it was.
        StoreIOError: the file system refused.
    """
    make, load = {"torch": (_make_torch, _load_torch), "onnx": (_make_onnx, _load_onnx)}[kind]
    network.eval()
    with _quiet():
        data = make(network, torch.zeros(2, image.channels, image.side, image.side), about)
        worst = difference(network, load(data), image)
    if not worst <= TOLERANCE:
        raise MismatchError(
            f"the {kind} export of this network computes something else: logits differ by {worst:.1e} of "
            f"the greatest, {TOLERANCE:.0e} is allowed; '{path}' is not written, please report it"
        )
    write_whole(path, data)
    return worst


@torch.no_grad()
def difference(network: Network, other: Run, image: ImageShape) -> float:
    """Greatest difference of two logits over random images, as a fraction of the greatest logit; NaN if any is."""
    generator, apart = torch.Generator().manual_seed(0), []
    for batch in BATCHES:
        x = torch.randn(batch, image.channels, image.side, image.side, generator=generator)
        wanted, found = network(x), other(x)
        if wanted.shape != found.shape:
            raise MismatchError(f"the export gives {list(found.shape)} for {list(wanted.shape)} logits")
        apart.append((wanted - found).abs().max() / wanted.abs().max().clamp(min=1e-30))
    return float(torch.stack(apart).max())  # which, unlike Python's, keeps a NaN


# ---- the two kinds


def _program(network: Network, images: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def _make_torch(network: Network, images: Tensor, about: Mapping[str, str]) -> bytes:
    file = io.BytesIO()
    torch.export.save(_program(network, images), file, extra_files={ABOUT: json.dumps(dict(about))})
    return file.getvalue()


def _load_torch(data: bytes) -> Run:
    return torch.export.load(io.BytesIO(data)).module()


def _make_onnx(network: Network, images: Tensor, about: Mapping[str, str]) -> bytes:
    program = torch.onnx.export(
        _program(network, images), dynamo=True, input_names=["images"], output_names=["logits"], verbose=False
    )
    assert program is not None
    program.model.metadata_props.update(about)
    data: bytes = program.model_proto.SerializeToString()
    return data


def _load_onnx(data: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        found: Any = session.run(["logits"], {"images": x.numpy()})
        return torch.from_numpy(found[0])

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters say of themselves from the terminal."""
    names = ("torch.export", "torch.onnx", "torch._export", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
