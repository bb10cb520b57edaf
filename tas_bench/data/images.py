"""What a data set is: its images and labels, and the facts about it that do not depend on where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from tas_bench.backbones.backbone import CIFAR, ImageShape
from tas_bench.errors import unknown

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

PartName = Literal["train", "test"]
PARTS: tuple[PartName, ...] = ("train", "test")


@dataclass(frozen=True, eq=False)
class Images:
    """Images in memory. They may be shared with other users of the same data: do not write to them.

    Attributes:
        images: uint8, (N, C, H, W).
        labels: int64, (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str | torch.device) -> Images:
        """The same images on a device."""
        return Images(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor | NDArray[np.int64]) -> Images:
        """The images at some indices, (M,), in that order."""
        return Images(self.images[indices], self.labels[indices])


class Part(Protocol):
    """The training or test part of a data set where it lies: labels are cheap, images decoded on demand."""

    def labels(self) -> NDArray[np.int64]:
        """All labels, (N,), in the order of the files, not yet checked."""
        ...

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (M, C, H, W) of some rows, which are ascending."""
        ...


@dataclass(frozen=True)
class CifarFiles:
    """How the two usual layouts of a CIFAR set name its things.

    Attributes:
        label: column of the labels in the parquet files.
        folder: what torchvision unpacks.
        loader: the class of torchvision.datasets that reads the folder.
    """

    label: str
    folder: str
    loader: str


@dataclass(frozen=True)
class DatasetInfo:
    """A data set's facts.

    Attributes:
        mean: of each channel over the training set, with pixels in [0, 1]; `std` likewise.
        pad: zero pixels put around an image before the random crop.
        flip: whether a mirrored image is as good as the image.
        files: how its files are named; None for a set that ships with a package.
    """

    name: str
    classes: int
    image: ImageShape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int
    flip: bool
    files: CifarFiles | None = None


_KNOWN = (
    DatasetInfo("digits", 10, ImageShape(1, 8), mean=(0.3045,), std=(0.3758,), pad=1, flip=False),
    DatasetInfo(
        "cifar10", 10, CIFAR, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), pad=4, flip=True,
        files=CifarFiles("label", "cifar-10-batches-py", "CIFAR10"),
    ),
    DatasetInfo(
        "cifar100", 100, CIFAR, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762), pad=4, flip=True,
        files=CifarFiles("fine_label", "cifar-100-python", "CIFAR100"),
    ),
)  # fmt: skip


def all_datasets() -> dict[str, DatasetInfo]:
    """Every known data set by its name."""
    return {info.name: info for info in _KNOWN}


def dataset_info(name: str) -> DatasetInfo:
    """The facts of one data set.

    Raises:
        InputError: no data set has that name.
    """
    known = all_datasets()
    if name not in known:
        raise unknown("dataset", name, known)
    return known[name]
