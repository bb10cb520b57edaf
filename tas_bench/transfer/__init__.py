"""Ways to transfer knowledge from the unpruned network, one per file. A new file is found by itself."""

from __future__ import annotations

from typing import ClassVar, Protocol, cast

from torch import Tensor

from tas_bench.discover import classes
from tas_bench.network import Network


class Transfer(Protocol):
    """A frozen dataclass whose fields are its settings.

    Attributes:
        name: its name in rows and on the command line.
        needs_teacher: whether the trained unpruned network must be at hand.
        needs_logits: whether the loss wants the teacher's logits of every batch.
    """

    name: ClassVar[str]
    needs_teacher: ClassVar[bool]
    needs_logits: ClassVar[bool]

    def prepare(self, student: Network, teacher: Network | None) -> None:
        """Change the freshly initialised student before its first step."""
        ...

    def loss(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        """The loss (scalar) of student logits (B, K), teacher logits (B, K) and labels (B,)."""
        ...


def all_transfers() -> dict[str, type[Transfer]]:
    """Every transfer mode of this package, by name."""
    return cast("dict[str, type[Transfer]]", classes(__name__, has="prepare"))
