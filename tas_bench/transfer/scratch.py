"""No transfer: random initialisation, cross-entropy."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from tas_bench.network import Network


@dataclass(frozen=True)
class Scratch:
    """Train from random weights."""

    name: ClassVar[str] = "scratch"
    needs_teacher: ClassVar[bool] = False
    needs_logits: ClassVar[bool] = False

    def prepare(self, student: Network, teacher: Network | None) -> None:
        """Nothing to do."""

    def loss(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Cross-entropy."""
        return F.cross_entropy(logits, labels)
