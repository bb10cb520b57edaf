"""The one training function: teacher, candidate and final student all go through `train`.

SGD with Nesterov momentum, cosine learning rate, batched augmentation (paper section 4.1). The three roles
differ in their data only: a candidate trains on one half of the training set and is judged on the other;
teachers and finals train on all of it, but for a holdout, and open the test set after the last epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tas_bench import measure
from tas_bench.backbones import find_backbone
from tas_bench.checkpoint import Checkpoint
from tas_bench.costs.macs import MACS
from tas_bench.data import (
    AnyImages,
    DatasetInfo,
    Passes,
    batches_of,
    dataset_info,
    halves,
    load_test,
    load_train,
    set_aside,
)
from tas_bench.jobs import Context, DataSpec, Job, Outcome, Problem, Recipe, job_id, weights_path
from tas_bench.loop import Loop, accuracies, accuracy
from tas_bench.network import Network, fold_norms
from tas_bench.schema import job_columns, size_columns
from tas_bench.space import Size
from tas_bench.tables import read_weights
from tas_bench.transfer import Transfer
from tas_bench.transfer.scratch import Scratch

Role = Literal["teacher", "candidate", "final"]

EVAL_BATCH = 1000
"""Small images to evaluate at once."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train one size of a backbone.

    Attributes:
        teacher: the job whose weights `transfer` draws on: the unpruned network's training, or one that ends in
            weights of this very size; None for scratch.
    """

    data: DataSpec
    backbone_name: str
    size: Size
    recipe: Recipe
    seed: int
    role: Role
    transfer: Transfer = Scratch()
    teacher: Job | None = None

    @property
    def version(self) -> int:
        """3: what is set aside is of the validation half; nothing else has changed since 2."""
        return 3 if self.recipe.holdout else 2

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
        here = job_columns(self.data, self.backbone_name, self.seed) | size_columns(layers, self.size)
        return here | {"transfer": self.transfer.name, "split": "full" if self.touches_test else "search"}

    def expected_macs(self, images: int) -> int:
        """Training macs of the job where the training part has so many images."""
        held_out = images - images // 2 if self.role == "candidate" else round(self.recipe.holdout * images)
        return self.recipe.epochs * (images - held_out) * _macs_per_image(self, dataset_info(self.data.name))

    def run(self, context: Context) -> Outcome:
        """Train it."""
        return train(self, context)


@dataclass(frozen=True)
class Part:
    """The epochs up to `until` of a training, on its full schedule.

    Attributes:
        checkpoint: the key under which all parts of the training keep their checkpoint.
    """

    until: int
    checkpoint: str

    def goes_on_from(self, kept: Mapping[str, Any]) -> bool:
        """Whether a checkpoint lies before its end, or is what it left there itself."""
        epochs = len(kept["curve"])
        return epochs < self.until or (epochs == self.until and kept.get("until", self.until) == self.until)


def teacher_job(problem: Problem, seed: int) -> Train:
    """The unpruned network, trained on the whole training set: once per data set, backbone and seed."""
    return Train(
        data=problem.data, backbone_name=problem.backbone_name, size=problem.backbone.full,
        recipe=replace(problem.recipe, epochs=problem.teacher_epochs or problem.recipe.epochs),
        seed=seed, role="teacher",
    )  # fmt: skip


def candidate_job(problem: Problem, size: Size, seed: int, epochs: int | None = None) -> Train:
    """A size to be judged on the validation half, trained for `epochs` (the recipe's by default)."""
    recipe = replace(problem.recipe, epochs=epochs or problem.recipe.epochs, holdout=0.0)  # the other half is it
    return Train(
        data=problem.data, backbone_name=problem.backbone_name, size=problem.backbone.canonical(size),
        recipe=recipe, seed=seed, role="candidate",
    )  # fmt: skip


def final_job(
    problem: Problem, size: Size, seed: int, transfer: Transfer, own_weights: Job | None = None
) -> Train:
    """A found size, trained on the whole training set and tested.

    Args:
        own_weights: a job that has trained this size before: what a transfer of weights starts from. Logits are
            always the teacher's.
    """
    teacher = own_weights if own_weights and not transfer.needs_logits else teacher_job(problem, seed)
    return Train(
        data=problem.data, backbone_name=problem.backbone_name, size=problem.backbone.canonical(size),
        recipe=problem.recipe, seed=seed, role="final", transfer=transfer,
        teacher=teacher if transfer.needs_teacher else None,
    )  # fmt: skip


def train(
    job: Train, context: Context, part: Part | None = None, watch: measure.Stopwatch | None = None
) -> Outcome:
    """Train a network and measure it; goes on from the last checkpoint where there is one.

    Where memory runs out, it goes on with half as many images at a time, as `Loop` says, from the last checkpoint.

    Args:
        part: train a part of it only; all of it by default.
        watch: has booked what went before.

    Raises:
        DivergedError: the loss became NaN or infinite; the last checkpoint stays.
        MemoryError, RuntimeError: memory has no room for two images.
    """
    watch, part = watch or measure.Stopwatch(), part or Part(job.recipe.epochs, job_id(job))
    micro_batch = job.recipe.batch
    while True:
        try:
            return _Training(job, context, watch, micro_batch, part).run()
        except (MemoryError, RuntimeError) as error:
            if micro_batch < 3 or not measure.out_of_memory(error):
                raise
        micro_batch = -(-micro_batch // 2)
        measure.free_memory()


class _Training:
    """One attempt, with at most so many images at a time.

    Attributes:
        since: epochs of earlier parts that it went on from: what they cost is booked there.
    """

    def __init__(
        self, job: Train, context: Context, watch: measure.Stopwatch, micro_batch: int, part: Part
    ) -> None:
        self.job, self.context, self.watch, self.until = job, context, watch, part.until
        device, self.info = context.device, dataset_info(job.data.name)
        self.precision = measure.precision(device, self.info.image)
        with watch.on("startup"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            self.student = _network(job, self.info, device)
            teacher = _teacher(job, self.info, context)
            job.transfer.prepare(self.student, teacher)
            if teacher is not None:
                fold_norms(teacher)
            generator = torch.Generator(device).manual_seed(job.seed)
            self.train_images, self.val_images = _images(job, context)
            self.batches = batches_of(
                self.train_images, self.info, job.recipe.batch,
                augment=True, generator=generator, cpus=context.cpus,
            )  # fmt: skip
            self.loop = Loop(
                job.recipe, job.transfer, self.student, teacher if job.transfer.needs_logits else None,
                self.precision, micro_batch,
                compiled=measure.compile_pays(device, job.recipe.epochs * len(self.batches)),
            )  # fmt: skip
            parts = {"student": self.student, "optimizer": self.loop.optimizer}
            self.checkpoint = Checkpoint(context, part.checkpoint, parts, generator, self.precision)
            kept = self.checkpoint.restore(part.goes_on_from)
        self.loop.micro_batch = min(micro_batch, kept.get("most", micro_batch))
        self.curve: list[dict[str, float]] = kept.get("curve", [])
        self.best: dict[str, Any] = kept.get("best", {})
        ours = kept.get("until", part.until) == part.until
        self.since = kept.get("since", 0) if ours else len(self.curve)
        if ours and not watch.seconds["train"]:  # or this process booked them itself, before memory ran out
            watch.carry(kept.get("seconds", {}))

    def run(self) -> Outcome:
        """Train from the epoch that comes next, then measure."""
        epochs, more = self.until, self.until < self.job.recipe.epochs
        val = self._to_judge(self.val_images) if self.val_images is not None else None
        for epoch in range(len(self.curve), epochs):
            with self.watch.on("train"):
                point = {"epoch": epoch + 1} | self.loop.epoch(epoch, self.batches, self.watch)
            if val is not None:
                with self.watch.on("eval"):
                    point["val_accuracy"] = accuracy(self.student, val, self.precision)
                self._compare(point)
            self.curve.append(point)
            self.context.tick(epoch + 1, epochs)
            self.checkpoint.save(
                now=more and epoch + 1 == epochs, curve=self.curve, best=self.best, most=self.loop.micro_batch,
                seconds=self.watch.seconds, since=self.since, until=epochs,
            )  # fmt: skip
        return self._measured()

    def _compare(self, point: dict[str, float]) -> None:
        """Remember the best epoch by validation; its weights too, where they will be tested."""
        if point["val_accuracy"] > self.best.get("val_accuracy", -1.0):
            self.best = dict(point)
            if self.job.touches_test:
                self.best["weights"] = _copy(self.student)

    def _measured(self) -> Outcome:
        """Test what there is to test, and sum up."""
        job, last, best = self.job, self.curve[-1], self.best
        weights = _copy(self.student) if job.role == "teacher" or self.context.keep_weights else None
        tested: dict[str, Any] = {}
        if job.touches_test:
            with self.watch.on("eval"):
                test = self._to_judge(load_test(job.data, self.context.data_root).to(self.context.device))
                tested["test_accuracy"], tested["test_top5"] = accuracies(self.student, test, self.precision)
                if best:
                    self.student.load_state_dict(best["weights"])
                    tested["best_test_accuracy"] = accuracy(self.student, test, self.precision)
        images = (self.until - self.since) * len(self.train_images)
        return Outcome(
            size=job.size,
            train_accuracy=last["train_accuracy"],
            val_accuracy=last.get("val_accuracy"),
            best_epoch=best.get("epoch"),
            best_train_accuracy=best.get("train_accuracy"),
            best_val_accuracy=best.get("val_accuracy"),
            epochs=self.until,
            train_macs=images * _macs_per_image(job, self.info),
            curve=self.curve,
            micro_batch=self.loop.micro_batch,
            warning=_warning(job, self.loop.micro_batch, self.checkpoint.warning),
            weights=weights,
            **tested,
            **booked(self.watch, self.context, self.precision, images),
        )

    def _to_judge(self, images: AnyImages) -> Passes:
        """Passes to evaluate, in batches that shrank with those of training."""
        recipe = self.job.recipe
        at_once = max(1, passing_at_once(self.info, recipe) * self.loop.micro_batch // recipe.batch)
        return batches_of(images, self.info, at_once, augment=False, cpus=self.context.cpus)


def passing_at_once(info: DatasetInfo, recipe: Recipe) -> int:
    """Images in a batch that only passes through: many small ones, of large ones as many as training takes."""
    return EVAL_BATCH if info.image.side <= 32 else recipe.batch


def booked(watch: measure.Stopwatch, context: Context, precision: str, images: int) -> dict[str, Any]:
    """The `Outcome` fields that say what a job cost, for so many images, and on what it ran."""
    seconds = watch.seconds
    trained = seconds["data"] + seconds["train"]
    return {f"seconds_{part}": spent for part, spent in seconds.items()} | {
        "images": images,
        "images_per_second": images / trained if trained else None,
        "device_seconds": watch.total * (context.gpus or context.cpus),
        "carried_seconds": watch.carried * (context.gpus or context.cpus),
        "peak_memory": measure.peak_memory(context.device),
        "device": measure.device_name(context.device),
        "precision": precision,
    }


def _images(job: Train, context: Context) -> tuple[AnyImages, AnyImages | None]:
    """Images to train on and to validate: a candidate's are the halves, others set aside what the recipe says."""
    images = load_train(job.data, context.data_root)
    if job.role == "candidate":
        images, val = halves(images, job.data)
        return images.to(context.device), val.to(context.device)
    images, aside = set_aside(images, job.data, job.recipe.holdout)
    return images.to(context.device), None if aside is None else aside.to(context.device)


def _macs_per_image(job: Train, info: DatasetInfo) -> int:
    """Multiply-accumulates per training image: three forwards, and the teacher's one."""
    backbone = find_backbone(job.backbone_name)
    layers = backbone.layers(info.classes, info.image)
    teacher = MACS.of(layers, backbone.full) if job.transfer.needs_logits else 0
    return 3 * MACS.of(layers, job.size) + teacher


def _warning(job: Train, micro_batch: int, other: str | None) -> str | None:
    if micro_batch == job.recipe.batch:
        return other
    parts = f"batches in parts of up to {micro_batch} images, gradients added up; batch norms see a part"
    told = f"out of memory: {parts}"
    return f"{told}; {other}" if other else told


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _network(job: Train, info: DatasetInfo, device: str) -> Network:
    network = Network(find_backbone(job.backbone_name), job.size, info.classes, info.image)
    return measure.channels_last(network, device)


def _teacher(job: Train, info: DatasetInfo, context: Context) -> Network | None:
    """The network that the job draws on, in eval mode."""
    if job.teacher is None:
        return None
    teacher = _network(job.teacher if isinstance(job.teacher, Train) else job, info, context.device)
    teacher.load_state_dict(read_weights(weights_path(context.results, job_id(job.teacher)), context.device))
    return teacher.eval().requires_grad_(False)
