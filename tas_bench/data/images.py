"""What a data set is: its images and labels, and the facts about it that do not depend on where it lies."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias

import numpy as np

from tas_bench.backbones.backbone import CIFAR, ImageShape
from tas_bench.backbones.imagenet_resnet import IMAGENET
from tas_bench.errors import unknown

if TYPE_CHECKING:
    from pathlib import Path

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


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images as files of any size, decoded when a batch needs them.

    Attributes:
        folder: what `names` start from.
        names: paths as bytes, (N,): one block of memory, where a list of strings would be copied by each worker.
        labels: int64, (N,), on the CPU.
        device: where their batches go.
    """

    folder: Path
    names: NDArray[np.bytes_]
    labels: Tensor
    device: str | torch.device = "cpu"

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """Where one image lies."""
        return os.path.join(self.folder, os.fsdecode(self.names[index]))

    def to(self, device: str | torch.device) -> ImageFiles:
        """The same files, whose batches go to a device."""
        return replace(self, device=device)

    def take(self, indices: Tensor | NDArray[np.int64]) -> ImageFiles:
        """The files at some indices, (M,), in that order."""
        return replace(self, names=self.names[np.asarray(indices)], labels=self.labels[indices])


AnyImages: TypeAlias = Images | ImageFiles


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
        otherwise: what else than naming the data folder a user can do.
    """

    otherwise: ClassVar[str] = ", or use --download"

    label: str
    folder: str
    loader: str

    def expected(self, name: str) -> str:
        """What the data folder should hold."""
        return f"{name}/train-*.parquet or {self.folder}/"


@dataclass(frozen=True)
class ClassFolders:
    """Files of any size in a folder per class, under train/ and val/ (which is the test part).

    Attributes:
        resize: shorter side before the central crop, to evaluate.
        jitter: how far brightness, contrast and saturation go from 1, to train.
        otherwise: see `CifarFiles`.
    """

    otherwise: ClassVar[str] = ""

    resize: int
    jitter: float

    def expected(self, name: str) -> str:
        """What the data folder should hold."""
        return f"{name}/train/CLASS/*.JPEG and {name}/val/CLASS/*.JPEG"


@dataclass(frozen=True)
class DatasetInfo:
    """A data set's facts.

    Attributes:
        mean: of each channel over the training set, with pixels in [0, 1]; `std` likewise.
        pad: zero pixels put around an image in memory before the random crop.
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
    files: CifarFiles | ClassFolders | None = None


def _imagenet(name: str, classes: int) -> DatasetInfo:
    """ImageNet or a subset of it, with the usual crops, jitter, mean and deviation."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return DatasetInfo(name, classes, IMAGENET, mean, std, pad=0, flip=True, files=ClassFolders(256, 0.4))


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
    _imagenet("imagenet", 1000),
    _imagenet("imagenette", 10),
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
