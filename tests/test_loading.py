"""Batches of image files: passes, DataLoader workers that come and go, and real jobs."""

import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CLASSES, TRAIN, collected, line

from tas_bench import train as train_module
from tas_bench.data import Batches, Images, all_datasets, batches_of, dataset_info, load_test, load_train
from tas_bench.data.folders import normalisation
from tas_bench.data.loading import FileBatches, workers_of
from tas_bench.data.vision import torchvision
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


# ---------------------------------------------------------------- batches


@pytest.fixture(scope="module")
def two_epochs(image_folders):
    """Of two workers: the generator before, and both epochs."""
    files, generator = load_train(SPEC, image_folders), torch.Generator().manual_seed(11)
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


def test_workers_do_not_matter_and_epochs_differ(image_folders, two_epochs):
    generator = torch.Generator().manual_seed(11)
    alone = FileBatches(load_train(SPEC, image_folders), INFO, 16, augment=True, generator=generator)
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


def test_an_image_looks_otherwise_in_the_next_epoch(image_folders):
    one = load_train(SPEC, image_folders).take(np.array([20]))
    batches = FileBatches(one, INFO, 1, augment=True, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(collected(batches)[0], collected(batches)[0])


def test_a_restored_generator_gives_the_same_epoch(image_folders, two_epochs):
    states, epochs = two_epochs
    generator = torch.Generator()
    generator.set_state(states[1])
    again = collected(FileBatches(load_train(SPEC, image_folders), INFO, 16, augment=True, generator=generator))
    assert torch.equal(again[0], collected(epochs[1])[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_left_early_changes_nothing(image_folders, workers):
    """As the search leaves those of its validation half; nor is anyone else's generator drawn from."""
    files, everyone, ends = load_train(SPEC, image_folders), torch.get_rng_state(), []
    for taken in (1, 3):
        generator = torch.Generator().manual_seed(4)
        batches = FileBatches(files, INFO, 16, augment=True, generator=generator, workers=workers)
        for _, _ in zip(range(taken), batches, strict=False):
            pass
        ends.append((generator.get_state(), collected(batches)[0]))
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])
    assert torch.equal(torch.get_rng_state(), everyone)


def test_plain_batches_draw_nothing(image_folders):
    files, generator = load_test(SPEC, image_folders), torch.Generator().manual_seed(1)
    state = generator.get_state()
    batches = FileBatches(files, INFO, 6, augment=False, generator=generator)
    assert torch.equal(collected(batches)[0], collected(batches)[0])
    assert torch.equal(generator.get_state(), state)


def test_workers_end_with_their_batches(image_folders):
    before = set(multiprocessing.active_children())
    batches = FileBatches(load_test(SPEC, image_folders), INFO, 6, augment=False, workers=2)
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
batches = FileBatches(files, dataset_info("imagenette"), 6, augment=False, workers=1)
assert len(list(batches)) == 4
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_killed_job(image_folders):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, image_folders], stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    workers = [Path("/proc", pid) for pid in done.stdout.split()]
    assert len(workers) == 1
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


def test_nonsense_is_refused(image_folders):
    files = load_test(SPEC, image_folders)
    with pytest.raises(ValueError, match="at least 1"):
        FileBatches(files, INFO, 0, augment=False)
    with pytest.raises(ValueError, match="need a generator"):
        FileBatches(files, INFO, 2, augment=True)
    with pytest.raises(ValueError, match="no images to make batches of"):
        FileBatches(files.take(np.array([], np.int64)), INFO, 2, augment=False)


def test_one_way_to_both_kinds(image_folders):
    assert isinstance(batches_of(load_test(SPEC, image_folders), INFO, 6, augment=False), FileBatches)
    images = Images(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3))
    assert isinstance(batches_of(images, all_datasets()["digits"], 2, augment=False), Batches)


def test_workers_per_job():
    found = {(cpus, device): workers_of(cpus, device) for cpus in (0, 0.5, 1, 4) for device in ("cpu", "cuda")}
    assert [found[cpus, "cpu"] for cpus in (0, 0.5, 1, 4)] == [0, 0, 0, 4]
    assert [found[cpus, "cuda"] for cpus in (0, 0.5, 1, 4)] == [1, 1, 1, 4]
    assert workers_of(192, "cuda") == 16


def test_images_are_normalised_as_by_torchvision_without_a_word_to_the_device(monkeypatch):
    v2 = torchvision("transforms.v2")
    x = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 3, 16, 16)
    expected = v2.Normalize(INFO.mean, INFO.std)(v2.ToDtype(torch.float32, scale=True)(x))
    normalised = normalisation(INFO, torch.device("cpu"))
    for name in ("tensor", "as_tensor"):
        monkeypatch.setattr(torch, name, None)
    assert torch.equal(normalised(x), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_on_a_gpu(image_folders):
    files = load_train(SPEC, image_folders)
    generator = torch.Generator("cuda").manual_seed(0)
    batches = FileBatches(files.to("cuda"), INFO, 16, augment=True, generator=generator, workers=2)
    for x, y in batches:
        assert (x.device.type, y.device.type) == ("cuda", "cuda")
        assert x.is_contiguous(memory_format=torch.channels_last)
    plain, _ = collected(FileBatches(files.to("cuda"), INFO, 16, augment=False))
    torch.testing.assert_close(plain.cpu(), collected(FileBatches(files, INFO, 16, augment=False))[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_file_found_at_work_is_one_line(own_folders, workers):
    files = load_train(SPEC, own_folders)
    path = own_folders / "imagenette" / "train" / CLASSES[7] / f"{CLASSES[7]}_1.JPEG"
    path.write_bytes(b"hello")
    batches = FileBatches(files, INFO, 7, augment=False, workers=workers)
    assert line(list, batches).startswith(f"cannot read '{path}' (no image); fetch it again")
    path.unlink()
    assert line(list, batches) == f"cannot read '{path}' (No such file or directory); fetch it again"


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


def test_resnet18_trains_and_is_tested(image_folders, tmp_path):
    shared = problem("resnet18")
    context = Context(results=tmp_path, data_root=image_folders)
    outcome: Outcome = final_job(shared, small(shared), 0, Scratch()).run(context)
    assert outcome.ok
    assert outcome.images == TRAIN
    assert 0 <= outcome.test_accuracy <= 1
    assert np.isfinite(outcome.curve[0]["train_loss"])


@pytest.mark.slow
def test_cores_do_not_decide_the_outcome(image_folders, tmp_path, monkeypatch):
    """Bitwise; and a candidate sees the training files alone."""
    monkeypatch.setattr(train_module, "load_test", lambda *_: pytest.fail("the test files were listed"))
    job = candidate_job(problem("tiny"), TINY_SIZE, 0)
    curves = [job.run(Context(results=tmp_path, data_root=image_folders, cpus=n)).curve for n in (1, 2)]
    assert curves[0] == curves[1]
    assert "val_accuracy" in curves[0][0]


def test_tas_searches_on_files(image_folders, tmp_path):
    shared = problem("tiny", train_subset=20, t=0.2)
    job = TasSearch(problem=shared, settings=Tas(search_epochs=1), seed=0)
    outcome = job.run(Context(results=tmp_path, data_root=image_folders))
    assert outcome.ok
    assert outcome.images == 20
    low, high = shared.band
    assert low <= shared.macs(outcome.size) <= high


def test_bad_file_fails_the_job_in_one_line(own_folders, tmp_path):
    path = own_folders / "imagenette" / "train" / CLASSES[7] / f"{CLASSES[7]}_1.JPEG"
    path.write_bytes(b"hello")
    for name in ("_log", "rows"):
        (tmp_path / "results" / name).mkdir(parents=True)
    context = Context(results=tmp_path / "results", data_root=own_folders)
    row = execute(final_job(problem("tiny"), TINY_SIZE, 0, Scratch()), Labels("s", "m", None), context)
    assert row["status"] == "failed"
    assert row["error"].startswith(f"InputError: cannot read '{path}' (no image); fetch it again")
