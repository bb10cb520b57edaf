"""The trained unpruned network, pruned by Torch-Pruning down to the budget, then trained on: as one job.

A channel counts as much as its weights' L1 norm (Li et al. 2017, arXiv 1608.08710), in the mean over all layers
that must lose it together and relative to their other channels, which is how Torch-Pruning makes layers comparable
(Fang et al., CVPR 2023, "DepGraph", arXiv 2301.12900). Depths are not pruned.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from tas_bench import measure
from tas_bench.backbones.backbone import Backbone
from tas_bench.errors import InputError
from tas_bench.jobs import Context, Outcome, Problem, job_id, weights_path
from tas_bench.network import Block, ConvNorm, Network
from tas_bench.schema import job_columns
from tas_bench.space import Size
from tas_bench.tables import read_weights
from tas_bench.train import Part, Train, candidate_job, train
from tas_bench.transfer.scratch import Scratch

STEPS = 256
"""Pruning takes 1 / 256 of the channels at a time; a power of two, so that shares of widths are exact."""

SEEN = "its validation accuracy flatters: the teacher was trained on the validation half too"


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """Prune the teacher, then train what is left on the training half; its weights are kept.

    Attributes:
        problem: its recipe is that of the training afterwards.
        scope: "global" ranks the channels of all layers together, "uniform" takes the same share of each layer.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "pruning"
    touches_test: ClassVar[bool] = False

    problem: Problem
    teacher: Train
    scope: str
    seed: int

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        return job_columns(self.problem.data, self.problem.backbone_name, self.seed)

    def expected_macs(self, images: int) -> int:
        """Training macs of the job, given how many training images there are, were the budget one of macs."""
        full = self.problem.macs(self.problem.backbone.full)
        return round(self.problem.recipe.epochs * (images // 2) * 3 * self.problem.keep * full)

    def run(self, context: Context) -> Outcome:
        """Prune, which comes out the same every time, and train; goes on from the last checkpoint of that.

        Raises:
            InputError: no step of the pruning meets the budget.
            DivergedError: a loss became NaN or infinite; the last checkpoint stays.
        """
        watch = measure.Stopwatch()
        with watch.on("startup"):
            weights = read_weights(weights_path(context.results, job_id(self.teacher)), "cpu")
            size, start = pruned(weights, self.problem, self.scope)
        job = replace(candidate_job(self.problem, size, self.seed), transfer=_From(start))
        part = Part(self.problem.recipe.epochs, job_id(self))
        outcome = train(job, replace(context, keep_weights=True), part, watch)
        return replace(outcome, warning=outcome.warning or SEEN)


@dataclass(frozen=True, eq=False)
class _From(Scratch):
    """Start from these weights, then train with cross-entropy."""

    weights: Mapping[str, Tensor]

    def prepare(self, student: Network, teacher: Network | None) -> None:  # noqa: ARG002
        student.load_state_dict(self.weights)


def missing() -> str | None:
    """Why there is nothing to prune with, and what to do; None where there is."""
    if importlib.util.find_spec("torch_pruning") is not None:
        return None
    return "needs torch-pruning: pip install 'tas-bench[pruning]'"


def pruned(weights: Mapping[str, Tensor], problem: Problem, scope: str) -> tuple[Size, dict[str, Tensor]]:
    """Of all steps of the pruning, the one that comes closest to the budget: its size and its weights.

    Args:
        weights: of the unpruned network.

    Raises:
        InputError: no step meets the budget.
    """
    (low, high), best = problem.band, None
    network = Network(problem.backbone, problem.backbone.full, problem.classes, problem.image)
    network.load_state_dict(weights)
    for size in steps(network.eval(), problem, scope):
        cost = problem.cost_of(size)
        away = abs(cost - problem.budget)
        if low <= cost <= high and (best is None or away < best[0]):
            best = away, size, {name: value.clone() for name, value in network.state_dict().items()}
        if cost <= problem.budget:
            break
    if best is None:
        raise InputError(f"no step of {scope} pruning of {problem.backbone_name} meets the budget: widen t")
    return best[1:]


def steps(network: Network, problem: Problem, scope: str) -> Iterator[Size]:
    """Prune a network bit by bit; its size before every step.

    In small steps, ranked anew each time, since Torch-Pruning leaves a layer whole that it would empty.
    """
    import torch_pruning

    pruner = torch_pruning.pruner.BasePruner(
        network, torch.zeros(1, problem.image.channels, problem.image.side, problem.image.side),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=1), global_pruning=scope == "global",
        pruning_ratio=1.0, iterative_steps=STEPS, ignored_layers=[network.classifier],
    )  # fmt: skip
    for _ in range(STEPS):
        yield size_of(network, problem.backbone)
        pruner.step()


def size_of(network: Network, backbone: Backbone) -> Size:
    """The widths that a network has, at full depth."""
    convs = [network.stem]
    for s, stage in enumerate(network.stages):
        for b, block in enumerate(cast("nn.Sequential", stage)):
            steps = zip(cast("Block", block).convs, backbone.steps(s, b), strict=True)
            convs += [cast("ConvNorm", conv) for conv, step in steps if step.row is not None]
    if isinstance(network.head, nn.Sequential):
        convs.append(cast("ConvNorm", network.head[0]))
    return Size(tuple(cast("nn.Conv2d", conv[0]).out_channels for conv in convs), backbone.full.depths)


def uniform_sizes(problem: Problem) -> list[Size]:
    """The size after every step of uniform pruning, whatever the weights."""
    full = problem.backbone.full
    shares = [1 - step / STEPS for step in range(STEPS)]
    return [Size(tuple(max(1, int(n * share)) for n in full.widths), full.depths) for share in shares]
