"""TAS, the differentiable search (Algorithm 1), and the method built on it.

Weights and architecture parameters are updated in turn: the weights by cross-entropy on one half of the
training set, the architecture parameters by Equation 7 on the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tas_bench import measure
from tas_bench.budget import Band, most_probable
from tas_bench.costs import all_costs
from tas_bench.data import Batches, dataset_info, halves, load_train
from tas_bench.errors import DivergedError, InputError, PlanFailedError
from tas_bench.expected import ExpectedCost, cost_loss
from tas_bench.jobs import Context, Outcome, Plan, Problem
from tas_bench.space import Size, SizeSpace
from tas_bench.supernet import Architecture, Supernet
from tas_bench.train import booked, cosine_lr, set_lr, sgd

PAPER_STEPS = 600 * 98
"""Architecture updates of the paper's CIFAR search: 600 epochs of 25,000 images in batches of 256."""

MAX_ARCH_LR = 0.15
"""Above this a search on digits jumped about instead of settling."""

UNDECIDED = 0.05
"""Mean discrepancy below which the argmax is little more than a random size."""


@dataclass(frozen=True, kw_only=True)
class Tas:
    """The TAS method. Defaults are the paper's section 4.1; `presets()["released"]` is the released code's.

    Weights use the sweep's recipe (SGD, cosine from 0.1) for `search_epochs`.

    Attributes:
        search: "W" searches width, "D" depth, "WD" both.
        samples: |I| of Equation 4.
        lambda_cost: weight of the cost loss in Equation 7.
        tau_start, tau_end, tau_shape: temperature of Equation 3, "linear" or "cosine" over epochs.
        arch_lr: Adam's rate at the paper's 58,800 updates. A shorter search scales it up so that rate x updates
            stays the same, to `MAX_ARCH_LR` at most, since otherwise it decides nothing.
        zone: where the cost loss is zero: "paper" between (1 - t) R and (1 + t) R, as Equation 8 says;
            "released" between R - t x (unpruned cost) and R, half of it outside the band at 40 % pruned.
        cost: what F_cost and E_cost count; "macs_search" is the released code's rule.
        exact_expectation: E_cost over all candidate networks; the released code leaves out the shortcuts that
            a width mismatch needs.
    """

    name: ClassVar[str] = "tas"
    label: ClassVar[str] = "TAS"

    search: str = "WD"
    samples: int = 2
    lambda_cost: float = 2.0
    search_epochs: int = 600
    tau_start: float = 10.0
    tau_end: float = 0.1
    tau_shape: str = "linear"
    arch_lr: float = 1e-3
    arch_weight_decay: float = 1e-3
    arch_beta1: float = 0.9
    zone: str = "paper"
    cost: str = "macs"
    exact_expectation: bool = True

    def __post_init__(self) -> None:
        if self.search not in ("W", "D", "WD"):
            raise InputError(f"tas.search is '{self.search}'; it must be W (width), D (depth) or WD (both)")
        if self.samples < 1:
            raise InputError(f"tas.samples (|I|) is {self.samples}; it must be at least 1")
        if not 0 <= self.lambda_cost < math.inf:
            raise InputError(f"tas.lambda_cost is {self.lambda_cost}; it must not be negative")
        if self.search_epochs < 1:
            raise InputError(f"tas.search_epochs is {self.search_epochs}; it must be at least 1")
        if not (0 < self.tau_end < math.inf and 0 < self.tau_start < math.inf):
            raise InputError("tas.tau_start and tas.tau_end must be positive")
        if self.tau_shape not in ("linear", "cosine"):
            raise InputError(f"tas.tau_shape is '{self.tau_shape}'; it must be linear or cosine")
        if not (
            0 < self.arch_lr < math.inf and 0 <= self.arch_weight_decay < math.inf and 0 <= self.arch_beta1 < 1
        ):
            raise InputError("tas.arch_lr must be positive, arch_weight_decay not negative, arch_beta1 in [0, 1)")
        if self.zone not in ("paper", "released"):
            raise InputError(f"tas.zone is '{self.zone}'; it must be paper or released")
        if self.cost not in ("macs", "macs_search"):
            raise InputError(f"tas.cost is '{self.cost}'; it must be macs or macs_search")

    @classmethod
    def presets(cls) -> dict[str, Tas]:
        """Named settings: `--set tas=released`."""
        released = cls(
            tau_start=5.0, tau_shape="cosine", arch_beta1=0.5,
            zone="released", cost="macs_search", exact_expectation=False,
        )  # fmt: skip
        return {"paper": cls(), "released": released}

    @property
    def jobs(self) -> int:
        """One search."""
        return 1

    @property
    def warning(self) -> str | None:
        """What a user should know before the search starts."""
        if self.samples == 1 and "W" in self.search:
            return "with |I| = 1 alpha gets no gradient from the task (the paper's own finding)"
        return None

    def plan(self, problem: Problem, seed: int) -> Plan:
        """One supernet search."""
        space = problem.backbone.space(self.search)
        most = max(len(row) for row in space.widths) if "W" in self.search else self.samples
        if self.samples > most:
            raise InputError(f"tas.samples (|I|) is {self.samples}; {problem.backbone_name} has {most} candidates")
        if self.cost == "macs_search" and problem.cost != "macs":
            raise InputError(f"tas.cost is macs_search, but the budget is in {problem.counted.noun}: set macs")
        Band.of(problem, space).check()
        recipe = replace(problem.recipe, epochs=self.search_epochs)
        job = TasSearch(problem=replace(problem, recipe=recipe), settings=self, seed=seed)
        [outcome] = yield [job]
        if outcome.size is None:
            raise PlanFailedError(f"the search ended as {outcome.status}: {outcome.error}")
        return outcome.size


@dataclass(frozen=True, kw_only=True)
class TasSearch:
    """One search. `problem.recipe` is that of the supernet's weights."""

    version: ClassVar[int] = 1

    problem: Problem
    settings: Tas
    seed: int

    @property
    def kind(self) -> str:
        """A search."""
        return "search"

    @property
    def touches_test(self) -> bool:
        """It sees the training set's two halves only."""
        return False

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        return {
            "dataset": self.problem.data.name,
            "train_subset": self.problem.data.train_subset,
            "split": "search",
            "backbone": self.problem.backbone_name,
            "seed": self.seed,
            "budget": self.problem.budget,
        }

    def run(self, context: Context) -> Outcome:
        """Search."""
        return search(self, context)


def search(job: TasSearch, context: Context) -> Outcome:
    """Algorithm 1, lines 1 to 7.

    Raises:
        DivergedError: a loss became NaN or infinite.
    """
    watch = measure.Stopwatch()
    with watch.on("startup"), torch.random.fork_rng():
        torch.manual_seed(job.seed)
        searcher = _Searcher(job, context)
    settings, curve = job.settings, []
    for epoch in range(settings.search_epochs):
        with watch.on("train"):
            curve.append({"epoch": epoch + 1} | searcher.epoch(epoch))
        context.tick(epoch + 1, settings.search_epochs)
    with watch.on("eval"):
        size, derived, argmax_macs = searcher.derive()
    return Outcome(
        size=size,
        derived=derived,
        argmax_macs=argmax_macs,
        discrepancy=curve[-1]["discrepancy"],
        arch_lr=searcher.arch_lr,
        warning=_warning(settings, curve[-1]["discrepancy"]),
        train_accuracy=curve[-1]["train_accuracy"],
        val_accuracy=curve[-1]["val_accuracy"],
        epochs=settings.search_epochs,
        images=searcher.images,
        train_macs=searcher.macs,
        curve=curve,
        **booked(watch, context, searcher.precision),
    )


def tau_at(settings: Tas, progress: float) -> float:
    """Temperature at `progress` in [0, 1] of the search."""
    share = progress if settings.tau_shape == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return settings.tau_start + (settings.tau_end - settings.tau_start) * share


def scaled_arch_lr(settings: Tas, steps: int) -> float:
    """Adam's rate for a search of `steps` updates: rate x steps stays the paper's, within `MAX_ARCH_LR`."""
    return max(settings.arch_lr, min(settings.arch_lr * PAPER_STEPS / steps, MAX_ARCH_LR))


def discrepancy(p: Tensor, space: SizeSpace) -> float:
    """Mean gap between the two most probable candidates of every searched row (Figure 3, b and d)."""
    searched = torch.from_numpy(space.counts > 1).to(p.device)
    top = p[searched].topk(2, dim=1).values
    return float((top[:, 0] - top[:, 1]).mean())


def _warning(settings: Tas, gap: float) -> str | None:
    if settings.warning:
        return settings.warning
    if gap < UNDECIDED:
        return f"the search decided little (mean discrepancy {gap:.3f}): its size is near a random one"
    return None


class _Searcher:
    """The state of one search: supernet, architecture, their optimisers, the two halves of the data."""

    def __init__(self, job: TasSearch, context: Context) -> None:
        problem, settings = job.problem, job.settings
        info, backbone, device = dataset_info(problem.data.name), problem.backbone, context.device
        self.job, self.device = job, device
        self.precision = measure.precision(device, info.image)
        self.space = backbone.space(settings.search)
        self.supernet = Supernet(backbone, self.space, info.classes, info.image)
        self.supernet.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.architecture = Architecture(self.space).to(device)
        self.generator = torch.Generator(device).manual_seed(job.seed)
        train_half, val_half = (
            h.to(device) for h in halves(load_train(problem.data, context.data_root), problem.data)
        )
        batch = problem.recipe.batch
        self.train_batches = Batches(train_half, info, batch, augment=True, generator=self.generator)
        self.val_batches = Batches(val_half, info, batch, augment=True, generator=self.generator)

        self.arch_lr = scaled_arch_lr(settings, settings.search_epochs * len(self.train_batches))
        self.weight_optimizer = sgd(self.supernet.parameters(), problem.recipe)
        self.arch_optimizer = torch.optim.Adam(
            self.architecture.parameters(), lr=self.arch_lr,
            betas=(settings.arch_beta1, 0.999), weight_decay=settings.arch_weight_decay,
        )  # fmt: skip
        self.cost = problem.counted if settings.cost == "macs" else all_costs()[settings.cost]
        self.expected = ExpectedCost(problem.layers, self.space, self.cost, settings.exact_expectation).to(device)
        self.low, self.high = problem.band
        if settings.zone == "released":
            unpruned = self.cost.of(problem.layers, backbone.full)
            self.low, self.high = problem.budget - problem.t * unpruned, problem.budget
        self.images = self.macs = 0

    def epoch(self, epoch: int) -> dict[str, float]:
        """One epoch of alternating updates (Algorithm 1, lines 2 to 5)."""
        settings, recipe = self.job.settings, self.job.problem.recipe
        set_lr(self.weight_optimizer, cosine_lr(recipe, epoch))
        tau = tau_at(settings, epoch / max(1, settings.search_epochs - 1))
        train_meter, val_meter = measure.Meter(), measure.Meter()
        for (x, y), (x_val, y_val) in zip(self.train_batches, _endless(self.val_batches), strict=False):
            train_meter.add(*self._update_weights(x, y, tau), y)
            val_meter.add(*self._update_architecture(x_val, y_val, tau), y_val)
            if not math.isfinite(train_meter.loss + val_meter.loss):
                raise DivergedError(f"the search's loss became NaN or infinite in epoch {epoch + 1}")
        with torch.no_grad():
            p = self.architecture.log_p().exp()
            return {
                "tau": tau,
                "train_loss": train_meter.loss, "train_accuracy": train_meter.accuracy,
                "val_loss": val_meter.loss, "val_accuracy": val_meter.accuracy,
                "f_cost": self._argmax_cost(), "e_cost": float(self.expected(p)),
                "discrepancy": discrepancy(p, self.space),
            }  # fmt: skip

    def _update_weights(self, x: Tensor, y: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Lines 2 and 3: L_train on a batch of D_train updates the weights."""
        logits = self._forward(x, tau, weights_only=True)
        loss = F.cross_entropy(logits, y)
        self.weight_optimizer.zero_grad()
        loss.backward()
        self.weight_optimizer.step()
        return loss, logits

    def _update_architecture(self, x: Tensor, y: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Lines 4 and 5: L_val (Equation 7) on a batch of D_val updates A."""
        logits = self._forward(x, tau)
        task_loss = F.cross_entropy(logits, y)
        expected = self.expected(self.architecture.log_p().exp())
        loss = task_loss + self.job.settings.lambda_cost * cost_loss(
            expected / 1e6, self._argmax_cost(), self.low, self.high
        )
        self.arch_optimizer.zero_grad()
        loss.backward(inputs=list(self.architecture.parameters()))
        self.arch_optimizer.step()
        return task_loss, logits

    def _forward(self, x: Tensor, tau: float, weights_only: bool = False) -> Tensor:
        with torch.set_grad_enabled(not weights_only):
            sample = self.architecture.sample(tau, self.job.settings.samples, self.generator)
        with measure.autocast(self.device, self.precision):
            logits: Tensor = self.supernet(x, sample).float()
        self.images += len(x)
        passes = 3 if weights_only else 2  # the architecture's update takes no gradients of weights
        self.macs += passes * len(x) * self.supernet.macs
        return logits

    def _argmax_indices(self) -> Tensor:
        return self.architecture.log_p().argmax(dim=1).cpu()

    def _argmax_cost(self) -> int:
        """F_cost: the cost of the size of highest probability."""
        return self.cost.of(self.job.problem.layers, self.space.size(self._argmax_indices().numpy()))

    def derive(self) -> tuple[Size, str, int]:
        """The argmax size (line 7), or where it misses the band the most probable size inside.

        Returns:
            The size, "argmax" or "in-band", and the argmax's deployed macs.
        """
        problem = self.job.problem
        argmax = self.space.size(self._argmax_indices().numpy())
        low, high = problem.band
        if low <= problem.cost_of(argmax) <= high:
            return argmax, "argmax", problem.macs(argmax)
        log_p = self.architecture.log_p().detach().cpu().double().numpy()
        indices = most_probable(log_p, Band.of(problem, self.space))
        return self.space.size(indices), "in-band", problem.macs(argmax)


def _endless(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches
