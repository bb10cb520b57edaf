"""Sizes of a network, and the space of sizes a search chooses from.

A `Size` names the width of every convolution and the depth of every stage. A `SizeSpace` lists the
candidates of each (paper section 4.1: widths are 30 % ... 100 % of the original, depth is searched
within each stage).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tas_bench.errors import InputError

RATIOS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidate widths as fractions of the original number of channels (paper section 4.1)."""

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """Output channels of every convolution of the full-depth backbone, and blocks kept per stage.

    `widths` runs in forward order, stem first; shortcut convolutions are left out, since they follow
    their block. Entries of dropped blocks are ignored.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]


def read_size(path: Path) -> Size:
    """Read a size file, `{"widths": [...], "depths": [...]}`.

    Raises:
        InputError: the file is missing, no JSON, or not of that form.
    """
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read size file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"size file {path} is not JSON: {error}") from error
    return size_from(found, f"size file {path}")


def size_from(found: object, where: str) -> Size:
    """A size from `{"widths": [...], "depths": [...]}`.

    Raises:
        InputError: it is not of that form; the line begins with `where`.
    """
    form = '{"widths": [...], "depths": [...]}'
    if not isinstance(found, dict) or not {"widths", "depths"} <= found.keys():
        raise InputError(f"{where} must hold {form}")
    parts = []
    for key in ("widths", "depths"):
        entries = found[key]
        if not isinstance(entries, list):
            raise InputError(f"{where}: '{key}' must be a list, as in {form}")
        for i, entry in enumerate(entries):
            if isinstance(entry, bool) or not isinstance(entry, int) or entry < 1:
                raise InputError(f"{where}: {key}[{i}] is {entry!r}, not a positive integer")
        parts.append(tuple(entries))
    return Size(*parts)


@dataclass(frozen=True)
class SizeSpace:
    """The candidates of every width and of every depth, each row ascending.

    A row with a single candidate is not searched: that is how width-only and depth-only searches are made.
    """

    widths: tuple[tuple[int, ...], ...]
    depths: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """All rows: the widths', then the depths'."""
        return self.widths + self.depths

    @cached_property
    def counts(self) -> IntArray:
        """Number of candidates of every row."""
        return np.array([len(row) for row in self.rows])

    @cached_property
    def padded(self) -> IntArray:
        """Candidates as a (rows, most candidates) table; short rows repeat their last candidate."""
        most = int(self.counts.max())
        return np.array([row + row[-1:] * (most - len(row)) for row in self.rows])

    @property
    def cardinality(self) -> int:
        """The number of sizes in the space (8^31 x 3^3 for ResNet-32: too many for `len`)."""
        return math.prod(len(row) for row in self.rows)

    def __contains__(self, size: Size) -> bool:
        if (len(size.widths), len(size.depths)) != (len(self.widths), len(self.depths)):
            return False
        return all(v in row for v, row in zip(size.widths + size.depths, self.rows, strict=True))

    @property
    def full(self) -> Size:
        """The largest size: the unpruned network when the space is a backbone's own."""
        return self.size([len(row) - 1 for row in self.rows])

    def size(self, indices: Sequence[int] | IntArray) -> Size:
        """Decode one candidate index per row."""
        values = tuple(row[i] for row, i in zip(self.rows, indices, strict=True))
        return Size(values[: len(self.widths)], values[len(self.widths) :])

    def indices(self, size: Size) -> IntArray:
        """Encode a size of the space as one candidate index per row."""
        return np.array([row.index(v) for row, v in zip(self.rows, size.widths + size.depths, strict=True)])

    def values(self, indices: IntArray) -> tuple[IntArray, IntArray]:
        """Decode many: indices (N, rows) to widths (N, convolutions) and depths (N, stages)."""
        chosen = self.padded[np.arange(len(self.rows)), indices]
        return chosen[:, : len(self.widths)], chosen[:, len(self.widths) :]

    def sample_indices(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw n sizes uniformly, as indices (n, rows)."""
        return rng.integers(0, self.counts, size=(n, len(self.rows)))

    def sample(self, rng: np.random.Generator) -> Size:
        """Draw one size uniformly."""
        return self.size(self.sample_indices(rng, 1)[0])

    def enumerate(self) -> Iterator[Size]:
        """Every size of the space."""
        for indices in itertools.product(*(range(len(row)) for row in self.rows)):
            yield self.size(indices)
