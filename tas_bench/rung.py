"""A rung of successive halving: a candidate's training, up to an epoch of its full schedule.

The rungs of one candidate share a checkpoint, so that each goes on where the one before it ended and books what it
added alone. Where the checkpoint is lost it trains from the start, to bitwise the same outcome, and books all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tas_bench.jobs import Context, Outcome, job_id
from tas_bench.space import Size
from tas_bench.train import Part, Train, train
from tas_bench.transfer import Transfer


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Train a candidate until a rung's end, and judge it there.

    Attributes:
        whole: the training that the last rung completes.
        ends: epochs after which the rungs end; the last are those of `whole`.
        number: which rung this is, from 0.
    """

    version: ClassVar[int] = 1

    whole: Train
    ends: tuple[int, ...]
    number: int

    @property
    def kind(self) -> str:
        """A candidate's."""
        return self.whole.kind

    @property
    def touches_test(self) -> bool:
        """As the whole training, which judges a candidate on the validation half."""
        return self.whole.touches_test

    @property
    def seed(self) -> int:
        """The training's."""
        return self.whole.seed

    @property
    def size(self) -> Size:
        """The candidate."""
        return self.whole.size

    @property
    def transfer(self) -> Transfer:
        """The training's."""
        return self.whole.transfer

    @property
    def until(self) -> int:
        """The epoch after which it ends."""
        return self.ends[self.number]

    @property
    def begun(self) -> int:
        """The epoch after which the rung before it ended."""
        return self.ends[self.number - 1] if self.number else 0

    @property
    def checkpoint(self) -> str:
        """The last rung's key, at whose end the checkpoint is dropped as any job's is."""
        return job_id(replace(self, number=len(self.ends) - 1))

    def describe(self) -> dict[str, Any]:
        """Columns known before the job runs."""
        return self.whole.describe()

    def expected_macs(self, images: int) -> int:
        """Training macs of the epochs it adds where the training part has so many images."""
        return self.whole.expected_macs(images) * (self.until - self.begun) // self.whole.recipe.epochs

    def run(self, context: Context) -> Outcome:
        """Train on from the rung before."""
        return train(self.whole, context, Part(self.until, self.checkpoint))
