"""Init whose residual streams stay the teacher's: `init` with `residual=identity`, under a name of its own.

So that one sweep compares both: what repairs a width mismatch starts at random there, and as a selection here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tas_bench.errors import InputError
from tas_bench.transfer.init import Init


@dataclass(frozen=True)
class InitIdentity(Init):
    """As `Init`, but for `residual`, which has one value here."""

    name: ClassVar[str] = "init-identity"

    residual: str = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.residual != "identity":
            raise InputError(f"{self.name}.residual is '{self.residual}'; it must be identity, or choose init")

    @classmethod
    def presets(cls) -> dict[str, Init]:
        """Named settings: `--set init-identity=l1`."""
        return {"leading": cls(), "l1": cls(channels="l1")}
