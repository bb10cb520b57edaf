"""CIFAR as torchvision unpacks it, read and downloaded by torchvision, which checks the MD5 of each file.

A pickle can run code, so none is opened before its sum is found right.
"""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tas_bench.data.images import CifarFiles, DatasetInfo, PartName
from tas_bench.data.vision import torchvision
from tas_bench.errors import InputError
from tas_bench.text import reason


@dataclass(frozen=True)
class PicklePart:
    """One part of a set that lies in `folder` as torchvision's archive unpacks there."""

    info: DatasetInfo
    folder: Path
    part: PartName

    @cached_property
    def _dataset(self) -> Any:
        loader = _loader(self.info)
        try:
            return loader(self.folder, train=self.part == "train")
        except (RuntimeError, OSError) as error:
            raise InputError(_what_is_wrong(self.folder, loader)) from error

    def labels(self) -> NDArray[np.int64]:
        """All labels; see `Part`.

        Raises:
            InputError: a file is missing, unreadable or not the original.
        """
        return np.asarray(self._dataset.targets, dtype=np.int64)

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of some rows; see `Part`. Raises as `labels`."""
        return np.ascontiguousarray(self._dataset.data[rows].transpose(0, 3, 1, 2))


def download(info: DatasetInfo, root: Path) -> None:
    """Fetch the original archive and unpack it under `root`; what is there and whole is not fetched again.

    Raises:
        InputError: the network, the file system or the archive's MD5 says no.
    """
    loader = _loader(info)
    try:
        with _no_way_out():
            loader(root, download=True)
    except (OSError, RuntimeError, HTTPException, tarfile.TarError, EOFError) as error:
        raise InputError(
            f"cannot download {info.name} ({reason(error)}); fetch {loader.url} yourself and unpack it in '{root}'"
        ) from error


@contextmanager
def _no_way_out() -> Iterator[None]:
    """Archives are unpacked below their folder or not at all: no links out of it, devices or absolute paths."""
    before = tarfile.TarFile.__dict__.get("extraction_filter")
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # torchvision passes none
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


def _loader(info: DatasetInfo) -> Any:
    assert isinstance(info.files, CifarFiles)
    return getattr(torchvision("datasets", ", or use the parquet files"), info.files.loader)


def _what_is_wrong(folder: Path, loader: Any) -> str:
    """Which file torchvision found missing or damaged, in one line."""
    check = torchvision("datasets.utils").check_integrity
    files = [*loader.train_list, *loader.test_list, (loader.meta["filename"], loader.meta["md5"])]
    base = folder / loader.base_folder
    for name, md5 in files:
        if not (base / name).is_file():
            return f"'{base}' lacks the file {name}; fetch {loader.url} and unpack it in '{folder}'"
        try:
            good = check(base / name, md5)
        except OSError as error:
            return f"cannot read '{base / name}' ({error.strerror})"
        if not good:
            return f"'{base / name}' is damaged (wrong MD5); fetch {loader.url} and unpack it in '{folder}'"
    return f"torchvision cannot read '{base}'; fetch {loader.url} and unpack it in '{folder}'"
