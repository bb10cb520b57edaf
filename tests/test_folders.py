"""Image folders: listing, every way they can be wrong, the transforms against torchvision's own, and real jobs."""

import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tas_bench import train as train_module
from tas_bench.data import (
    Batches,
    ImageFiles,
    Images,
    all_datasets,
    batches_of,
    check_data,
    dataset_info,
    download,
    halves,
    load_test,
    load_train,
)
from tas_bench.data.folders import view
from tas_bench.data.loading import FileBatches, workers_of
from tas_bench.data.vision import torchvision
from tas_bench.errors import InputError
from tas_bench.jobs import Context, DataSpec, Outcome, Problem, Recipe
from tas_bench.search import TasSearch
from tas_bench.space import Size
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.train import candidate_job, final_job
from tas_bench.transfer.scratch import Scratch
from tas_bench.worker import Labels, execute

INFO = dataset_info("imagenette")
SPEC = DataSpec(name="imagenette")
CLASSES = [f"n{i:08}" for i in range(10)]
MODES = ["RGB", "L", "CMYK", "RGBA", "P", "LA", "1"]
TRAIN, TEST = 40, 20


def line(call, *args, **kwargs):
    """The one line of the InputError that a call raises."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    del caught  # it refers to this frame, and so to the batches: their workers would outlive the test
    assert "\n" not in message
    return message


def write_image(path, number):
    """Noise of a size, mode and format that follow from the number; some images are tiny or thin."""
    rng = np.random.default_rng(number)
    width, height = (
        [(1, 1), (3, 300), (500, 20)][number // 13 % 3] if number % 13 == 0 else rng.integers(30, 400, 2)
    )
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    mode = MODES[number % len(MODES)]
    if mode == "P":
        image = image.quantize(16)
        image.info["transparency"] = bytes(16)  # Pillow warns of it when it converts
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path, "JPEG" if mode in ("RGB", "L", "CMYK") else "PNG")


def write_folder(folder, train_per_class=TRAIN // 10, test_per_class=TEST // 10):
    for part, count in (("train", train_per_class), ("val", test_per_class)):
        for k, name in enumerate(CLASSES):
            for i in range(count):
                write_image(folder / part / name / f"{name}_{i}.JPEG", k + 10 * i + 1000 * (part == "val"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The data folder of a small imagenette; not to be written to."""
    root = tmp_path_factory.mktemp("data")
    write_folder(root / "imagenette")
    return root


@pytest.fixture
def mine(whole, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(whole, tmp_path / "data")
    return tmp_path / "data"


def collected(batches):
    x, y = zip(*batches, strict=True)
    return torch.cat(x), torch.cat(y)


# ---------------------------------------------------------------- listing


def test_labels_follow_torchvisions_listing(whole):
    listed = torchvision("datasets").ImageFolder(whole / "imagenette" / "train").samples
    for root in (whole, whole / "imagenette"):
        train = load_train(SPEC, root)
        assert isinstance(train, ImageFiles)
        assert [(train.path(i), label) for i, label in enumerate(train.labels.tolist())] == listed
    assert train.labels.dtype == torch.int64
    test = load_test(SPEC, whole)
    assert np.bincount(test.labels).tolist() == [2] * 10
    assert all(f"{os.sep}val{os.sep}" in test.path(i) for i in range(len(test)))


def test_subset_halves_and_take(whole):
    train = load_train(replace(SPEC, train_subset=30), whole)
    assert np.bincount(train.labels).tolist() == [3] * 10
    first, second = halves(load_train(SPEC, whole), SPEC)
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


def test_check_data_fingerprints_labels_and_decodes_a_few(whole, mine, monkeypatch):
    seen = []
    pil = torchvision("datasets.folder")
    original = pil.pil_loader
    monkeypatch.setattr(pil, "pil_loader", lambda path: seen.append(path) or original(path))
    fingerprint = check_data(SPEC, whole)
    assert len(seen) == 10  # five of each part
    assert fingerprint == check_data(replace(SPEC, train_subset=20), mine)
    next((mine / "imagenette" / "train" / CLASSES[4]).iterdir()).unlink()
    assert check_data(SPEC, mine) != fingerprint


def test_any_file_name(mine):
    folder = mine / "imagenette" / "train" / CLASSES[0]
    names = ["Zug über 東京.jpg", os.fsdecode(b"\xff\xfe.PNG"), "a" * 250 + ".jpg"]
    for i, name in enumerate(names):
        write_image(folder / name, i)
    files = load_train(SPEC, mine)
    paths = {files.path(i) for i in range(len(files))}
    assert {str(folder / name) for name in names} < paths
    assert all(view(str(folder / name), INFO, augment=False).shape == (3, 224, 224) for name in names)
    (folder / names[1]).write_bytes(b"hello")
    message = line(view, str(folder / names[1]), INFO, augment=True)
    message.encode()  # a row's text is UTF-8


def test_without_torchvision(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets.folder", None)
    message = line(check_data, SPEC, whole)
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


def test_another_data_set(whole):
    assert "holds imagenette, not cifar10; name another" in line(check_data, DataSpec(name="cifar10"), whole)
    assert "holds no cifar10; expected" in line(check_data, DataSpec(name="cifar10"), whole / "imagenette")
    message = line(check_data, DataSpec(name="imagenet"), whole / "imagenette")
    assert "train' has 10 class folders, imagenet has 1,000; make them so, or name another" in message


def test_download_is_refused_in_one_line(whole, tmp_path):
    download("imagenette", whole)  # it is there
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
def test_faulty_folder(mine, fault):
    damage, expected = FAULTS[fault]
    damage(mine / "imagenette")
    assert expected.format(mine / "imagenette") in line(check_data, SPEC, mine)


def test_unreadable_folder(mine):
    folder = mine / "imagenette" / "train"
    folder.chmod(0)
    try:
        if os.access(folder, os.R_OK):
            pytest.skip("root reads everything")
        assert f"cannot list '{folder}' (Permission denied)" in line(check_data, SPEC, mine)
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_file_found_at_work_is_one_line(mine, workers):
    files = load_train(SPEC, mine)
    path = mine / "imagenette" / "train" / CLASSES[7] / f"{CLASSES[7]}_1.JPEG"
    path.write_bytes(b"hello")
    batches = FileBatches(files, INFO, 7, augment=False, workers=workers)
    assert line(list, batches).startswith(f"cannot read '{path}' (no image); fetch it again")
    path.unlink()
    assert line(list, batches) == f"cannot read '{path}' (No such file or directory); fetch it again"


def test_bad_file_fails_the_job_in_one_line(mine, tmp_path):
    path = mine / "imagenette" / "train" / CLASSES[7] / f"{CLASSES[7]}_1.JPEG"
    path.write_bytes(b"hello")
    for name in ("_log", "rows"):
        (tmp_path / "results" / name).mkdir(parents=True)
    context = Context(results=tmp_path / "results", data_root=mine)
    row = execute(final_job(problem("tiny"), TINY_SIZE, 0, Scratch()), Labels("s", "m", None), context)
    assert row["status"] == "failed"
    assert row["error"].startswith(f"InputError: cannot read '{path}' (no image); fetch it again")


# ---------------------------------------------------------------- transforms against torchvision composed by hand


def by_hand(path, *steps):
    v2 = torchvision("transforms.v2")
    image = torchvision("datasets.folder").default_loader(path)
    after = (v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return v2.Compose([v2.PILToTensor(), *steps, *after])(image)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_evaluation_is_torchvisions(whole):
    v2, files = torchvision("transforms.v2"), load_test(SPEC, whole)
    x, y = collected(FileBatches(files, INFO, 7, augment=False))
    assert torch.equal(y, files.labels)
    for i in range(len(files)):
        expected = by_hand(files.path(i), v2.Resize(256, antialias=True), v2.CenterCrop(224))
        assert torch.equal(x[i], expected)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_augmentation_is_torchvisions(whole):
    v2, files = torchvision("transforms.v2"), load_train(SPEC, whole)
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


# ---------------------------------------------------------------- batches


@pytest.fixture(scope="module")
def two_epochs(whole):
    """Of two workers: the generator before, and both epochs."""
    files, generator = load_train(SPEC, whole), torch.Generator().manual_seed(11)
    batches = FileBatches(files, INFO, 16, augment=True, generator=generator, workers=2)
    epochs, states = [], []
    for _ in range(2):
        states.append(generator.get_state())
        epochs.append(list(batches))
    return states, epochs


def test_shapes(two_epochs):
    for x, y in two_epochs[1][0]:
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert x.shape == (len(y), 3, 224, 224)
        assert x.is_contiguous(memory_format=torch.channels_last)
    assert [len(y) for _, y in two_epochs[1][0]] == [16, 16, 8]


def test_workers_do_not_matter_and_epochs_differ(whole, two_epochs):
    generator = torch.Generator().manual_seed(11)
    alone = FileBatches(load_train(SPEC, whole), INFO, 16, augment=True, generator=generator)
    assert len(alone) == 3
    seen = [list(alone) for _ in range(2)]
    for here, there in zip(seen, two_epochs[1], strict=True):
        for (x, y), (x2, y2) in zip(here, there, strict=True):
            assert torch.equal(x, x2)
            assert torch.equal(y, y2)
    assert not torch.equal(seen[0][0][1], seen[1][0][1])
    assert sorted(torch.cat([y for _, y in seen[0]]).tolist()) == sorted(
        alone._loader.dataset._files.labels.tolist()
    )


def test_an_image_looks_otherwise_in_the_next_epoch(whole):
    one = load_train(SPEC, whole).take(np.array([20]))
    batches = FileBatches(one, INFO, 1, augment=True, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(collected(batches)[0], collected(batches)[0])


def test_a_restored_generator_gives_the_same_epoch(whole, two_epochs):
    states, epochs = two_epochs
    generator = torch.Generator()
    generator.set_state(states[1])
    again = collected(FileBatches(load_train(SPEC, whole), INFO, 16, augment=True, generator=generator))
    assert torch.equal(again[0], collected(epochs[1])[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_left_early_changes_nothing(whole, workers):
    """As the search leaves those of its validation half; nor is anyone else's generator drawn from."""
    files, everyone, ends = load_train(SPEC, whole), torch.get_rng_state(), []
    for taken in (1, 3):
        generator = torch.Generator().manual_seed(4)
        batches = FileBatches(files, INFO, 16, augment=True, generator=generator, workers=workers)
        for _, _ in zip(range(taken), batches, strict=False):
            pass
        ends.append((generator.get_state(), collected(batches)[0]))
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])
    assert torch.equal(torch.get_rng_state(), everyone)


def test_plain_batches_draw_nothing(whole):
    files, generator = load_test(SPEC, whole), torch.Generator().manual_seed(1)
    state = generator.get_state()
    batches = FileBatches(files, INFO, 6, augment=False, generator=generator)
    assert torch.equal(collected(batches)[0], collected(batches)[0])
    assert torch.equal(generator.get_state(), state)


def test_workers_end_with_their_batches(whole):
    before = set(multiprocessing.active_children())
    batches = FileBatches(load_test(SPEC, whole), INFO, 6, augment=False, workers=2)
    first = list(batches)
    workers = set(multiprocessing.active_children()) - before
    list(batches)
    assert set(multiprocessing.active_children()) - before == workers
    assert len(workers) == 2
    del batches
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()
    assert len(first) == 4


KILLED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from tas_bench.data import dataset_info, load_test
from tas_bench.data.loading import FileBatches
from tas_bench.jobs import DataSpec

files = load_test(DataSpec(name="imagenette"), Path(sys.argv[1]))
batches = FileBatches(files, dataset_info("imagenette"), 6, augment=False, workers=2)
assert len(list(batches)) == 4
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_killed_job(whole):
    done = subprocess.run([sys.executable, "-c", KILLED, whole], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    workers = [Path("/proc", pid) for pid in done.stdout.split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "workers outlived their job"
        time.sleep(0.1)


def alive(process):
    """Zombies are not: where nothing reaps orphans they stay."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nonsense_is_refused(whole):
    files = load_test(SPEC, whole)
    with pytest.raises(ValueError, match="at least 1"):
        FileBatches(files, INFO, 0, augment=False)
    with pytest.raises(ValueError, match="need a generator"):
        FileBatches(files, INFO, 2, augment=True)
    with pytest.raises(ValueError, match="no images to make batches of"):
        FileBatches(files.take(np.array([], np.int64)), INFO, 2, augment=False)


def test_one_way_to_both_kinds(whole):
    assert isinstance(batches_of(load_test(SPEC, whole), INFO, 6, augment=False), FileBatches)
    images = Images(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3))
    assert isinstance(batches_of(images, all_datasets()["digits"], 2, augment=False), Batches)


def test_workers_per_job():
    found = {(cpus, device): workers_of(cpus, device) for cpus in (0, 0.5, 1, 4) for device in ("cpu", "cuda")}
    assert [found[cpus, "cpu"] for cpus in (0, 0.5, 1, 4)] == [0, 0, 0, 4]
    assert [found[cpus, "cuda"] for cpus in (0, 0.5, 1, 4)] == [1, 1, 1, 4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_on_a_gpu(whole):
    files = load_train(SPEC, whole)
    generator = torch.Generator("cuda").manual_seed(0)
    batches = FileBatches(files.to("cuda"), INFO, 16, augment=True, generator=generator, workers=2)
    for x, y in batches:
        assert (x.device.type, y.device.type) == ("cuda", "cuda")
        assert x.is_contiguous(memory_format=torch.channels_last)
    plain, _ = collected(FileBatches(files.to("cuda"), INFO, 16, augment=False))
    torch.testing.assert_close(plain.cpu(), collected(FileBatches(files, INFO, 16, augment=False))[0])


# ---------------------------------------------------------------- real jobs


TINY_SIZE = Size((4, 4, 4, 4, 4, 8, 8, 8, 8), (1, 1))


def problem(backbone, **changes):
    sweep = Sweep(
        name="s", title="t", methods=(Tas(),), transfers=(Scratch(),),
        datasets=("imagenette",), backbones=(backbone,), recipe=Recipe(epochs=1, batch=8), **changes,
    )  # fmt: skip
    return sweep.problems[0]


def small(problem: Problem) -> Size:
    full = problem.backbone.full
    return Size(tuple(max(1, n // 8) for n in full.widths), full.depths)


def test_resnet18_trains_and_is_tested(whole, tmp_path):
    shared = problem("resnet18")
    context = Context(results=tmp_path, data_root=whole)
    outcome: Outcome = final_job(shared, small(shared), 0, Scratch()).run(context)
    assert outcome.ok
    assert outcome.images == TRAIN
    assert 0 <= outcome.test_accuracy <= 1
    assert np.isfinite(outcome.curve[0]["train_loss"])


def test_cores_do_not_decide_the_outcome(whole, tmp_path, monkeypatch):
    """Bitwise; and a candidate sees the training files alone."""
    monkeypatch.setattr(train_module, "load_test", lambda *_: pytest.fail("the test files were listed"))
    job = candidate_job(problem("tiny"), TINY_SIZE, 0)
    curves = [job.run(Context(results=tmp_path, data_root=whole, cpus=n)).curve for n in (1, 2)]
    assert curves[0] == curves[1]
    assert "val_accuracy" in curves[0][0]


def test_tas_searches_on_files(whole, tmp_path):
    shared = problem("tiny", train_subset=20, t=0.2)
    job = TasSearch(problem=shared, settings=Tas(search_epochs=1), seed=0)
    outcome = job.run(Context(results=tmp_path, data_root=whole))
    assert outcome.ok
    assert outcome.images == 20
    low, high = shared.band
    assert low <= shared.macs(outcome.size) <= high
