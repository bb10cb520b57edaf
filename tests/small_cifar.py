"""A small CIFAR-10 in both layouts: parquet as Hugging Face has it, and torchvision's pickles."""

import hashlib
import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tas_bench.data import (
    dataset_info,
    pickles,
)
from tas_bench.jobs import DataSpec

CIFAR10 = dataset_info("cifar10")
SPEC = DataSpec(name="cifar10")
TRAIN, TEST = 40, 20


def some_images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def encoded(pixels, form="PNG"):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form, lossless=True)
    return data.getvalue()


def write_shard(path, images, labels, column="label", **options):
    forms = ["PNG", "WEBP"] * len(images)
    rows = [
        {"bytes": pixels if isinstance(pixels, bytes) else encoded(pixels, form), "path": None}
        for pixels, form in zip(images, forms, strict=False)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"img": rows, column: labels}), path, row_group_size=7, **options)


def labels_of(n, classes=10):
    return [(3 * i + i // classes) % classes for i in range(n)]


def write_pickles(folder, monkeypatch):
    """The same CIFAR-10 as torchvision's archive holds it, and torchvision told its sums."""
    base = folder / "cifar-10-batches-py"
    base.mkdir(parents=True)

    def write(name, content):
        data = pickle.dumps(content)
        (base / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(images, labels):
        return {"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), "labels": labels}

    images, labels = some_images(TRAIN), labels_of(TRAIN)
    train = [
        write("data_batch_1", batch(images[:30], labels[:30])),
        write("data_batch_2", batch(images[30:], labels[30:])),
    ]
    test = [write("test_batch", batch(some_images(TEST, 1), labels_of(TEST)))]
    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    loader = pickles._loader(CIFAR10)
    monkeypatch.setattr(loader, "train_list", train)
    monkeypatch.setattr(loader, "test_list", test)
    monkeypatch.setattr(loader, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return base


def write_parquet(root):
    """A small CIFAR-10 in `root`/cifar10: two shards for training, one for testing."""
    folder, images, labels = root / "cifar10", some_images(TRAIN), labels_of(TRAIN)
    write_shard(folder / "train-00000-of-00002.parquet", images[:25], labels[:25])
    write_shard(folder / "train-00001-of-00002.parquet", images[25:], labels[25:])
    write_shard(folder / "test-00000-of-00001.parquet", some_images(TEST, 1), labels_of(TEST))
    return folder
