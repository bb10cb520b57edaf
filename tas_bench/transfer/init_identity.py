"""Init whose residual streams stay the teacher's: `init` with `residual=identity`, under a name of its own.

So that one sweep compares both: what repairs a width mismatch starts at random there, and as a selection here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tas_bench.transfer.init import Init


@dataclass(frozen=True)
class InitIdentity(Init):
    """As `Init`, with another default."""

    name: ClassVar[str] = "init-identity"

    residual: str = "identity"

    @classmethod
    def presets(cls) -> dict[str, Init]:
        """Named settings: `--set init-identity=l1`."""
        return {"leading": cls(), "l1": cls(channels="l1")}
