"""NSGA-II by Optuna: its generations, parents and failures."""

import dataclasses

import numpy as np
import pytest
from helpers import drive, hidden_best
from optuna.trial import TrialState

from baselines.optuna_nsga2 import InBand, OptunaNsga2, objectives
from baselines.optuna_study import grid_of, indices_of, quiet_study
from tas_bench.budget import Band
from tas_bench.jobs import Outcome
from tas_bench.testing import PROBLEM

RESNET20 = dataclasses.replace(PROBLEM, backbone_name="resnet20")
BAND = Band.of(RESNET20)
FAILED = Outcome(status="diverged", val_accuracy=0.99)
accuracy = hidden_best(BAND, 0)


def asked(study, count):
    trials = [study.ask(grid_of(BAND.space)) for _ in range(count)]
    return trials, [BAND.space.size(indices_of(trial, BAND.space)) for trial in trials]


def beats(one, other):
    """Whether (accuracy, macs) is as good in both, and another."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def generations(sizes=4, count=5, fails=()):
    """A study told whole generations, trials by their numbers failing; the sizes of each generation."""
    rng = np.random.default_rng(0)
    study = quiet_study(InBand(BAND, BAND.sample(rng, sizes), rng), "maximize", "minimize")
    found = []
    for _ in range(count):
        trials, found_now = asked(study, sizes)
        found.append(found_now)
        for trial, size in zip(trials, found_now, strict=True):
            well = Outcome(val_accuracy=accuracy(size))
            study.tell(trial, objectives(FAILED if trial.number in fails else well, RESNET20, size))
    return study, found


@pytest.mark.parametrize("fails", [(), (1, 2, 5, 11)], ids=["all well", "some fail"])
def test_nsga2_keeps_count_of_its_generations(fails):
    """Optuna does not of trials that are enqueued or that fail: it draws at random for ever, or for longer."""
    study, found = generations(fails=fails)
    told = [t.system_attrs["InBand:generation"] for t in study.get_trials()]
    assert told == [generation for generation in range(5) for _ in range(4)]
    assert {t.state for t in study.get_trials()} == {TrialState.COMPLETE}
    assert all(BAND.low <= RESNET20.macs(size) <= BAND.high for sizes in found for size in sizes)


def test_nsga2s_children_are_of_the_best_of_all_generations_before():
    """Crossover and a few mutations: repaired or not, most of a child's rows are one of its parents'."""
    study, found = generations(sizes=8, count=6)
    values = {size: (accuracy(size), RESNET20.macs(size)) for sizes in found for size in sizes}
    for generation in range(1, 6):
        parents = study.sampler.get_parent_population(study, generation)
        before = [size for sizes in found[:generation] for size in sizes]
        front = {size for size in before if not any(beats(values[other], values[size]) for other in before)}
        sizes = [BAND.space.size(indices_of(t, BAND.space)) for t in parents]
        assert len(set(sizes) & front) == min(8, len(front))
        rows = np.array([BAND.space.indices(size) for size in sizes])
        for child in found[generation]:
            assert np.mean((rows == BAND.space.indices(child)).any(axis=0)) > 0.6


def test_nsga2_never_breeds_from_what_failed():
    study, _ = generations(sizes=4, count=3, fails=(0, 1, 6))
    for generation in (1, 2):
        parents = study.sampler.get_parent_population(study, generation)
        ranked = [t.number for t in parents if t.values[0] >= 0]
        assert len(ranked) >= 2
        if generation == 2:
            assert len(ranked) == len(parents) == 4
    assert objectives(FAILED, RESNET20, BAND.sample(np.random.default_rng(0), 1)[0]) == (
        -1.0,
        RESNET20.macs(RESNET20.backbone.full),
    )


def test_nsga2_returns_the_most_accurate_and_of_those_the_cheapest():
    batches, size = drive(
        OptunaNsga2().plan(RESNET20, 0), lambda job: Outcome(val_accuracy=job.size.depths[0] / 9)
    )
    sizes = [job.size for batch in batches for job in batch]
    best = [s for s in sizes if s.depths[0] == max(s.depths[0] for s in sizes)]
    assert len(best) > 1
    assert RESNET20.macs(size) == min(map(RESNET20.macs, best))
