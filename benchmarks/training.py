"""The training function against the loop that one would write: speed, accuracy, and what KD and a job cost.

The usual loop is torchvision's CIFAR-100 with its transforms, a DataLoader with two workers, float32 and the
default memory layout; network, optimiser and schedule are the same. Both train in turn, so that they meet the
same machine.

    python benchmarks/training.py                        speed, on made-up images
    python benchmarks/training.py --accuracy DATA        final accuracy of both on real CIFAR-100: half an hour
"""

from __future__ import annotations

import argparse
import io
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tas_bench import measure
from tas_bench.backbones import find_backbone
from tas_bench.data import Images, dataset_info, load_test, load_train
from tas_bench.data.vision import torchvision
from tas_bench.jobs import Context, DataSpec, Problem, Recipe, job_id, weights_path
from tas_bench.loop import cosine_lr, run_through, set_lr, sgd
from tas_bench.network import Network, fold_norms
from tas_bench.report.stats import mean_interval
from tas_bench.space import Size
from tas_bench.store import Store
from tas_bench.train import final_job, teacher_job, train
from tas_bench.transfer import Transfer
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch
from tas_bench.worker import Labels, execute

INFO, BACKBONE = dataset_info("cifar100"), find_backbone("resnet32")
CPUS, BATCH, ROUNDS = 2, 256, 3
TRAIN, TEST, STEPS = 50_000, 10_000, 20
EPOCHS, SUBSET, SEEDS = 10, 10_000, 3


def main() -> None:
    """Print ratios, or compare accuracies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--accuracy", type=Path, metavar="DATA", help="folder that holds CIFAR-100")
    args = parser.parse_args()
    torch.set_num_threads(CPUS)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])  # the data loader's workers share them
    measure.keep_memory()
    print(f"{measure.device_name('cpu')}, {CPUS} threads, {measure.precision('cpu', INFO.image)}, batch {BATCH}")
    with tempfile.TemporaryDirectory() as folder:
        context = Context(results=Path(folder) / "results", data_root=args.accuracy or Path(folder), cpus=CPUS)
        with Store(context.results).lock():
            if args.accuracy:
                compare_accuracy(context)
            else:
                write_images(Path(folder), INFO.classes)
                compare_speed(context)
                fixed_cost(context)


def problem(epochs: int, subset: int | None) -> Problem:
    """ResNet-32 on CIFAR-100, with a budget of 60 % of its macs."""
    return Problem(
        data=DataSpec(name="cifar100", train_subset=subset), backbone_name="resnet32", classes=INFO.classes,
        image=INFO.image, keep=0.6, t=0.05, recipe=Recipe(epochs=epochs, batch=BATCH),
    )  # fmt: skip


# ---- the rival


def usual_loader(images: Images, *, augment: bool) -> DataLoader[tuple[Tensor, Tensor]]:
    """Torchvision's data set over images in memory, as it is after reading its files."""
    transforms = torchvision("transforms")
    loader_class = torchvision("datasets").CIFAR100
    dataset = loader_class.__new__(loader_class)
    dataset.data = images.images.permute(0, 2, 3, 1).contiguous().numpy()
    dataset.targets = images.labels.tolist()
    dataset.target_transform = None
    to_tensor = [transforms.ToTensor(), transforms.Normalize(INFO.mean, INFO.std)]
    crops = [transforms.RandomCrop(INFO.image.side, padding=INFO.pad), transforms.RandomHorizontalFlip()]
    dataset.transform = transforms.Compose((crops if augment else []) + to_tensor)
    return DataLoader(dataset, batch_size=BATCH, shuffle=augment, num_workers=2, persistent_workers=True)


def usual_epoch(network: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader) -> None:
    """Forward, backward, step."""
    network.train()
    for x, y in batches:
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def usual_accuracy(network: nn.Module, batches: DataLoader) -> float:
    """Fraction of images classified right."""
    network.eval()
    with torch.no_grad():
        hits = [(network(x).argmax(dim=1) == y).float() for x, y in batches]
    return float(torch.cat(hits).mean())


def usual(task: Problem, context: Context, seed: int, epochs: int) -> Iterator[nn.Module]:
    """Train by the usual loop; yields the network after every epoch."""
    torch.manual_seed(seed)
    network = Network(BACKBONE, BACKBONE.full, INFO.classes)
    optimizer = sgd(network.parameters(), task.recipe)
    batches = usual_loader(load_train(task.data, context.data_root), augment=True)
    for epoch in range(epochs):
        set_lr(optimizer, cosine_lr(task.recipe, epoch))
        usual_epoch(network, optimizer, batches)
        yield network


# ---- what is measured


def compare_speed(context: Context) -> None:
    """Images per second of both loops, and of KD, all in turn; the first round warms up."""
    task = problem(epochs=1, subset=STEPS * BATCH)
    full, student = BACKBONE.full, sixty_percent(task)
    save_teacher(task, context)
    loop = usual(task, context, seed=0, epochs=ROUNDS + 1)
    rates: dict[str, list[float]] = {"usual": [], "ours": [], "scratch": [], "kd": [], "teacher": []}
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        next(loop)
        rates["usual"].append(STEPS * BATCH / (time.perf_counter() - start))
        rates["ours"].append(ours(task, full, Scratch(), context))
        rates["scratch"].append(ours(task, student, Scratch(), context))
        rates["kd"].append(ours(task, student, KD(), context))
        rates["teacher"].append(teacher_rate())
    ratios = {name: [u / v for u, v in zip(rates["usual"], found, strict=True)] for name, found in rates.items()}
    usual_, ours_ = (statistics.median(rates[name][1:]) for name in ("usual", "ours"))
    print(f"usual loop {usual_:.0f} images/s, ours {ours_:.0f}: {1 / statistics.median(ratios['ours'][1:]):.2f} x")
    kd, floor = (
        statistics.median(s / v for s, v in list(zip(rates["scratch"], rates[name], strict=True))[1:])
        for name in ("kd", "teacher")
    )
    share = task.macs(student) / task.macs(full)
    print(f"KD / scratch, student with {share:.0%} of the macs: {kd:.2f}; the teacher's forward: {1 + floor:.2f}")


def ours(task: Problem, size: Size, transfer: Transfer, context: Context) -> float:
    """Images per second of the training function's epoch."""
    outcome = train(final_job(task, size, 0, transfer), context)
    assert outcome.images_per_second
    return outcome.images_per_second


@torch.no_grad()
def teacher_rate() -> float:
    """Images per second of the unpruned network's forward pass as KD runs it."""
    teacher = measure.channels_last(Network(BACKBONE, BACKBONE.full, INFO.classes), "cpu").eval()
    fold_norms(teacher)
    x = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    precision = measure.precision("cpu", INFO.image)
    run_through(teacher, x, precision)
    start = time.perf_counter()
    for _ in range(STEPS):
        run_through(teacher, x, precision)
    return STEPS * BATCH / (time.perf_counter() - start)


def fixed_cost(context: Context) -> None:
    """Seconds of a job in a warm worker besides training and evaluation: all of CIFAR-100, row committed."""
    task, found = problem(epochs=1, subset=None), []
    size = replace(BACKBONE.full, widths=(1,) * len(BACKBONE.convs), depths=(1, 1, 1))
    for seed in range(ROUNDS + 1):
        start = time.perf_counter()
        row = execute(final_job(task, size, seed, Scratch()), Labels("bench", "none", None), context)
        assert row["status"] == "ok", row["error"]
        found.append(
            time.perf_counter() - start - sum(row[f"seconds_{part}"] for part in ("data", "train", "eval"))
        )
    print(f"fixed cost of a job: {statistics.median(found[1:]):.2f} s (the first in its worker {found[0]:.1f} s)")


def compare_accuracy(context: Context) -> None:
    """Test accuracy of both loops after a short training, over seeds."""
    task = problem(EPOCHS, SUBSET)
    test = usual_loader(load_test(task.data, context.data_root), augment=False)
    ours_, usual_ = [], []
    for seed in range(SEEDS):
        ours_.append(train(final_job(task, BACKBONE.full, seed, Scratch()), context).test_accuracy or math.nan)
        network = list(usual(task, context, seed, EPOCHS))[-1]
        usual_.append(usual_accuracy(network, test))
        print(f"seed {seed}: ours {ours_[-1]:.2%}, usual loop {usual_[-1]:.2%}", flush=True)
    gap = mean_interval(a - b for a, b in zip(ours_, usual_, strict=True))
    print(f"ours - usual: {100 * (gap.mean or 0):+.2f} +- {100 * (gap.half_width or 0):.2f} points (n = {gap.n})")


# ---- what it is measured on


def sixty_percent(task: Problem) -> Size:
    """The size of one ratio for all widths that comes nearest to the budget."""
    ratios = np.linspace(0.5, 1, 101)
    sizes = [
        replace(BACKBONE.full, widths=tuple(max(1, int(w * r)) for w in BACKBONE.full.widths)) for r in ratios
    ]
    return min(sizes, key=lambda size: abs(task.macs(size) - task.budget))


def save_teacher(task: Problem, context: Context) -> None:
    """Random weights, where the students look for their teacher."""
    network = Network(BACKBONE, BACKBONE.full, INFO.classes)
    save_file(network.state_dict(), weights_path(context.results, job_id(teacher_job(task, 0))))


def write_images(folder: Path, classes: int) -> None:
    """Random pixels as parquet shards, as many as CIFAR-100 has."""
    rng = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("test", TEST)):
        pngs = []
        for pixels in rng.integers(256, size=(count, 32, 32, 3), dtype=np.uint8):
            Image.fromarray(pixels).save(buffer := io.BytesIO(), format="PNG", compress_level=0)
            pngs.append({"bytes": buffer.getvalue(), "path": None})
        table = pa.table({"img": pngs, "fine_label": np.arange(count) % classes})
        (folder / "cifar100").mkdir(exist_ok=True)
        pq.write_table(table, folder / "cifar100" / f"{part}-00000-of-00001.parquet", row_group_size=1000)


if __name__ == "__main__":
    main()
