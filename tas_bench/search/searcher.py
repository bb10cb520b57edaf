"""The state of one search and its two alternating updates (Algorithm 1, lines 2 to 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tas_bench import measure
from tas_bench.backbones.backbone import Backbone, ImageShape
from tas_bench.bound import most_probable_and_gap
from tas_bench.budget import Band
from tas_bench.costs.macs_search import MACS_SEARCH
from tas_bench.data import Passes, batches_of, dataset_info, halves, load_train
from tas_bench.expected import ExpectedCost, cost_loss
from tas_bench.jobs import Context, Problem
from tas_bench.loop import cosine_lr, set_lr, sgd
from tas_bench.search.settings import SearchSettings, scaled_arch_lr, settled_lr, settles, tau_at
from tas_bench.space import Size
from tas_bench.supernet import Architecture, Supernet, discrepancies, entropies

PASSES = {True: 3, False: 2}
"""Forward passes that an update comes to: the architecture's takes no gradients of weights."""

DRAWN = 64
"""Convolutions, about, that are drawn to tell a search's macs beforehand: of small networks in several draws."""


class Searcher:
    """Supernet, architecture, their optimisers, and the two halves of the data."""

    def __init__(self, problem: Problem, settings: SearchSettings, seed: int, context: Context) -> None:
        self.problem, self.settings, self.device = problem, settings, context.device
        info, backbone, device = dataset_info(problem.data.name), problem.backbone, context.device
        self.precision = measure.precision(device, info.image)
        self.space = backbone.space(settings.search)
        supernet = Supernet(backbone, self.space, info.classes, info.image, settings.alignment)
        self.supernet = measure.channels_last(supernet, device)
        self.architecture = Architecture(self.space).to(device)
        self.generator = torch.Generator(device).manual_seed(seed)
        train_half, val_half = (
            h.to(device) for h in halves(load_train(problem.data, context.data_root), problem.data)
        )
        batch = problem.recipe.batch
        self.train_batches, self.val_batches = (
            batches_of(half, info, batch, augment=True, generator=self.generator, cpus=context.cpus)
            for half in (train_half, val_half)
        )

        self.arch_lr = scaled_arch_lr(settings, settings.search_epochs * len(self.train_batches))
        self.weight_optimizer = sgd(self.supernet.parameters(), problem.recipe)
        self.arch_optimizer = torch.optim.Adam(
            self.architecture.parameters(), lr=self.arch_lr,
            betas=(settings.arch_beta1, 0.999), weight_decay=settings.arch_weight_decay,
        )  # fmt: skip
        cost = problem.counted if settings.rule == "deployed" else MACS_SEARCH
        self.expected = ExpectedCost(problem.layers, self.space, cost, settings.exact_expectation).to(device)
        self.actual = ExpectedCost(problem.layers, self.space, cost).to(device)
        self.low, self.high = problem.band
        if settings.zone == "released":
            unpruned = cost.of(problem.layers, backbone.full)
            self.low, self.high = problem.budget - problem.t * unpruned, problem.budget
        self.images = self.macs = 0

    @property
    def parts(self) -> dict[str, Any]:
        """What has a state, for checkpoints."""
        return {
            "supernet": self.supernet, "architecture": self.architecture,
            "weight_optimizer": self.weight_optimizer, "arch_optimizer": self.arch_optimizer,
        }  # fmt: skip

    # ---- one epoch

    def epoch(self, epoch: int, watch: measure.Stopwatch) -> dict[str, float]:
        """One epoch of alternating updates.

        Raises:
            DivergedError: a loss or a weight became NaN or infinite.
        """
        set_lr(self.weight_optimizer, cosine_lr(self.problem.recipe, epoch))
        tau = tau_at(self.settings, self._progress(epoch))
        train_meter, val_meter = measure.Meter(), measure.Meter()
        guard = measure.LossGuard(epoch)
        pairs = zip(self.train_batches, _endless(self.val_batches), strict=False)
        left = (self.settings.search_epochs - epoch) * len(self.train_batches)
        for (x, y), (x_val, y_val) in watch.each("data", pairs):
            left -= 1
            loss, logits = self._update_weights(x, y, tau)
            if settles(self.settings, left):
                self._settle()
            val_loss, val_logits = self._update_architecture(x_val, y_val, tau)
            guard.see(loss + val_loss)
            train_meter.add(loss, logits, y)
            val_meter.add(val_loss, val_logits, y_val)
        guard.check(self.supernet)
        return {
            "train_loss": train_meter.loss, "train_accuracy": train_meter.accuracy,
            "val_loss": val_meter.loss, "val_accuracy": val_meter.accuracy,
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
        loss = task_loss + self.settings.lambda_cost * cost_loss(
            expected / 1e6, self._argmax_cost(), self.low, self.high
        )
        self.arch_optimizer.zero_grad()
        loss.backward(inputs=list(self.architecture.parameters()))
        self.arch_optimizer.step()
        return task_loss, logits

    def _forward(self, x: Tensor, tau: float, weights_only: bool = False) -> Tensor:
        """Logits (B, classes); every part of the batch with a draw of its own."""
        logits = []
        for part in x.tensor_split(min(self.settings.draws, max(1, len(x) // 2))):
            with torch.set_grad_enabled(not weights_only):
                sample = self.architecture.sample(self.settings, tau, self.generator)
            with measure.autocast(self.device, self.precision):
                logits.append(self.supernet(part, sample).float())
            self.macs += PASSES[weights_only] * len(part) * self.supernet.macs
        self.images += len(x)
        return torch.cat(logits)

    def _progress(self, epoch: int) -> float:
        return epoch / max(1, self.settings.search_epochs - 1)

    def _settle(self) -> None:
        """Set Adam's rate by whether the argmax meets the budget; where scaled, aim at the middle of the band."""
        [group] = self.arch_optimizer.param_groups
        if self.arch_lr > self.settings.arch_lr and self.settings.zone == "paper":
            t, budget = self.problem.t / 2, self.problem.budget
            self.low, self.high = (1 - t) * budget, (1 + t) * budget
        group["lr"] = settled_lr(self.settings, group["lr"], self.arch_lr, self.problem.meets(self._argmax()))

    def _argmax(self) -> Size:
        """The size of highest probability (line 7)."""
        return self.space.size(self.architecture.log_p().argmax(dim=1).cpu().numpy())

    def _argmax_cost(self) -> Tensor:
        """F_cost: the cost of the size of highest probability; no value leaves the device."""
        argmax = self.architecture.log_p().argmax(dim=1)
        return self.actual(F.one_hot(argmax, self.space.padded.shape[1]))

    # ---- what became of it

    @torch.no_grad()
    def trajectory(self, epoch: int) -> dict[str, Any]:
        """Where the architecture stands after an epoch: the measures of Figure 3."""
        p, size = self.architecture.log_p().exp(), self._argmax()
        gaps, searched = discrepancies(p), torch.from_numpy(self.space.counts > 1)
        return {
            "tau": tau_at(self.settings, self._progress(epoch)),
            "arch_lr": self.arch_optimizer.param_groups[0]["lr"],
            "f_cost": float(self._argmax_cost()), "e_cost": float(self.expected(p)),
            "discrepancy": float(gaps.cpu()[searched].mean()),
            "entropies": entropies(p).tolist(), "discrepancies": gaps.tolist(),
            "widths": list(size.widths), "depths": list(size.depths),
        }  # fmt: skip

    def derive(self) -> dict[str, Any]:
        """The argmax size, or where it misses the band the most probable size inside.

        Returns:
            The `Outcome` fields size, derived ("argmax" or "in-band"), argmax_macs and derivation_gap.
        """
        problem, argmax = self.problem, self._argmax()
        told = {"size": argmax, "derived": "argmax", "argmax_macs": problem.macs(argmax), "derivation_gap": 0.0}
        if self.problem.meets(argmax):
            return told
        log_p = self.architecture.log_p().detach().cpu().double().numpy()
        indices, gap = most_probable_and_gap(log_p, Band.of(problem, self.space))
        return told | {"size": self.space.size(indices), "derived": "in-band", "derivation_gap": gap}


def _endless(batches: Passes) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches


def expected_macs(problem: Problem, settings: SearchSettings, images: int) -> int:
    """What `Searcher.macs` comes to, from so many training images: see `TasSearch.expected_macs`."""
    train, batch = images // 2, problem.recipe.batch
    val = min(images - train, -(-train // batch) * batch)  # of the other half, as many batches
    drawn, draws = _drawn_macs(problem.backbone, problem.classes, problem.image, settings)
    return settings.search_epochs * (PASSES[True] * train + PASSES[False] * val) * drawn // draws


@lru_cache(maxsize=256)
def _drawn_macs(backbone: Backbone, classes: int, image: ImageShape, settings: SearchSettings) -> tuple[int, int]:
    """Macs per image of some draws, added up, and how many draws; from shapes alone."""
    space, total, draws = backbone.space(settings.search), 0, max(1, DRAWN // len(backbone.convs))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        architecture = Architecture(space)
        with torch.device("meta"):
            x = torch.empty(2, image.channels, image.side, image.side).to(memory_format=torch.channels_last)
            supernet = Supernet(backbone, space, classes, image, settings.alignment)
        supernet = measure.channels_last(supernet, "meta")
        for _ in range(draws):
            sample = architecture.sample(settings, settings.tau_start)
            weights, depth_weights = sample.weights.to("meta"), sample.depth_weights.to("meta")
            supernet(x, replace(sample, weights=weights, depth_weights=depth_weights))
            total += supernet.macs
    return total, draws
