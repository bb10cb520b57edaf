"""What several test files share."""

import contextlib
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from tas_bench.backbones.backbone import ImageShape
from tas_bench.dispatch import Dispatch
from tas_bench.errors import InputError
from tas_bench.jobs import DataSpec, Problem, Recipe, job_id
from tas_bench.progress import Progress
from tas_bench.reading import load
from tas_bench.replay import keep_uses, plans_of
from tas_bench.schema import ROWS
from tas_bench.search import TasSearch
from tas_bench.store import Store
from tas_bench.worker import execute

CLASSES = [f"n{i:08}" for i in range(10)]
MODES = ["RGB", "L", "CMYK", "RGBA", "P", "LA", "1"]
TRAIN, TEST = 40, 20

DEMO = ["run", "demo", "--results", "out"]
FULL = {"widths": [16] * 7 + [32] * 6 + [64] * 6, "depths": [3, 3, 3]}
"""ResNet-20, unpruned."""


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
    """An imagenette of ten classes."""
    for part, count in (("train", train_per_class), ("val", test_per_class)):
        for k, name in enumerate(CLASSES):
            for i in range(count):
                write_image(folder / part / name / f"{name}_{i}.JPEG", k + 10 * i + 1000 * (part == "val"))


def collected(batches):
    """All images and all labels of a pass."""
    x, y = zip(*batches, strict=True)
    return torch.cat(x), torch.cat(y)


def problem(keep=0.6, t=0.05, backbone="tiny", **recipe):
    """A small problem for searches on digits."""
    return Problem(
        data=DataSpec(name="digits"), backbone_name=backbone, classes=10, image=ImageShape(1, 8),
        keep=keep, t=t, recipe=Recipe(**{"batch": 128} | recipe),
    )  # fmt: skip


def search_job(settings, seed=0, **changes):
    """The job of a plan, without the plan's checks."""
    return TasSearch(problem=problem(epochs=settings.search_epochs, **changes), settings=settings, seed=seed)


@contextlib.contextmanager
def full_disk(room=2000):
    """No file may grow beyond so many bytes, which fails a write as a full disk does."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def unreadable(path):
    """The file system fails to read it, root or not: EIO."""
    path.unlink(missing_ok=True)
    path.symlink_to("/proc/self/mem")


def bare_row(job_id, **changed):
    return dict.fromkeys(ROWS.names) | {"job_id": job_id, "status": "ok", "attempts": 1} | changed


def drive(plan, answer):
    """Batches a plan yields, and the size it returns."""
    batches = []
    try:
        batch = next(plan)
        while True:
            batches.append(batch)
            batch = plan.send([answer(job) for job in batch])
    except StopIteration as end:
        return batches, end.value


def keys(batches):
    return [[job_id(job) for job in batch] for batch in batches]


def one_by_one(sweep, context, resources, talk, *_):
    """In place of `supervisor.run_jobs`: the jobs one after another in this process, without Ray."""
    store = Store(context.results)
    plans = plans_of(sweep, store)
    keep_uses(plans, sweep, store)
    with Progress(Console(stderr=True), sweep.jobs, talk.quiet) as display:
        dispatch = Dispatch(plans, sweep, context, display, resources)
        while task := dispatch.next_task():
            execute(task.job, task.labels, task.context)
            dispatch.complete(task.key)


def hidden_best(band, seed):
    """A made-up accuracy of sizes: 1 - the weighted distance to a hidden size in the band."""
    rng = np.random.default_rng([seed, 99])
    [hidden] = band.sample(rng, 1)
    full = np.array(band.space.full.widths + band.space.full.depths)
    weights = rng.dirichlet(np.ones(len(full))) / full
    hidden_row = np.array(hidden.widths + hidden.depths)
    return lambda size: 1 - float(weights @ np.abs(np.array(size.widths + size.depths) - hidden_row))


def sets(*settings):
    """As they stand on the command line."""
    return [word for setting in settings for word in ("--set", setting)]


def tiny(methods, transfers="scratch", epochs=1, seeds="0"):
    """Settings of a run of seconds."""
    return sets(
        "backbones=tiny", f"methods={methods}", f"transfers={transfers}", f"epochs={epochs}", f"seeds={seeds}"
    )


def started(results):
    """When each job's row was written and its job started."""
    return {
        row.job_id: (row.started, (Path(results) / "rows" / f"{row.job_id}.parquet").stat().st_mtime_ns)
        for row in load(results).itertuples()
    }
