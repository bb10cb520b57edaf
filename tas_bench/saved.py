"""A trained network as one file: safetensors, and in its metadata all it takes to build and to feed the network.

Every value of the metadata is text; what is not plain text (widths, mean, test_accuracy, job ...) is JSON.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tas_bench.backbones import find_backbone
from tas_bench.backbones.backbone import ImageShape
from tas_bench.data import dataset_info
from tas_bench.digest import NAME as DIGEST
from tas_bench.digest import check_weights
from tas_bench.errors import InputError
from tas_bench.files import temporary_of, write_whole
from tas_bench.network import Network
from tas_bench.space import size_from
from tas_bench.tables import weights_bytes
from tas_bench.text import one_line, reason

if TYPE_CHECKING:
    from tas_bench.store import Row

SUFFIX = ".safetensors"

VERSION = 1
"""Of the metadata; it stands under `MARK`."""

MARK = "tas_bench_network"

TOLD = (
    "backbone", "widths", "depths", "dataset", "train_subset", "transfer", "seed", "test_accuracy", "test_top5",
    "macs", "params", "micro_batch", "warning", "precision", "device", "versions", "commit", "job_id", "job",
)  # fmt: skip
"""Columns of a training's row that go with its network."""

MOST = {"classes": 1_000_000, "channels": 65_536, "side": 65_536}
"""Whole numbers of the metadata, with the greatest that is no mistake."""


def metadata_of(row: Row, fingerprint: str) -> dict[str, str]:
    """What the file says of a training: its row, and how the data set's images are normalised.

    Args:
        fingerprint: of the data it was trained on, see `check_data`.
    """
    info = dataset_info(row["dataset"])
    facts: dict[str, Any] = {
        "format": "pt", MARK: VERSION, "classes": info.classes, "channels": info.image.channels,
        "side": info.image.side, "mean": info.mean, "std": info.std, "data_fingerprint": fingerprint,
    }  # fmt: skip
    facts |= {name: row[name] for name in TOLD if row[name] is not None}
    return {name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()}


# ---- writing


def check_out(path: Path, key: str | None = None) -> None:
    """Refuse a file that `write_network` could not write, or another's file in its place.

    Args:
        key: refuse a network of any other job too.

    Raises:
        InputError: a wrong suffix, a folder that is not there or not writable, a file that holds something else.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"--out is '{path}'; a network's file ends in {SUFFIX}")
    check_writable(path)
    if path.exists():
        try:
            about = _metadata(path)
        except InputError as error:
            raise InputError(f"{error}: it is left alone, give another --out") from error
        if key is not None and about.get("job_id") != key:
            raise InputError(f"'{path}' holds the network of another training; give --out, it may name this file")


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written.

    Raises:
        InputError: its folder is missing or refuses files, or a folder of its name is in the way.
    """
    temporary = temporary_of(path)
    try:
        if not path.parent.is_dir():
            raise InputError(f"no folder '{path.parent}' to write '{path.name}' into; make it, or change --out")
        if path.is_dir():
            raise InputError(f"'{path}' is a folder; --out takes a file")
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise InputError(f"cannot write '{path}' ({error.strerror}); give another --out") from error


def write_network(path: Path, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a network's file, whole or not at all.

    Args:
        state: the network's state_dict.
        about: see `metadata_of`.

    Raises:
        StoreIOError: the file system refused.
    """
    write_whole(path, weights_bytes(state, about))


# ---- reading


def read_network(path: str | Path) -> tuple[Network, dict[str, str]]:
    """The network of a file, in eval mode on the CPU, and the file's metadata.

    Raises:
        InputError: no such file, another's file, or a damaged one.
    """
    path = Path(path)
    about = _metadata(path)
    network = _unfilled(path, about)
    with _opened(path) as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    wanted, found = _forms(network.state_dict()), _forms(state)
    if wanted != found:
        odd = min(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        forms = f"{found.get(odd, 'missing')}, not {wanted.get(odd, 'to be there')}"
        raise InputError(f"'{path}' does not fit its own metadata: {odd} is {forms}; train it again")
    with _opened(path):
        check_weights(path.read_bytes())
    network.load_state_dict(state, assign=True)
    return network.eval(), about


def image_of(about: Mapping[str, str]) -> ImageShape:
    """The images a file's network takes."""
    return ImageShape(int(about["channels"]), int(about["side"]))


def _unfilled(path: Path, about: Mapping[str, str]) -> Network:
    """The network as the metadata describes it, without any memory behind it."""
    try:
        for name, most in MOST.items():
            if not 1 <= int(about[name]) <= most:
                raise ValueError(f"{name} is {about[name][:20]}")
        entries = {name: json.loads(about[name]) for name in ("widths", "depths")}
        with torch.device("meta"):
            return Network(
                find_backbone(about["backbone"]), size_from(entries, "its size"),
                int(about["classes"]), image_of(about),
            )  # fmt: skip
    except (KeyError, ValueError, RecursionError, InputError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else reason(error, 200)
        raise InputError(f"'{path}' has metadata that no network can be built from ({why})") from error


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a file that `write_network` wrote.

    Raises:
        InputError: there is no such file, or it is another's.
    """
    with _opened(path) as file:
        about = {name: text for name, text in (file.metadata() or {}).items() if name != DIGEST}
    if MARK not in about:
        raise InputError(f"'{path}' is no network of tas_bench: its metadata has no {MARK}")
    if about[MARK] != str(VERSION):
        raise InputError(f"'{path}' has format {one_line(about[MARK])[:20]}, not {VERSION}; upgrade tas_bench")
    return about


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"no file '{path}'; `tas-bench train` writes one") from error
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise InputError(f"'{path}' is no whole safetensors file ({reason(error, 120)})") from error


def _forms(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Shape and type of every tensor."""
    return {name: f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for name, t in state.items()}
