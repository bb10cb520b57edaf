"""Images in a folder per class, as ImageNet's are: listed by torchvision, decoded by Pillow, changed by v2."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from torch import Tensor

from tas_bench.data.images import PARTS, ClassFolders, DatasetInfo, ImageFiles, PartName
from tas_bench.data.vision import torchvision
from tas_bench.errors import InputError
from tas_bench.text import one_line, reason

FOLDERS: dict[PartName, str] = {"train": "train", "test": "val"}
"""ImageNet's own test labels are secret: the field tests on its validation images."""


@dataclass(frozen=True)
class FolderPart:
    """One part of a set that lies in `folder` as train/CLASS/ and val/CLASS/; labels follow the sorted names."""

    info: DatasetInfo
    folder: Path
    part: PartName

    @property
    def _root(self) -> Path:
        return self.folder / FOLDERS[self.part]

    @cached_property
    def _listing(self) -> Any:
        """Torchvision's ImageFolder; no file is opened.

        Raises:
            InputError: folders are missing, unreadable or empty, or not those of this set.
        """
        self._check_classes()
        listing = torchvision("datasets").ImageFolder(self._root, allow_empty=True)
        empty = np.flatnonzero(np.bincount(listing.targets, minlength=len(listing.classes)) == 0)
        if len(empty):
            where = self._root / listing.classes[empty[0]]
            raise InputError(f"'{where}' holds no image; fetch {self.info.name}'s images of that class again")
        return listing

    def _check_classes(self) -> None:
        names = {part: _class_names(self.folder / FOLDERS[part]) for part in PARTS}
        for part, found in names.items():
            if len(found) != self.info.classes:
                raise InputError(
                    f"'{self.folder / FOLDERS[part]}' has {len(found):,} class folders, {self.info.name} has "
                    f"{self.info.classes:,}; make them so, or name another folder or data set"
                )
        if strange := sorted(set(names["train"]) ^ set(names["test"])):
            raise InputError(
                f"class folder '{strange[0]}' is in only one of '{self.folder}/train' and '{self.folder}/val'; "
                "both need the same names"
            )

    def labels(self) -> NDArray[np.int64]:
        """All labels; see `Part`. Raises as the listing."""
        return np.asarray(self._listing.targets, dtype=np.int64)

    def files(self, rows: NDArray[np.int64]) -> ImageFiles:
        """The files of some rows. Raises as the listing."""
        samples, start = self._listing.samples, len(os.path.join(self._root, ""))
        names = np.array([os.fsencode(samples[row][0][start:]) for row in rows])
        return ImageFiles(self._root, names, torch.from_numpy(self.labels()[rows]))

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of some rows as they are evaluated; see `Part`.

        Raises:
            InputError: one cannot be decoded.
        """
        files = self.files(rows)
        views = [view(files.path(i), self.info, augment=False) for i in range(len(files))]
        return np.stack([x.numpy() for x in views])


def _class_names(folder: Path) -> Sequence[str]:
    """Names of the class folders, sorted.

    Raises:
        InputError: there is none, or no such folder.
    """
    try:
        names: Sequence[str] = torchvision("datasets.folder").find_classes(folder)[0]
    except OSError as error:  # torchvision's own has no strerror
        if error.strerror:
            raise InputError(
                f"cannot list '{folder}' ({error.strerror}); it should hold a folder per class"
            ) from error
        raise InputError(f"'{folder}' holds no folders; put its images into a folder per class") from error
    return names


def view(path: str, info: DatasetInfo, *, augment: bool) -> Tensor:
    """An image as the network shall see it, before it is normalised: uint8 (3, side, side).

    To augment, torch's default generator is drawn from.

    Raises:
        InputError: the file is missing or no image.
    """
    loader, transform = torchvision("datasets.folder").pil_loader, _transform(info, augment)
    try:
        with warnings.catch_warnings():  # of odd metadata
            warnings.simplefilter("ignore")
            image = loader(path)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds on bad bytes
        known = not isinstance(error, UnidentifiedImageError)
        told = (getattr(error, "strerror", None) or reason(error)) if known else "no image"
        raise InputError(one_line(f"cannot read '{path}' ({told}); fetch it again")) from error
    x: Tensor = transform(image)
    return x


@cache
def _transform(info: DatasetInfo, augment: bool) -> Any:
    """The usual ImageNet recipe on uint8 tensors, up to the normalisation."""
    v2, side = torchvision("transforms.v2"), info.image.side
    assert isinstance(info.files, ClassFolders)
    if not augment:
        return v2.Compose([v2.PILToTensor(), v2.Resize(info.files.resize), v2.CenterCrop(side)])
    return v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomResizedCrop(side),
            v2.RandomHorizontalFlip(0.5 if info.flip else 0.0),
            v2.ColorJitter(*[info.files.jitter] * 3),
        ]
    )


def normalisation(info: DatasetInfo, device: torch.device) -> Callable[[Tensor], Tensor]:
    """From uint8 (..., C, H, W) on the device to normalised float32, as torchvision's ToDtype and Normalize do.

    They would send mean and deviation to a GPU for every batch, and wait.
    """
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (info.mean, info.std))
    return lambda x: x.float().mul_(1 / 255).sub_(mean).div_(std)
