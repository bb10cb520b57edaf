"""Find a data set, check it, load a part of it, and split the training part."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from tas_bench.data import pickles
from tas_bench.data.folders import FOLDERS, FolderPart
from tas_bench.data.images import (
    PARTS,
    AnyImages,
    ClassFolders,
    DatasetInfo,
    Images,
    Part,
    PartName,
    all_datasets,
    dataset_info,
)
from tas_bench.data.parquet import ParquetPart
from tas_bench.data.pickles import PicklePart
from tas_bench.data.split import stratified
from tas_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tas_bench.jobs import DataSpec

_SUBSET_SEED = 0
_DIGITS_SEED = 0


def load_train(spec: DataSpec, root: Path | None) -> AnyImages:
    """The training part, or its fixed stratified subset; loaded once per process.

    The subset follows from the labels in the order of the files: other files of the same set may order
    their rows otherwise.

    Raises:
        InputError: no such data, or it is damaged, or `train_subset` does not suit it.
    """
    return _load(spec.name, root, "train", spec.train_subset)


def load_test(spec: DataSpec, root: Path | None) -> AnyImages:
    """The test part, whole; no other function leads to it. Loaded once per process.

    Raises:
        InputError: no such data, or it is damaged.
    """
    return _load(spec.name, root, "test", None)


def halves(train: AnyImages, spec: DataSpec) -> tuple[AnyImages, AnyImages]:
    """Two disjoint stratified halves of the training images, fixed by `spec.split_seed`."""
    first = np.zeros(len(train), dtype=bool)
    first[stratified(train.labels.numpy(force=True), len(train) // 2, spec.split_seed)] = True
    return train.take(np.flatnonzero(first)), train.take(np.flatnonzero(~first))


def set_aside(train: AnyImages, spec: DataSpec, share: float) -> tuple[AnyImages, AnyImages | None]:
    """The training images without a stratified share, and that share; None for 0.

    Raises:
        InputError: too few for every class to be in both.
    """
    if not share:
        return train, None
    aside = _aside(train.labels.numpy(force=True), spec, share)
    return train.take(np.flatnonzero(~aside)), train.take(np.flatnonzero(aside))


def check_data(spec: DataSpec, root: Path | None, holdout: float = 0.0) -> str:
    """Whether both parts can be loaded, as far as labels, file footers and a few images tell.

    Args:
        holdout: share of the training images that will be set aside.

    Returns:
        A fingerprint of the training labels in file order: subset, halves and shuffles follow that order.

    Raises:
        InputError: they cannot, or the spec does not suit them.
    """
    if spec.split_seed < 0:
        raise InputError(f"split_seed is {spec.split_seed}; it must not be negative")
    info, fingerprint = dataset_info(spec.name), ""
    for name in PARTS:
        part = _find(info, root, name)
        labels = _labels(info, part, name)
        if name == "train":
            rows = _rows(spec.train_subset, info, labels)
            fingerprint = hashlib.sha256(labels.tobytes()).hexdigest()[:12]
            if holdout:
                _aside(labels[rows], spec, holdout)
        part.images(np.unique(np.linspace(0, len(labels) - 1, num=5).astype(np.int64)))
        if isinstance(part, PicklePart):
            break  # torchvision found the MD5 of every file right, the test part's too
    return fingerprint


def train_count(spec: DataSpec, root: Path | None) -> int:
    """How many training images there are, or are to be taken; nothing but labels is read.

    Raises:
        InputError: no such data, or it is damaged.
    """
    if spec.train_subset is not None:
        return spec.train_subset
    info = dataset_info(spec.name)
    return len(_labels(info, _find(info, root, "train"), "train"))


def download(name: str, root: Path) -> None:
    """Fetch a data set into `root` by torchvision, unless it lies there already.

    Raises:
        InputError: unknown name, a set that torchvision cannot fetch, or the download failed.
    """
    info = dataset_info(name)
    if info.files is None:
        return
    with _readable(root):
        found = _look(info, root, "train")
    if isinstance(info.files, ClassFolders):
        if not found:
            raise InputError(f"--download cannot fetch {info.name}; fetch it as {info.files.expected(info.name)}")
    elif not isinstance(found, ParquetPart):
        pickles.download(info, found.folder if found else root)


@lru_cache(maxsize=4)
def _load(name: str, root: Path | None, part_name: PartName, subset: int | None) -> AnyImages:
    info = dataset_info(name)
    part = _find(info, root, part_name)
    labels = _labels(info, part, part_name)
    rows = _rows(subset, info, labels)
    if isinstance(part, FolderPart):
        return part.files(rows)
    return Images(torch.from_numpy(part.images(rows)), torch.from_numpy(labels[rows]))


def _rows(subset: int | None, info: DatasetInfo, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of the training subset, ascending.

    Raises:
        InputError: more than there are, or fewer than two a class, one for each half.
    """
    if subset is None:
        return np.arange(len(labels))
    least = 2 * info.classes
    if not least <= subset <= len(labels):
        raise InputError(f"train_subset is {subset}; for {info.name} here it may be {least} to {len(labels)}")
    return stratified(labels, subset, _SUBSET_SEED)


def _aside(labels: NDArray[np.int64], spec: DataSpec, share: float) -> NDArray[np.bool_]:
    """Which images are set aside, (N,).

    Raises:
        InputError: too few of them, or of the others, for every class to be there.
    """
    aside = np.ones(len(labels), dtype=bool)  # of the validation half: a rival's weights may know the other
    aside[stratified(labels, len(labels) - round(share * len(labels)), spec.split_seed)] = False
    for part in (labels[aside], labels[~aside]):
        if missing := len(set(labels)) - len(set(part)):
            raise InputError(
                f"holdout is {share}: of {len(labels):,} training images of {spec.name} it leaves {missing} "
                "classes without an image on one side; make it larger or smaller"
            )
    return aside


def _labels(info: DatasetInfo, part: Part, name: PartName) -> NDArray[np.int64]:
    """The labels, checked: each is a class, and every class is there (twice for training, for the halves).

    Raises:
        InputError: they are not so.
    """
    labels = part.labels()
    wrong = np.flatnonzero((labels < 0) | (labels >= info.classes))
    if len(wrong):
        raise InputError(
            f"{info.name}'s {name} files have label {labels[wrong[0]]} in row {wrong[0]} of all; "
            f"labels are 0 to {info.classes - 1}: fetch them again"
        )
    need = 2 if name == "train" else 1
    enough = int((np.bincount(labels, minlength=info.classes) >= need).sum())
    if enough < info.classes:
        raise InputError(
            f"{info.name}'s {name} files have only {enough} of its {info.classes} classes "
            f"(with {need} or more images); fetch them again"
        )
    return labels


def _find(info: DatasetInfo, root: Path | None, part: PartName) -> Part:
    """Where a part lies.

    Raises:
        InputError: nowhere under `root`; the line says what lies there instead.
    """
    if info.files is None:
        return DigitsPart(part)
    if root is None:
        raise InputError(f"{info.name} needs its files: name their folder with --data DIR{info.files.otherwise}")
    with _readable(root):
        found = _look(info, root, part)
        if found is None:
            raise InputError(_what_lies_there(info, root))
    return found


def _look(info: DatasetInfo, root: Path, part: PartName) -> ParquetPart | PicklePart | FolderPart | None:
    """Try the set's layouts in the folder named as the set, then in `root`, then `root` as torchvision's own."""
    assert info.files
    folders = (root / info.name, root)
    if isinstance(info.files, ClassFolders):
        found = (folder for folder in folders if any((folder / name).is_dir() for name in FOLDERS.values()))
        return next((FolderPart(info, folder, part) for folder in found), None)
    for folder in folders:
        if any(folder.glob("*.parquet")):
            return ParquetPart(info, folder, part)
        if (folder / info.files.folder).is_dir():
            return PicklePart(info, folder, part)
    whole = root.absolute()
    is_its_own = whole.name == info.files.folder and whole.is_dir()
    return PicklePart(info, whole.parent, part) if is_its_own else None


def _what_lies_there(info: DatasetInfo, root: Path) -> str:
    """Why a data set was not found, in one line."""
    assert info.files
    if not root.exists():
        return f"no folder '{root}' to read {info.name} from; check --data{info.files.otherwise}"
    if not root.is_dir():
        return f"'{root}' is a file; --data takes the folder {info.name} lies in"
    found = {i.name: _look(i, root, "train") for i in all_datasets().values() if i.files}
    nameless = FolderPart, root  # train/ and val/ in `root` itself may be any such set
    others = [name for name, part in found.items() if part and (type(part), part.folder) != nameless]
    if others:
        return f"'{root}' holds {', '.join(others)}, not {info.name}; name another folder or another data set"
    what = f"holds no {info.name}" if any(root.iterdir()) else "is empty"
    return f"'{root}' {what}; expected {info.files.expected(info.name)}{info.files.otherwise}"


@contextmanager
def _readable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot look into the data folder '{root}' ({error.strerror}); check --data") from error


@dataclass(frozen=True)
class DigitsPart:
    """Scikit-learn's 1,797 real digits: a fixed stratified fifth is for testing, the rest for training."""

    part: PartName

    @cached_property
    def _data(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        from sklearn.datasets import load_digits  # late: it takes a second

        digits = load_digits()
        labels = digits.target.astype(np.int64)
        mine = np.full(len(labels), self.part == "train")
        mine[stratified(labels, len(labels) // 5, _DIGITS_SEED)] = self.part == "test"
        images = digits.images[mine, None].astype(np.int64) * 255 // 16  # 0..16 to 0..255
        return images.astype(np.uint8), labels[mine]

    def labels(self) -> NDArray[np.int64]:
        """All labels; see `Part`."""
        return self._data[1]

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of some rows; see `Part`."""
        return self._data[0][rows]
