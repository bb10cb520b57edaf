"""A supernet trained once, and sizes scored inside it instead of being trained.

Single Path One-Shot (Guo et al., ECCV 2020, arXiv 1904.00420): every step trains one size, drawn uniformly from
the whole space (section 3.2), and batch-norm statistics are taken anew before a size is judged (section 3.4). No
budget is in it, so all methods and budgets share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from tas_bench import measure
from tas_bench.backbones import find_backbone
from tas_bench.checkpoint import Checkpoint
from tas_bench.data import Passes, batches_of, dataset_info, halves, load_train
from tas_bench.jobs import Context, DataSpec, Outcome, Recipe, job_id, weights_path
from tas_bench.loop import cosine_lr, set_lr, sgd
from tas_bench.schema import job_columns, size_columns
from tas_bench.space import IntArray, Size
from tas_bench.subnetwork import score
from tas_bench.supernet import Sample, Supernet
from tas_bench.tables import read_weights
from tas_bench.train import booked, passing_at_once

CALIBRATION = 2000
"""Images of the training half, at most, that batch-norm statistics are taken of."""

DRAWN = 20
"""Sizes by which a supernet's cost is foretold."""


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """Train a supernet on the training half."""

    version: ClassVar[int] = 2
    kind: ClassVar[str] = "supernet"
    touches_test: ClassVar[bool] = False

    data: DataSpec
    backbone_name: str
    recipe: Recipe
    seed: int

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        return job_columns(self.data, self.backbone_name, self.seed)

    def expected_macs(self, images: int) -> int:
        """Training macs of the job, given how many training images there are: by the mean of its first draws."""
        macs = [macs_of(self.backbone_name, self.data.name, tuple(row)) for row in self.draws(0, DRAWN).tolist()]
        return self.recipe.epochs * (images // 2) * 3 * sum(macs) // DRAWN

    def draws(self, epoch: int, steps: int) -> IntArray:
        """Candidate indices (steps, rows) of the sizes of an epoch; it depends on seed and epoch alone."""
        rng = np.random.default_rng([self.seed, epoch])
        return find_backbone(self.backbone_name).space().sample_indices(rng, steps)

    def run(self, context: Context) -> Outcome:
        """Train it; goes on from the last checkpoint where there is one.

        Raises:
            DivergedError: a loss became NaN or infinite; the last checkpoint stays.
        """
        watch, info, device = measure.Stopwatch(), dataset_info(self.data.name), context.device
        with watch.on("startup"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            supernet = measure.channels_last(supernet_of(self.backbone_name, self.data.name), device)
            optimizer = sgd(supernet.parameters(), self.recipe)
            generator = torch.Generator(device).manual_seed(self.seed)
            half, _ = halves(load_train(self.data, context.data_root), self.data)
            batches = batches_of(
                half.to(device), info, self.recipe.batch, augment=True, generator=generator, cpus=context.cpus
            )
            parts = {"supernet": supernet, "optimizer": optimizer}
            precision = measure.precision(device, info.image)
            checkpoint = Checkpoint(context, job_id(self), parts, generator, precision)
            kept = checkpoint.restore()
        watch.carry(kept.get("seconds", {}))
        curve, macs = kept.get("curve", []), kept.get("macs", 0)
        convs = len(supernet.space.widths)
        for epoch in range(len(curve), self.recipe.epochs):
            lr = cosine_lr(self.recipe, epoch)
            set_lr(optimizer, lr)
            meter, guard = measure.Meter(), measure.LossGuard(epoch)
            with watch.on("train"):
                steps = zip(batches, self.draws(epoch, len(batches)), strict=True)
                for (x, y), indices in watch.each("data", steps):
                    with measure.autocast(device, precision):
                        logits = supernet(x, Sample.of(indices, convs, device)).float()
                    loss = F.cross_entropy(logits, y)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    guard.see(loss)
                    meter.add(loss, logits, y)
                    macs += 3 * len(x) * supernet.macs
                guard.check(supernet)
            point = {"lr": lr, "train_loss": meter.loss, "train_accuracy": meter.accuracy}
            curve.append({"epoch": epoch + 1} | point)
            context.tick(epoch + 1, self.recipe.epochs)
            checkpoint.save(curve=curve, macs=macs, seconds=watch.seconds)
        return Outcome(
            train_accuracy=curve[-1]["train_accuracy"],
            epochs=self.recipe.epochs,
            train_macs=macs,
            curve=curve,
            warning=checkpoint.warning,
            weights={name: tensor.cpu() for name, tensor in supernet.state_dict().items()},
            **booked(watch, context, precision, self.recipe.epochs * len(half)),
        )


@dataclass(frozen=True, kw_only=True)
class Score:
    """Judge a size inside a trained supernet, on the validation half.

    Its macs are those of its forward passes.
    """

    version: ClassVar[int] = 2
    kind: ClassVar[str] = "score"
    touches_test: ClassVar[bool] = False

    supernet: OneShot
    size: Size

    @property
    def seed(self) -> int:
        """Nothing is drawn here; the supernet's."""
        return self.supernet.seed

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        backbone, info = find_backbone(self.supernet.backbone_name), dataset_info(self.supernet.data.name)
        layers = backbone.layers(info.classes, info.image)
        return self.supernet.describe() | size_columns(layers, self.size)

    def expected_macs(self, images: int) -> int:
        """Macs of the job, given how many training images there are."""
        return (_calibrating(self.supernet, images // 2) + images - images // 2) * self._macs

    @property
    def _macs(self) -> int:
        """As the supernet runs it: streams are as wide as their widest block."""
        job = self.supernet
        indices = find_backbone(job.backbone_name).space().indices(self.size)
        return macs_of(job.backbone_name, job.data.name, tuple(indices.tolist()))

    def run(self, context: Context) -> Outcome:
        """Score it."""
        watch = measure.Stopwatch()
        with watch.on("startup"):
            supernet, calibration, judged, images = _loaded(
                self.supernet, context.results, context.data_root, context.device, context.cpus
            )
        precision = measure.precision(context.device, dataset_info(self.supernet.data.name).image)
        with watch.on("eval"):
            accuracy = score(supernet, self.size, calibration, judged, precision)
        return Outcome(
            size=self.size,
            val_accuracy=accuracy,
            train_macs=images * self._macs,
            **booked(watch, context, precision, images),
        )


@lru_cache(maxsize=1)
def _loaded(
    job: OneShot, results: Path, data_root: Path | None, device: str, cpus: float
) -> tuple[Supernet, Passes, Passes, int]:
    """A trained supernet, images to take statistics of, those to judge by, and how many they are in all.

    A worker scores one size after the other, so the last supernet is at hand.
    """
    supernet = supernet_of(job.backbone_name, job.data.name)
    supernet.load_state_dict(read_weights(weights_path(results, job_id(job))))
    info = dataset_info(job.data.name)
    at_once = passing_at_once(info, job.recipe)
    train, val = halves(load_train(job.data, data_root), job.data)
    spread = np.linspace(0, len(train) - 1, _calibrating(job, len(train))).astype(np.int64)  # files lie by class
    calibration, judged = (
        batches_of(part.to(device), info, at_once, augment=False, cpus=cpus) for part in (train.take(spread), val)
    )
    return measure.channels_last(supernet, device), calibration, judged, len(spread) + len(val)


def forget() -> None:
    """Give back the supernet at hand, its images and the processes that decode them."""
    _loaded.cache_clear()


def _calibrating(job: OneShot, train: int) -> int:
    """Images that statistics are taken of: whole batches of those there are, since all batches count alike."""
    count = min(CALIBRATION, train)
    return count - count % min(passing_at_once(dataset_info(job.data.name), job.recipe), count)


def supernet_of(backbone_name: str, dataset: str) -> Supernet:
    """A supernet of the backbone's whole space, with random weights."""
    backbone, info = find_backbone(backbone_name), dataset_info(dataset)
    return Supernet(backbone, backbone.space(), info.classes, info.image)


@lru_cache(maxsize=10_000)
def macs_of(backbone_name: str, dataset: str, indices: tuple[int, ...]) -> int:
    """Multiply-accumulates per image of a supernet at one size, from shapes alone."""
    image, supernet = dataset_info(dataset).image, _without_memory(backbone_name, dataset)
    with torch.no_grad():
        x = torch.empty(2, image.channels, image.side, image.side, device="meta")
        supernet(x, Sample.of(indices, len(supernet.space.widths), "meta"))
    return supernet.macs


@lru_cache(maxsize=4)
def _without_memory(backbone_name: str, dataset: str) -> Supernet:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return supernet_of(backbone_name, dataset)
