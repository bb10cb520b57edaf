"""What methods by Optuna share: a study in memory, whose parameters are the indices of a space's candidates."""

from __future__ import annotations

from typing import Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import Trial

from tas_bench.space import IntArray, SizeSpace
from tas_bench.text import quiet_optuna


def quiet_study(sampler: BaseSampler, *directions: Literal["maximize", "minimize"]) -> Study:
    """A study in memory, without Optuna's line about it."""
    with quiet_optuna():
        return optuna.create_study(sampler=sampler, directions=directions)


def grid_of(space: SizeSpace) -> dict[str, BaseDistribution]:
    """Candidate indices of every row."""
    return {f"row{i}": IntDistribution(0, int(n) - 1) for i, n in enumerate(space.counts)}


def params_of(indices: IntArray, space: SizeSpace) -> dict[str, int]:
    """A size's indices as Optuna's parameters."""
    return dict(zip(grid_of(space), indices.tolist(), strict=True))


def indices_of(trial: Trial, space: SizeSpace) -> IntArray:
    """A trial's parameters as a size's indices."""
    return np.array([trial.params[row] for row in grid_of(space)])
