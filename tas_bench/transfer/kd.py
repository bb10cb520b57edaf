"""Knowledge distillation (Equations 9 and 10; Hinton et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from tas_bench.errors import InputError
from tas_bench.network import Network


@dataclass(frozen=True)
class KD:
    """Match the teacher's softened predictions.

    The default weighs as reference [46] and the released code do: 0.9 T^2 on the soft loss, 0.1 on the labels.
    Equation 10 to the letter (0.9 on the labels, 0.1 on the soft loss, no T^2) is the preset "paper".
    """

    name: ClassVar[str] = "kd"
    needs_teacher: ClassVar[bool] = True
    needs_logits: ClassVar[bool] = True

    temperature: float = 4.0
    soft_weight: float = 0.9
    t_squared: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.soft_weight <= 1:
            raise InputError(f"kd.soft_weight is {self.soft_weight}; it must be in [0, 1]")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"kd.temperature is {self.temperature}; it must be positive")

    @classmethod
    def presets(cls) -> dict[str, KD]:
        """Named settings: `--set kd=paper`."""
        return {"released": cls(), "paper": cls(soft_weight=0.1, t_squared=False)}

    def prepare(self, student: Network, teacher: Network | None) -> None:
        """Nothing to do: the student starts from random weights (Algorithm 1, line 8)."""

    def loss(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        """Equation 10. The soft loss is Equation 9; a KL divergence differs by the teacher's entropy only."""
        assert teacher_logits is not None
        hard = F.cross_entropy(logits, labels)
        p = F.softmax(teacher_logits / self.temperature, dim=1)
        match = F.cross_entropy(logits / self.temperature, p)  # eq. 9
        scale = self.temperature**2 if self.t_squared else 1.0
        return (1 - self.soft_weight) * hard + self.soft_weight * scale * match  # eq. 10
