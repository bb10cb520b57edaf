"""Optuna: who is asked for settings, and the study that stays in a journal for `optuna-dashboard`.

What is asked for depends on the sampler, its seed and what the rows say, never on the journal: that is made of the
rows, and made again where it says otherwise.
"""

from __future__ import annotations

import itertools
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from tas_bench.text import quiet_optuna
from tas_bench.tune.space import KINDS, Axis, Params
from tas_bench.tune.trials import OBJECTIVES, Trial

if TYPE_CHECKING:
    from tas_bench.tune.trials import Direction
    from tas_bench.tune.tuning import Tuner, Tuning

log = logging.getLogger("tas_bench")


def sampler_of(tuning: Tuning, seed: int) -> tuple[BaseSampler, dict[str, Any]]:
    """The sampler, every choice explicit since Optuna's defaults change, and what it was made with."""
    kinds: dict[str, tuple[Callable[..., BaseSampler], dict[str, Any]]] = {
        "grid": (RandomSampler, {}),  # which is not asked: every point is enqueued
        "random": (RandomSampler, {}),
        "tpe": (TPESampler, {"n_startup_trials": tuning.startup, "multivariate": True, "constant_liar": True}),
        "motpe": (TPESampler, {"n_startup_trials": tuning.startup, "multivariate": False, "constant_liar": True}),
        "nsga2": (NSGAIISampler, {"population_size": max(2, tuning.startup), "crossover_prob": 0.9}),
    }
    kind, made_with = kinds[tuning.sampler]
    told = {"name": tuning.sampler, "seed": seed, "optuna": optuna.__version__}
    sampler = kind(**made_with, seed=seed)
    return sampler, told | made_with | {"class": type(sampler).__name__}


def distribution_of(axis: Axis) -> BaseDistribution:
    """An axis as Optuna has it."""
    if axis.choices:
        return CategoricalDistribution(axis.choices)
    if KINDS[axis.name] is int:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


class Asker:
    """Asks the sampler, in a study in memory."""

    def __init__(self, tuning: Tuning, seed: int) -> None:
        self.tuning = tuning
        self.sampler, self.told = sampler_of(tuning, seed)
        self.distributions = {axis.name: distribution_of(axis) for axis in tuning.axes}
        with quiet_optuna():
            self.study = optuna.create_study(sampler=self.sampler, directions=directions(tuning))
        if tuning.sampler == "grid":
            for values in itertools.product(*(axis.choices for axis in tuning.axes)):
                self.study.enqueue_trial(dict(zip(self.distributions, values, strict=True)))
        self._running: list[optuna.trial.Trial] = []

    def ask(self, missing: int) -> list[Params]:
        """Settings to try next: as many as can be asked for before any of them has been tried."""
        most = missing if self.tuning.sampler in ("grid", "random") else min(missing, self.tuning.parallel)
        self._running = [self.study.ask(self.distributions) for _ in range(most)]
        return [trial.params for trial in self._running]

    def tell(self, trial: Trial) -> None:
        """What became of them, in the order they were asked for."""
        running = self._running.pop(0)
        with quiet_optuna():
            self.study.tell(running, trial.values, TrialState[trial.state])


def directions(tuning: Tuning) -> list[Direction]:
    """Which way every objective is better."""
    return [OBJECTIVES[name] for name in tuning.objectives]


def pareto(tuner: Tuner) -> list[int]:
    """Numbers of the trials that none other beats in all objectives."""
    return sorted(trial.number for trial in tuner.asker.study.best_trials)


def importances(tuner: Tuner) -> dict[str, dict[str, float]]:
    """How much of each objective's spread each setting explains (fANOVA); empty where trials are too few."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # with all of scikit-learn

    study, names = tuner.asker.study, tuner.tuning.objectives
    found: dict[str, dict[str, float]] = {}
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for i, name in enumerate(names):
        values = {trial.values[i] for trial in complete}
        if len(complete) >= 4 and len(values) > 1 and len(tuner.tuning.axes) > 1:
            evaluator = FanovaImportanceEvaluator(seed=0)
            with quiet_optuna():
                told = get_param_importances(study, evaluator=evaluator, target=lambda t, i=i: t.values[i])  # type: ignore[misc]
            found[name] = dict(told)
    return found


# ---- the journal


def keep_study(tuner: Tuner, name: str, path: Path, points: Mapping[str, list[float]] | None = None) -> None:
    """Bring the study of that name up to what the rows say: appended to, or made again where it says otherwise.

    Args:
        points: |F - R| / R after every epoch of a search, by its key.
    """
    wanted = [_frozen(trial, tuner, points or {}) for trial in tuner.trials]
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet_optuna():
        study = _kept(tuner, name, path)
        there = [] if study is None else study.get_trials()
        if study is not None and [_said(t) for t in there] != [_said(t) for t in wanted[: len(there)]]:
            optuna.delete_study(study_name=name, storage=_storage(path))
            there, study = [], None
        if study is None:
            study = _new(tuner, name, path)
        for trial in wanted[len(there) :]:
            study.add_trial(trial)


def open_study(name: str, path: Path) -> Study:
    """The study as it stands in the journal.

    Raises:
        KeyError: there is none of that name.
    """
    return optuna.load_study(study_name=name, storage=_storage(path), sampler=RandomSampler(seed=0))


def _storage(path: Path) -> JournalStorage:
    """The journal; what a killed process left locked is free again soon, since lines are written in a moment."""
    return JournalStorage(
        JournalFileBackend(str(path), lock_obj=JournalFileSymlinkLock(str(path), grace_period=3))
    )


def _kept(tuner: Tuner, name: str, path: Path) -> Study | None:
    """The study in the journal, if it is there and of this tuning; else it is deleted, a damaged journal whole."""
    if not path.exists():
        return None
    try:
        if not path.read_bytes().endswith(b"\n"):
            raise ValueError("its last line was cut")  # and Optuna would go on in it
        if name not in optuna.get_all_study_names(_storage(path)):
            return None
        study = open_study(name, path)
    except Exception:  # a damaged journal raises what it happens to raise
        log.warning("the studies in %s cannot be read; they are made again of the rows", path)
        path.unlink()
        return None
    if [d.name.lower() for d in study.directions] == directions(tuner.tuning) and study.user_attrs == _about(
        tuner
    ):
        return study
    optuna.delete_study(study_name=name, storage=_storage(path))
    return None


def _new(tuner: Tuner, name: str, path: Path) -> Study:
    study = optuna.create_study(
        storage=_storage(path), study_name=name,
        directions=directions(tuner.tuning), sampler=RandomSampler(seed=0),
    )  # fmt: skip
    for key, value in _about(tuner).items():
        study.set_user_attr(key, value)
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        study.set_metric_names(list(tuner.tuning.objectives))
    return study


def _about(tuner: Tuner) -> dict[str, Any]:
    """What the study says of its sampler."""
    return {"sampler": tuner.asker.told, "over": list(tuner.tuning.over)}


def _said(trial: FrozenTrial) -> str:
    return json.dumps([trial.state.name, trial.params, trial.values], sort_keys=True)


def _frozen(trial: Trial, tuner: Tuner, points: Mapping[str, list[float]]) -> FrozenTrial:
    first = points.get(trial.runs[0].key, [])
    return create_trial(
        state=TrialState[trial.state], values=trial.values, params=dict(trial.params),
        distributions=tuner.asker.distributions,
        intermediate_values=dict(enumerate(first, 1)),
        user_attrs={
            "jobs": [run.key for run in trial.runs], "seeds": [run.job.seed for run in trial.runs],
            "hits": trial.hits, "gaps": [run.gap for run in trial.runs],
        },
    )  # fmt: skip
