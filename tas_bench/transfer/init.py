"""Initialise from the pre-trained unpruned network ("w/ Init" in Table 1).

The paper does not say how a width picks its channels. Here every tensor takes the *leading slice* of the
teacher's: output channel i from output channel i, input channel i from input channel i, block b from block b.
Leading slices keep the channels of a stage's residual stream aligned across its blocks. What the teacher has
not (a 1 x 1 convolution that repairs a width mismatch, channels beyond its width) keeps its random start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tas_bench.network import Network


@dataclass(frozen=True)
class Init:
    """Take the teacher's leading channels, then train with cross-entropy."""

    name: ClassVar[str] = "init"
    needs_teacher: ClassVar[bool] = True
    needs_logits: ClassVar[bool] = False

    @torch.no_grad()
    def prepare(self, student: Network, teacher: Network | None) -> None:
        """Copy the leading slice of every tensor both networks have, batch-norm statistics included."""
        assert teacher is not None
        theirs = teacher.state_dict()
        for name, mine in student.state_dict().items():
            if name in theirs:
                overlap = tuple(slice(min(a, b)) for a, b in zip(mine.shape, theirs[name].shape, strict=True))
                mine[overlap].copy_(theirs[name][overlap])

    def loss(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Cross-entropy."""
        return F.cross_entropy(logits, labels)
