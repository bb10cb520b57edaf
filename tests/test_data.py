"""Data sets: reading both layouts, and every way they can be wrong."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import line
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cifar import CIFAR10, SPEC, TEST, TRAIN, encoded, labels_of, some_images, write_shard

from tas_bench.backbones.backbone import ImageShape
from tas_bench.data import (
    all_datasets,
    check_data,
    dataset_info,
    halves,
    load_test,
    load_train,
    set_aside,
)
from tas_bench.data.parquet import ParquetPart
from tas_bench.data.split import stratified
from tas_bench.errors import InputError
from tas_bench.jobs import DataSpec

REAL = Path(os.environ.get("TAS_BENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_real = pytest.mark.skipif(
    not (REAL / "cifar100").is_dir(), reason=f"no real CIFAR in '{REAL}'; set TAS_BENCH_DATA"
)


# ---------------------------------------------------------------- what is known, and reading it


def test_known_data_sets():
    assert set(all_datasets()) == {"digits", "cifar10", "cifar100", "imagenet", "imagenette"}
    assert dataset_info("cifar100").classes == 100
    assert dataset_info("digits").image == ImageShape(1, 8)
    assert line(dataset_info, "cifar-100") == (
        "unknown dataset 'cifar-100'; did you mean 'cifar100'? "
        "(known: cifar10, cifar100, digits, imagenet, imagenette)"
    )


def test_parquet_gives_the_pixels_in_file_order(parquet):
    for root in (parquet, parquet.parent):
        check_data(SPEC, root)
        train, test = load_train(SPEC, root), load_test(SPEC, root)
        assert train.images.dtype == torch.uint8
        assert train.labels.dtype == torch.int64
        np.testing.assert_array_equal(train.images.permute(0, 2, 3, 1), some_images(TRAIN))
        np.testing.assert_array_equal(test.images.permute(0, 2, 3, 1), some_images(TEST, 1))
        assert train.labels.tolist() == labels_of(TRAIN)
        assert test.labels.tolist() == labels_of(TEST)


def test_both_layouts_give_the_same(parquet, pickled):
    expected = load_train(SPEC, parquet)
    for root in (pickled, pickled.parent):
        check_data(SPEC, root)
        for load in (load_train, load_test):
            assert torch.equal(load(SPEC, root).images, load(SPEC, parquet).images)
            assert torch.equal(load(SPEC, root).labels, load(SPEC, parquet).labels)
    part = DataSpec(name="cifar10", train_subset=23)
    assert torch.equal(load_train(part, pickled).images, load_train(part, parquet).images)
    assert len(expected) == TRAIN


def test_subset_is_the_same_rows_of_the_whole(parquet):
    whole, part = load_train(SPEC, parquet), load_train(DataSpec(name="cifar10", train_subset=24), parquet)
    rows = stratified(whole.labels.numpy(), 24, 0)
    assert torch.equal(part.images, whole.images[rows])
    assert torch.equal(part.labels, whole.labels[rows])
    assert set(np.bincount(part.labels).tolist()) == {2, 3}


def test_a_set_is_loaded_once(parquet):
    assert load_train(SPEC, parquet) is load_train(DataSpec(name="cifar10", split_seed=5), parquet)


def test_digits_is_all_of_scikit_learns():
    from sklearn.datasets import load_digits

    spec = DataSpec(name="digits")
    check_data(spec, None)
    train, test = load_train(spec, None), load_test(spec, None)
    assert (len(train), len(test)) == (1438, 359)
    assert train.images.shape[1:] == (1, 8, 8)
    together = torch.cat([train.images, test.images]).flatten(1).numpy()
    original = (load_digits().data * 255 // 16).astype(np.uint8)
    assert sorted(map(bytes, together)) == sorted(map(bytes, original))
    scaled, info = train.images / 255, dataset_info("digits")
    assert (scaled.mean().item(), scaled.std().item()) == pytest.approx((*info.mean, *info.std), abs=1e-4)


@needs_real
def test_real_cifar100():
    spec, info = DataSpec(name="cifar100"), dataset_info("cifar100")
    check_data(spec, REAL)
    train, test = load_train(spec, REAL), load_test(spec, REAL)
    assert np.bincount(train.labels).tolist() == [500] * 100
    assert np.bincount(test.labels).tolist() == [100] * 100
    for channel in range(3):
        times = np.bincount(train.images[:, channel].flatten(), minlength=256)
        mean = np.average(np.arange(256) / 255, weights=times)
        std = np.sqrt(np.average((np.arange(256) / 255 - mean) ** 2, weights=times))
        assert (mean, std) == pytest.approx((info.mean[channel], info.std[channel]), abs=1e-4)
    part = load_train(DataSpec(name="cifar100", train_subset=2000), REAL)
    assert np.bincount(part.labels).tolist() == [20] * 100
    for half in halves(part, spec):
        assert np.bincount(half.labels).tolist() == [10] * 100


@pytest.mark.parametrize("share", [0.01, 0.1, 0.33, 0.9])
def test_what_is_set_aside_is_a_share_of_every_class(share):
    spec = DataSpec(name="digits")
    train = load_train(spec, None)
    rest, aside = set_aside(train, spec, share)
    assert len(aside) == round(share * len(train))
    classes = np.bincount(train.labels)
    assert (abs(np.bincount(aside.labels, minlength=10) - share * classes) < 1 + 10 / len(train)).all()
    both = torch.cat([rest.images, aside.images]).flatten(1)
    assert sorted(map(bytes, both.numpy())) == sorted(map(bytes, train.images.flatten(1).numpy()))
    assert torch.equal(set_aside(train, spec, share)[1].labels, aside.labels)
    other = set_aside(train, DataSpec(name="digits", split_seed=5), share)[1]
    assert not torch.equal(other.images, aside.images)
    if share < 0.5:  # what a rival's weights were trained on lies in the training half
        known, _ = halves(train, spec)
        assert not set(map(bytes, aside.images.numpy())) & set(map(bytes, known.images.numpy()))


@pytest.mark.parametrize("share", [0.002, 0.998])
def test_a_holdout_that_lacks_a_class_is_refused_beforehand(share):
    spec = DataSpec(name="digits", train_subset=500)
    said = line(check_data, spec, None, share)
    assert said == line(set_aside, load_train(spec, None), spec, share)
    assert f"holdout is {share}: of 500 training images of digits it leaves 9 classes" in said


@needs_real
def test_real_cifar10():
    check_data(SPEC, REAL / "cifar10")
    part = load_train(DataSpec(name="cifar10", train_subset=500), REAL)
    assert np.bincount(part.labels).tolist() == [50] * 10
    assert "holds cifar10, not cifar100" in line(check_data, DataSpec(name="cifar100"), REAL / "cifar10")


# ---------------------------------------------------------------- what can be wrong


def test_no_root():
    assert line(check_data, SPEC, None) == (
        "cifar10 needs its files: name their folder with --data DIR, or use --download"
    )


def test_folder_missing_or_unlike(tmp_path):
    assert "no folder" in line(check_data, SPEC, tmp_path / "none")
    assert "is empty; expected cifar10/train-*.parquet" in line(check_data, SPEC, tmp_path)
    (tmp_path / "file").write_text("hello")
    assert "is a file" in line(check_data, SPEC, tmp_path / "file")
    assert "holds no cifar10" in line(check_data, SPEC, tmp_path)
    assert "cannot look into the data folder" in line(check_data, SPEC, tmp_path / ("x" * 300))


def test_another_data_set(parquet, pickled):
    spec = DataSpec(name="cifar100")
    for root in (parquet, parquet.parent, pickled, pickled.parent):
        message = line(check_data, spec, root)
        assert "holds cifar10, not cifar100" in message
        assert message == line(load_train, spec, root)


def rewrite(images=None, labels=None, **options):
    """A fault: the second shard of the training part is written anew."""

    def fault(folder):
        n = len(labels if images is None else images)
        write_shard(
            folder / "train-00001-of-00002.parquet",
            some_images(n) if images is None else images,
            labels_of(n) if labels is None else labels,
            **options,
        )

    return fault


def cut(share):
    def fault(folder):
        path = folder / "train-00001-of-00002.parquet"
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return fault


def image_as_plain_bytes(folder):
    table = pa.table({"img": [b"x"] * 15, "label": labels_of(15)})
    pq.write_table(table, folder / "train-00001-of-00002.parquet")


def no_bytes(folder):
    write_shard(folder / "train-00001-of-00002.parquet", some_images(15), labels_of(15))
    path = folder / "train-00001-of-00002.parquet"
    table = pq.read_table(path)
    rows = [{"bytes": None, "path": None} for _ in range(15)]
    pq.write_table(table.set_column(0, "img", pa.array(rows, table.schema.field("img").type)), path)


def unlink(name):
    return lambda folder: (folder / name).unlink()


def second_set(folder):
    write_shard(folder / "train-00000-of-00001.parquet", some_images(10), labels_of(10))


def text_file(name):
    return lambda folder: (folder / name).write_text("not found" * 99)


SECOND = "train-00001-of-00002.parquet"
SMALL = encoded(np.zeros((16, 30, 3), np.uint8))
FAULTS = {
    "shard missing": (unlink(SECOND), f"lacks {SECOND}; fetch that shard"),
    "test part missing": (unlink("test-00000-of-00001.parquet"), "no test-*.parquet in"),
    "two sets": (second_set, "mixes two sets of train-*.parquet"),
    "name without number": (text_file("train-a.parquet"), "cannot tell which shard"),
    "0 bytes": (cut(0), f"{SECOND}' (Parquet file size is 0 bytes); fetch it again"),
    "truncated": (cut(0.9), "cannot read"),
    "no parquet": (text_file(SECOND), "cannot read"),
    "wrong column": (
        rewrite(some_images(15), column="klass"),
        "has columns img, klass; cifar10 needs img (with bytes) and label (integers)",
    ),
    "other set's column": (rewrite(some_images(15), column="fine_label"), "holds cifar100, not cifar10"),
    "label text": (rewrite(labels=["cat"] * 15), "label (integers)"),
    "label missing": (rewrite(labels=[None, 1, None] + [2] * 12), "has 2 rows without a label"),
    "label too large": (rewrite(labels=[3, 10] + [2] * 13), "label 10 in row 26 of all; labels are 0 to 9"),
    "label negative": (rewrite(labels=[-1] * 15), "label -1 in row 25"),
    "image no struct": (image_as_plain_bytes, "needs img (with bytes)"),
    "no image bytes": (no_bytes, "cannot decode image"),
    "image text": (rewrite([b"hello"] * 15), "cannot decode image"),
    "image cut": (rewrite([encoded(some_images(1)[0])[:500]] * 15), "cannot decode image"),
    "image size": (rewrite([SMALL] * 15), "is 30 x 16 pixels; it should be 32 x 32"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_parquet(parquet, fault):
    damage, expected = FAULTS[fault]
    damage(parquet)
    assert expected in line(check_data, SPEC, parquet)
    if "test part" not in fault:
        assert expected in line(load_train, SPEC, parquet.parent)


def test_too_few_classes(tmp_path):
    write_shard(tmp_path / "train-00000-of-00001.parquet", some_images(20), [0] * 11 + list(range(1, 10)))
    write_shard(tmp_path / "test-00000-of-00001.parquet", some_images(9), list(range(9)))
    train = line(check_data, SPEC, tmp_path)
    assert "train files have only 1 of its 10 classes (with 2 or more images)" in train
    assert "test files have only 9 of its 10 classes" in line(load_test, SPEC, tmp_path)


@pytest.mark.parametrize("subset", [-3, 0, 19, 41])
def test_subset_that_cannot_be(parquet, subset):
    spec = DataSpec(name="cifar10", train_subset=subset)
    expected = f"train_subset is {subset}; for cifar10 here it may be 20 to 40"
    assert line(check_data, spec, parquet) == line(load_train, spec, parquet) == expected


def test_negative_split_seed():
    assert "split_seed is -1" in line(check_data, DataSpec(name="digits", split_seed=-1), None)


def test_page_checksums_are_verified(tmp_path):
    path = tmp_path / "train-00000-of-00001.parquet"
    grey = [encoded(np.full((32, 32, 3), i, np.uint8), "WEBP") for i in range(20)]
    write_shard(path, grey, labels_of(20), write_page_checksum=True, compression="none")
    data = bytearray(path.read_bytes())
    data[data.index(grey[0]) + 22] ^= 1
    path.write_bytes(data)
    part = ParquetPart(CIFAR10, tmp_path, "train")
    assert "CRC checksum" in line(part.images, np.arange(3))


@pytest.fixture(scope="module")
def fuzz_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    write_shard(folder / "train-00000-of-00001.parquet", some_images(6), labels_of(6))
    return folder, (folder / "train-00000-of-00001.parquet").read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_is_one_line_or_harmless(fuzz_folder, data):
    folder, good = fuzz_folder
    damaged = bytearray(good)
    near_end = st.integers(len(good) - 1500, len(good) - 1)
    places = data.draw(st.lists(st.one_of(st.integers(0, len(good) - 1), near_end), min_size=1, max_size=9))
    for place in places:
        damaged[place] = data.draw(st.integers(0, 255))
    (folder / "train-00000-of-00001.parquet").write_bytes(damaged)
    part = ParquetPart(CIFAR10, folder, "train")
    try:
        images = part.images(np.arange(len(part.labels())))
    except InputError:
        assert line(lambda: part.images(np.arange(len(part.labels()))))
    else:
        assert images.dtype == np.uint8
