"""What every training shares: optimiser, learning rate, one pass over the images, and accuracies."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tas_bench import measure
from tas_bench.data import Passes
from tas_bench.jobs import Recipe
from tas_bench.network import Network
from tas_bench.transfer import Transfer

TOP5_FROM = 10
"""Top-5 accuracy is told where there are more classes than this."""


class Loop:
    """A student on its way, with its teacher and optimiser.

    Args:
        teacher: whose logits the loss wants, with norms folded; None if it wants none.
        micro_batch: images whose gradients are taken at once. Those of a batch's parts add up to the batch's
            gradient, but a batch norm sees a part at a time; its running statistics move as far per step as
            before.
        compiled: whether whole batches go through `torch.compile`.
    """

    def __init__(
        self,
        recipe: Recipe,
        transfer: Transfer,
        student: Network,
        teacher: Network | None,
        precision: str,
        micro_batch: int,
        compiled: bool = False,
    ) -> None:
        self.recipe, self.transfer, self.student, self.teacher = recipe, transfer, student, teacher
        self.precision, self.micro_batch = precision, micro_batch
        self.optimizer = sgd(student.parameters(), recipe)
        self._compiled: nn.Module | None = None
        if compiled:
            torch.compiler.reset()  # of an earlier job's networks in this worker
            self._compiled = torch.compile(student, dynamic=False)  # type: ignore[assignment]  # a module, says its documentation
        self._norms = [(m, m.momentum or 0.0) for m in student.modules() if isinstance(m, nn.BatchNorm2d)]

    def epoch(self, epoch: int, batches: Passes, watch: measure.Stopwatch) -> dict[str, float]:
        """One pass over the training images.

        Raises:
            DivergedError: a loss or a weight became NaN or infinite.
        """
        self.student.train()
        lr = cosine_lr(self.recipe, epoch)
        set_lr(self.optimizer, lr)
        meter, guard = measure.Meter(), measure.LossGuard(epoch)
        for x, y in watch.each("data", batches):
            self.optimizer.zero_grad()
            guard.see(self._backward(x, y, meter))
            self.optimizer.step()
        guard.check(self.student)
        return {"lr": lr, "train_loss": meter.loss, "train_accuracy": meter.accuracy}

    def _backward(self, x: Tensor, y: Tensor, meter: measure.Meter) -> Tensor:
        """Add up the gradients of a batch's parts; the batch's loss."""
        parts, total = -(-len(y) // self.micro_batch), torch.zeros((), device=x.device)
        for norm, momentum in self._norms:
            norm.momentum = momentum if parts == 1 else 1 - (1 - momentum) ** (1 / parts)
        for part_x, part_y in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            logits = run_through(self._forward(part_x), part_x, self.precision)
            mean = self.transfer.loss(logits, self._teacher_logits(part_x), part_y)
            loss = mean * (len(part_y) / len(y))
            loss.backward()
            meter.add(mean, logits, part_y)
            total += loss.detach()
        return total

    def _forward(self, x: Tensor) -> nn.Module:
        """An epoch's last batch may be smaller: it is not compiled for."""
        return self._compiled if self._compiled is not None and len(x) == self.micro_batch else self.student

    @torch.no_grad()
    def _teacher_logits(self, x: Tensor) -> Tensor | None:
        if self.teacher is None:
            return None
        return run_through(self.teacher, x, self.precision)


def cosine_lr(recipe: Recipe, epoch: int) -> float:
    """Learning rate of an epoch, from `lr` down to (almost) zero."""
    return recipe.lr * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2


def sgd(parameters: Iterable[Tensor], recipe: Recipe) -> torch.optim.SGD:
    """The optimiser of every network's weights."""
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
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
