"""Image folders: listing, every way they can be wrong, and the transforms against torchvision's own."""

import os
import shutil
import struct
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import CLASSES, MODES, collected, line, write_image
from PIL import Image

from tas_bench.data import ImageFiles, check_data, dataset_info, download, halves, load_test, load_train
from tas_bench.data.folders import view
from tas_bench.data.loading import FileBatches
from tas_bench.data.vision import torchvision
from tas_bench.jobs import DataSpec

INFO = dataset_info("imagenette")
SPEC = DataSpec(name="imagenette")


# ---------------------------------------------------------------- listing


def test_labels_follow_torchvisions_listing(image_folders):
    listed = torchvision("datasets").ImageFolder(image_folders / "imagenette" / "train").samples
    for root in (image_folders, image_folders / "imagenette"):
        train = load_train(SPEC, root)
        assert isinstance(train, ImageFiles)
        assert [(train.path(i), label) for i, label in enumerate(train.labels.tolist())] == listed
    assert train.labels.dtype == torch.int64
    test = load_test(SPEC, image_folders)
    assert np.bincount(test.labels).tolist() == [2] * 10
    assert all(f"{os.sep}val{os.sep}" in test.path(i) for i in range(len(test)))


def test_subset_halves_and_take(image_folders):
    train = load_train(replace(SPEC, train_subset=30), image_folders)
    assert np.bincount(train.labels).tolist() == [3] * 10
    first, second = halves(load_train(SPEC, image_folders), SPEC)
    assert len(first) == len(second) == 20
    paths = [half.path(i) for half in (first, second) for i in range(20)]
    assert len(set(paths)) == 40
    for half in (first, second):
        assert np.bincount(half.labels).tolist() == [2] * 10
        assert all(CLASSES[label] in half.path(i) for i, label in enumerate(half.labels.tolist()))
    for indices in (np.array([3, 1]), torch.tensor([3, 1])):
        taken = first.take(indices).to("cpu")
        assert [taken.path(0), taken.path(1)] == [first.path(3), first.path(1)]
        assert taken.labels.tolist() == first.labels[[3, 1]].tolist()


def test_check_data_fingerprints_labels_and_decodes_a_few(image_folders, own_folders, monkeypatch):
    seen = []
    pil = torchvision("datasets.folder")
    original = pil.pil_loader
    monkeypatch.setattr(pil, "pil_loader", lambda path: seen.append(path) or original(path))
    fingerprint = check_data(SPEC, image_folders)
    assert len(seen) == 10  # five of each part
    assert fingerprint == check_data(replace(SPEC, train_subset=20), own_folders)
    next((own_folders / "imagenette" / "train" / CLASSES[4]).iterdir()).unlink()
    assert check_data(SPEC, own_folders) != fingerprint


def test_any_file_name(own_folders):
    folder = own_folders / "imagenette" / "train" / CLASSES[0]
    names = ["Zug über 東京.jpg", os.fsdecode(b"\xff\xfe.PNG"), "a" * 250 + ".jpg"]
    for i, name in enumerate(names):
        write_image(folder / name, i)
    files = load_train(SPEC, own_folders)
    paths = {files.path(i) for i in range(len(files))}
    assert {str(folder / name) for name in names} < paths
    assert all(view(str(folder / name), INFO, augment=False).shape == (3, 224, 224) for name in names)
    (folder / names[1]).write_bytes(b"hello")
    message = line(view, str(folder / names[1]), INFO, augment=True)
    message.encode()  # a row's text is UTF-8


def test_without_torchvision(image_folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets.folder", None)
    message = line(check_data, SPEC, image_folders)
    assert message.startswith("torchvision cannot be imported (")
    assert message.endswith("install the one that matches torch")


def test_imagenet_is_known():
    imagenet = dataset_info("imagenet")
    assert (imagenet.classes, imagenet.image.side) == (1000, 224)
    assert replace(imagenet, name="imagenette", classes=10) == INFO


# ---------------------------------------------------------------- what can be wrong


def test_nothing_there(tmp_path):
    assert line(check_data, SPEC, None) == "imagenette needs its files: name their folder with --data DIR"
    assert line(check_data, SPEC, tmp_path / "none").endswith("to read imagenette from; check --data")
    expected = "is empty; expected imagenette/train/CLASS/*.JPEG and imagenette/val/CLASS/*.JPEG"
    assert line(check_data, SPEC, tmp_path).endswith(expected)


def test_another_data_set(image_folders):
    assert "holds imagenette, not cifar10; name another" in line(
        check_data, DataSpec(name="cifar10"), image_folders
    )
    assert "holds no cifar10; expected" in line(check_data, DataSpec(name="cifar10"), image_folders / "imagenette")
    message = line(check_data, DataSpec(name="imagenet"), image_folders / "imagenette")
    assert "train' has 10 class folders, imagenet has 1,000; make them so, or name another" in message


def test_download_is_refused_in_one_line(image_folders, tmp_path):
    download("imagenette", image_folders)  # it is there
    assert "cannot fetch imagenette; fetch it as imagenette/train/" in line(download, "imagenette", tmp_path)


def remove(path):
    return lambda folder: shutil.rmtree(folder / path)


def rename(path, name):
    return lambda folder: (folder / path).rename((folder / path).with_name(name))


def flat(folder):
    for path in sorted((folder / "val").glob("*/*")):
        path.rename(folder / "val" / path.name)
    for path in list((folder / "val").iterdir()):
        if path.is_dir():
            path.rmdir()


def empty(path, keep=0):
    def fault(folder):
        for file in sorted((folder / path).iterdir())[keep:]:
            file.unlink()
        (folder / path / "readme.txt").write_text("no image")

    return fault


FIRST = f"{CLASSES[0]}/{CLASSES[0]}_0.JPEG"


def overwrite(content):
    def fault(folder):
        path = folder / "train" / FIRST
        path.write_bytes(content(path.read_bytes()))

    return fault


def bomb(_):
    """A PNG that says it is of 60,000 x 60,000 pixels."""
    head = struct.pack(">4sIIBBBBB", b"IHDR", 60000, 60000, 8, 2, 0, 0, 0)
    data = struct.pack(">I4s", 0, b"IDAT")
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + data


FAULTS = {
    "no train": (remove("train"), "cannot list '{}/train' (No such file or directory)"),
    "no val": (
        remove("val"),
        "cannot list '{}/val' (No such file or directory); it should hold a folder per class",
    ),
    "val flat": (flat, "'{}/val' holds no folders; put its images into a folder per class"),
    "class missing": (
        remove(f"train/{CLASSES[3]}"),
        "'{}/train' has 9 class folders, imagenette has 10; make them so",
    ),
    "class too many": (lambda f: (f / "val" / "more").mkdir(), "'{}/val' has 11 class folders, imagenette has 10"),
    "other classes": (rename(f"val/{CLASSES[2]}", "dog"), "class folder 'dog' is in only one of '{}/train' and"),
    "class empty": (empty(f"val/{CLASSES[9]}"), "'{}/val/n00000009' holds no image; fetch imagenette's"),
    "class of one": (empty(f"train/{CLASSES[9]}", 1), "only 9 of its 10 classes (with 2 or more images)"),
    "text": (
        overwrite(lambda _: b"hello"),
        f"cannot read '{{}}/train/{FIRST}' (no image); fetch it again",
    ),
    "nothing": (overwrite(lambda _: b""), "(no image); fetch"),
    "cut": (
        overwrite(lambda data: data[: len(data) // 2]),
        f"cannot read '{{}}/train/{FIRST}' (Truncated File Read)",
    ),
    "bomb": (overwrite(bomb), "(Image size (3600000000 pixels) exceeds limit"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_folder(own_folders, fault):
    damage, expected = FAULTS[fault]
    damage(own_folders / "imagenette")
    assert expected.format(own_folders / "imagenette") in line(check_data, SPEC, own_folders)


def test_unreadable_folder(own_folders):
    folder = own_folders / "imagenette" / "train"
    folder.chmod(0)
    try:
        if os.access(folder, os.R_OK):
            pytest.skip("root reads everything")
        assert f"cannot list '{folder}' (Permission denied)" in line(check_data, SPEC, own_folders)
    finally:
        folder.chmod(0o700)


# ---------------------------------------------------------------- transforms against torchvision composed by hand


def by_hand(path, *steps):
    v2 = torchvision("transforms.v2")
    image = torchvision("datasets.folder").default_loader(path)
    after = (v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return v2.Compose([v2.PILToTensor(), *steps, *after])(image)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_evaluation_is_torchvisions(image_folders):
    v2, files = torchvision("transforms.v2"), load_test(SPEC, image_folders)
    x, y = collected(FileBatches(files, INFO, 7, augment=False))
    assert torch.equal(y, files.labels)
    for i in range(len(files)):
        expected = by_hand(files.path(i), v2.Resize(256, antialias=True), v2.CenterCrop(224))
        assert torch.equal(x[i], expected)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_augmentation_is_torchvisions(image_folders):
    v2, files = torchvision("transforms.v2"), load_train(SPEC, image_folders)
    x, y = collected(FileBatches(files, INFO, 7, augment=True, generator=torch.Generator().manual_seed(5)))
    generator = torch.Generator().manual_seed(5)
    order, seeds = torch.randperm(40, generator=generator), torch.randint(2**32, (40,), generator=generator)
    assert torch.equal(y, files.labels[order])
    steps = v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)
    with torch.random.fork_rng():
        for image, i, seed in zip(x, order.tolist(), seeds.tolist(), strict=True):
            torch.manual_seed(seed)
            assert torch.equal(image, by_hand(files.path(i), *steps))


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(tmp_path, mode):
    """A colour that every mode can hold, seen again."""
    colour = (255, 255, 255) if mode in ("1", "L", "LA") else (250, 120, 10)
    image = Image.new("RGB", (40, 30), colour)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "x", "TIFF" if mode == "CMYK" else "PNG")
    seen = view(str(tmp_path / "x"), INFO, augment=False)
    assert seen.dtype == torch.uint8
    assert seen.shape == (3, 224, 224)
    assert (seen.int() - torch.tensor(colour).view(3, 1, 1)).abs().max() <= 1
