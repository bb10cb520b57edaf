"""The one training function: teacher, candidate and final student all go through `train`.

SGD with Nesterov momentum, cosine learning rate, batched augmentation (paper section 4.1). The three roles
differ in their data only: a candidate trains on one half of the training set and is judged on the other;
teachers and finals train on all of it and are tested once, after the last epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from tas_bench import measure
from tas_bench.backbones import find_backbone
from tas_bench.checkpoint import Checkpoint
from tas_bench.costs.macs import MACS
from tas_bench.costs.params import PARAMS
from tas_bench.data import AnyImages, DatasetInfo, Passes, batches_of, dataset_info, halves, load_test, load_train
from tas_bench.jobs import Context, DataSpec, Outcome, Problem, Recipe, job_id, weights_path
from tas_bench.network import Network, fold_norms
from tas_bench.space import Size
from tas_bench.transfer import Transfer
from tas_bench.transfer.scratch import Scratch

Role = Literal["teacher", "candidate", "final"]

TOP5_FROM = 10
"""Top-5 accuracy is told where there are more classes than this."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train one size of a backbone.

    Attributes:
        teacher: the job whose weights `transfer` draws on; None for scratch.
    """

    version: ClassVar[int] = 2

    data: DataSpec
    backbone_name: str
    size: Size
    recipe: Recipe
    seed: int
    role: Role
    transfer: Transfer = Scratch()
    teacher: Train | None = None

    @property
    def kind(self) -> str:
        """The row's kind is the role."""
        return self.role

    @property
    def touches_test(self) -> bool:
        """Candidates are judged on the validation half."""
        return self.role != "candidate"

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        backbone, info = find_backbone(self.backbone_name), dataset_info(self.data.name)
        layers = backbone.layers(info.classes, info.image)
        return {
            "transfer": self.transfer.name,
            "dataset": self.data.name,
            "train_subset": self.data.train_subset,
            "split": "full" if self.touches_test else "search",
            "backbone": self.backbone_name,
            "seed": self.seed,
            "widths": list(self.size.widths),
            "depths": list(self.size.depths),
            "macs": MACS.of(layers, self.size),
            "params": PARAMS.of(layers, self.size),
        }

    def run(self, context: Context) -> Outcome:
        """Train it."""
        return train(self, context)


def teacher_job(problem: Problem, seed: int) -> Train:
    """The unpruned network, trained on the whole training set: once per data set, backbone and seed."""
    return Train(
        data=problem.data, backbone_name=problem.backbone_name, size=problem.backbone.full,
        recipe=problem.recipe, seed=seed, role="teacher",
    )  # fmt: skip


def candidate_job(problem: Problem, size: Size, seed: int, epochs: int | None = None) -> Train:
    """A size to be judged on the validation half, trained for `epochs` (the recipe's by default)."""
    recipe = problem.recipe if epochs is None else replace(problem.recipe, epochs=epochs)
    return Train(
        data=problem.data, backbone_name=problem.backbone_name, size=problem.backbone.canonical(size),
        recipe=recipe, seed=seed, role="candidate",
    )  # fmt: skip


def final_job(problem: Problem, size: Size, seed: int, transfer: Transfer) -> Train:
    """A found size, trained on the whole training set and tested."""
    return Train(
        data=problem.data, backbone_name=problem.backbone_name, size=problem.backbone.canonical(size),
        recipe=problem.recipe, seed=seed, role="final", transfer=transfer,
        teacher=teacher_job(problem, seed) if transfer.needs_teacher else None,
    )  # fmt: skip


def train(job: Train, context: Context) -> Outcome:
    """Train a network and measure it; goes on from the last checkpoint where there is one.

    Raises:
        DivergedError: the loss became NaN or infinite; the last checkpoint stays.
    """
    watch = measure.Stopwatch()
    device, info = context.device, dataset_info(job.data.name)
    precision = measure.precision(device, info.image)
    with watch.on("startup"), torch.random.fork_rng():
        torch.manual_seed(job.seed)
        train_images, held_out = _images(job, context)
        student = _network(job, info, device)
        teacher = _teacher(job, info, context)
        job.transfer.prepare(student, teacher)
        if teacher is not None:
            fold_norms(teacher)
        generator = torch.Generator(device).manual_seed(job.seed)
        batches = batches_of(
            train_images, info, job.recipe.batch, augment=True, generator=generator, cpus=context.cpus
        )
        judged_on = batches_of(held_out, info, _eval_batch(job, info), augment=False, cpus=context.cpus)
        loop = _Loop(job, student, teacher if job.transfer.needs_logits else None, precision)
        parts = {"student": student, "optimizer": loop.optimizer}
        checkpoint = Checkpoint(context, job_id(job), parts, generator)
        kept = checkpoint.restore()
    watch.carry(kept.get("seconds", {}))
    curve: list[dict[str, float]] = kept.get("curve", [])
    for epoch in range(len(curve), job.recipe.epochs):
        with watch.on("train"):
            point = loop.epoch(epoch, batches)
        if job.role == "candidate":
            with watch.on("eval"):
                point["val_accuracy"] = accuracy(student, judged_on, precision)
        curve.append({"epoch": epoch + 1} | point)
        context.tick(epoch + 1, job.recipe.epochs)
        checkpoint.save(curve=curve, seconds=watch.seconds)

    test_accuracy = test_top5 = None
    if job.touches_test:
        with watch.on("eval"):
            test_accuracy, test_top5 = accuracies(student, judged_on, precision)
    best = max(curve, key=lambda p: p.get("val_accuracy", 0.0))
    images = job.recipe.epochs * len(train_images)
    return Outcome(
        size=job.size,
        train_accuracy=curve[-1]["train_accuracy"],
        val_accuracy=curve[-1].get("val_accuracy"),
        best_val_accuracy=best.get("val_accuracy"),
        best_epoch=int(best["epoch"]) if "val_accuracy" in best else None,
        test_accuracy=test_accuracy,
        test_top5=test_top5,
        epochs=job.recipe.epochs,
        images=images,
        train_macs=images * loop.macs_per_image(info),
        curve=curve,
        warning=checkpoint.warning,
        weights=student.state_dict() if job.role == "teacher" or context.keep_weights else None,
        **booked(watch, context, precision),
    )


def booked(watch: measure.Stopwatch, context: Context, precision: str) -> dict[str, Any]:
    """The `Outcome` fields that say what a job cost and on what it ran."""
    return {
        "seconds_startup": watch.seconds["startup"],
        "seconds_train": watch.seconds["train"],
        "seconds_eval": watch.seconds["eval"],
        "device_seconds": watch.total * (context.gpus or context.cpus),
        "carried_seconds": watch.carried * (context.gpus or context.cpus),
        "peak_memory": measure.peak_memory(context.device),
        "device": measure.device_name(context.device),
        "precision": precision,
    }


def cosine_lr(recipe: Recipe, epoch: int) -> float:
    """Learning rate of an epoch, from `lr` down to (almost) zero."""
    return recipe.lr * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2


def sgd(parameters: Iterable[Tensor], recipe: Recipe) -> torch.optim.SGD:
    """The optimiser of every network's weights."""
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


@torch.no_grad()
def accuracies(network: torch.nn.Module, batches: Passes, precision: str) -> tuple[float, float | None]:
    """Fraction of images whose class comes first, and whose class is among the first five, in eval mode.

    The second is None where there are ten classes or fewer.
    """
    network.eval()
    first: Tensor | int = 0
    among: Tensor | int = 0
    seen = classes = 0
    for x, y in batches:
        logits = run_through(network, x, precision)
        classes = logits.shape[1]
        first = first + (logits.argmax(dim=1) == y).sum()
        if classes > TOP5_FROM:
            among = among + (logits.topk(5, dim=1).indices == y[:, None]).sum()
        seen += len(y)
    return float(first) / seen, float(among) / seen if classes > TOP5_FROM else None


def accuracy(network: torch.nn.Module, batches: Passes, precision: str) -> float:
    """Fraction of images classified right, in eval mode."""
    return accuracies(network, batches, precision)[0]


def run_through(network: torch.nn.Module, x: Tensor, precision: str) -> Tensor:
    """Float32 logits of a batch."""
    with measure.autocast(x.device.type, precision):
        logits: Tensor = network(x).float()
    return logits


class _Loop:
    """The state of one training: student, teacher, optimiser."""

    def __init__(self, job: Train, student: Network, teacher: Network | None, precision: str) -> None:
        self.job, self.student, self.teacher, self.precision = job, student, teacher, precision
        self.optimizer = sgd(student.parameters(), job.recipe)

    def epoch(self, epoch: int, batches: Passes) -> dict[str, float]:
        """One pass over the training images."""
        self.student.train()
        lr = cosine_lr(self.job.recipe, epoch)
        set_lr(self.optimizer, lr)
        meter, guard = measure.Meter(), measure.LossGuard(epoch)
        for x, y in batches:
            logits = run_through(self.student, x, self.precision)
            loss = self.job.transfer.loss(logits, self._teacher_logits(x), y)
            guard.see(loss)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            meter.add(loss, logits, y)
        guard.check(self.student)
        return {"lr": lr, "train_loss": meter.loss, "train_accuracy": meter.accuracy}

    @torch.no_grad()
    def _teacher_logits(self, x: Tensor) -> Tensor | None:
        if self.teacher is None:
            return None
        return run_through(self.teacher, x, self.precision)

    def macs_per_image(self, info: DatasetInfo) -> int:
        """Multiply-accumulates per training image: three forwards, and the teacher's one."""
        backbone = find_backbone(self.job.backbone_name)
        layers = backbone.layers(info.classes, info.image)
        teacher = MACS.of(layers, backbone.full) if self.teacher else 0
        return 3 * MACS.of(layers, self.job.size) + teacher


def _images(job: Train, context: Context) -> tuple[AnyImages, AnyImages]:
    """Images to train on, and those held out to judge: the other half for a candidate, else the test set."""
    train_images = load_train(job.data, context.data_root)
    if job.role == "candidate":
        train_images, held_out = halves(train_images, job.data)
    else:
        held_out = load_test(job.data, context.data_root)
    return train_images.to(context.device), held_out.to(context.device)


def _eval_batch(job: Train, info: DatasetInfo) -> int:
    """Many small images at once; of large ones no more than memory had room for in training."""
    return 1000 if info.image.side <= 32 else job.recipe.batch


def _network(job: Train, info: DatasetInfo, device: str) -> Network:
    network = Network(find_backbone(job.backbone_name), job.size, info.classes, info.image)
    return measure.channels_last(network, device)


def _teacher(job: Train, info: DatasetInfo, context: Context) -> Network | None:
    """The trained unpruned network, in eval mode."""
    if job.teacher is None:
        return None
    teacher = _network(job.teacher, info, context.device)
    teacher.load_state_dict(load_file(weights_path(context.results, job_id(job.teacher)), device=context.device))
    return teacher.eval().requires_grad_(False)
