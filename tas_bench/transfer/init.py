"""Initialise from the pre-trained unpruned network ("w/ Init" in Table 1).

The paper does not say how a width picks its channels, nor what a 1 x 1 convolution starts from that repairs a
width mismatch, which the unpruned network has not. Both are settings here. Block b comes from block b; channels
beyond the teacher's width keep their random start. Dropped channels are dropped, not merged into others: the
teacher's function is kept where no later layer reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tas_bench.errors import InputError
from tas_bench.network import ConvNorm, Network
from tas_bench.transfer.channels import Match, matches

CHOICES = {"channels": ("leading", "l1"), "residual": ("plain", "identity")}


@dataclass(frozen=True)
class Init:
    """Take some of the teacher's channels, then train with cross-entropy.

    Attributes:
        channels: which of them a width keeps: "leading" the first, which keeps a stage's residual stream aligned;
            "l1" those whose filters have the largest L1 norm (Li et al. 2017, https://arxiv.org/abs/1608.08710),
            in their order.
        residual: "plain": every convolution ranks for itself, and a 1 x 1 convolution where the teacher has an
            identity starts at random; "identity": those whose outputs are added up share one ranking, the sum of
            their norms, and such a 1 x 1 convolution hands on the channels that both its sides keep. It does so
            exactly in eval mode; in training a batch norm behind it normalises all the same.
    """

    name: ClassVar[str] = "init"
    needs_teacher: ClassVar[bool] = True
    needs_logits: ClassVar[bool] = False

    channels: str = "leading"
    residual: str = "plain"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"{self.name}.{name} is '{value}'; it must be {' or '.join(choices)}")

    @classmethod
    def presets(cls) -> dict[str, Init]:
        """Named settings: `--set init=l1-identity`."""
        return {
            "leading": cls(),
            "leading-identity": cls(residual="identity"),
            "l1": cls(channels="l1"),
            "l1-identity": cls(channels="l1", residual="identity"),
        }

    @torch.no_grad()
    def prepare(self, student: Network, teacher: Network | None) -> None:
        """Copy the chosen channels of every layer, batch-norm statistics included. Nothing is drawn."""
        assert teacher is not None
        identity = self.residual == "identity"
        for match in matches(student, teacher, by_norm=self.channels == "l1", shared=identity):
            if match.theirs is not None:
                _copy(match)
            elif identity:
                _hand_on(match)

    def loss(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Cross-entropy."""
        return F.cross_entropy(logits, labels)


def _copy(match: Match) -> None:
    """Every tensor from the teacher's: weights by output and input, all else (norms, bias) by output."""
    assert match.theirs is not None
    theirs = match.theirs.state_dict()
    for name, value in match.mine.state_dict().items():
        taken = theirs[name]
        for dim, kept in enumerate((match.outputs, match.inputs)[: value.dim()]):
            taken = taken.index_select(dim, kept)
        value[tuple(map(slice, taken.shape))].copy_(taken)


def _hand_on(match: Match) -> None:
    """Make the 1 x 1 convolution a selection matrix: 1 where output and input are the same channel, else 0."""
    conv, norm = cast("ConvNorm", match.mine)
    same = match.outputs[:, None] == match.inputs
    weight = cast("Tensor", conv.weight)
    weight.zero_()
    weight[: len(match.outputs), : len(match.inputs), 0, 0] = same.to(weight.dtype)
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_var is not None
        assert norm.running_mean is not None
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)
