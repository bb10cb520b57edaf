"""What methods cost apart from their jobs: milliseconds per candidate at ResNet-56, few and 1,000 in flight.

Seconds are of this process's CPU time; outcomes are made up, and keys are hashed as in a run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from baselines.cma_es import CmaEs
from baselines.evolution import Evolution
from baselines.greedy_slimming import GreedySlimming
from baselines.optuna_nsga2 import OptunaNsga2
from baselines.optuna_tpe import OptunaTpe
from baselines.random_search import RandomSearch
from baselines.reinforce import Reinforce
from baselines.successive_halving import SuccessiveHalving
from tas_bench import measure
from tas_bench.backbones.backbone import CIFAR
from tas_bench.budget import Band
from tas_bench.estimate import made_up
from tas_bench.jobs import DataSpec, Method, Problem, Recipe
from tas_bench.plans import NamedPlan, Plans

FLIGHT = 1000
SOME: Sequence[Method] = (
    RandomSearch(trials=100), SuccessiveHalving(trials=100), CmaEs(generations=10, population=10),
    CmaEs(generations=10, population=10, coding="index"), Evolution(cycles=100), Reinforce(steps=10, samples=10),
    OptunaTpe(n_trials=100), OptunaNsga2(n_trials=100, population_size=10), GreedySlimming(),
)  # fmt: skip
MANY: Sequence[Method] = (
    RandomSearch(trials=FLIGHT), SuccessiveHalving(trials=FLIGHT), CmaEs(generations=1, population=FLIGHT),
    CmaEs(generations=1, population=FLIGHT, coding="index"),
    Evolution(cycles=2 * FLIGHT, population_size=FLIGHT, parallel=FLIGHT), Reinforce(steps=1, samples=FLIGHT),
    OptunaNsga2(n_trials=2 * FLIGHT, population_size=FLIGHT),
)  # fmt: skip


def per_candidate(method: Method, problem: Problem) -> tuple[float, int]:
    """Milliseconds per job that a method asks for, and how many were in flight at once."""
    start = time.process_time()
    plans = Plans([NamedPlan("plan", method.name, 0, problem, method.plan(problem, 0))], lambda *_: None)
    count = most = 0
    while not plans.done:
        flight = []
        while (use := plans.next_job()) is not None:
            flight.append(use)
        for use in flight:
            plans.finish(use.key, made_up(use.job))
        count, most = count + len(flight), max(most, len(flight))
    return 1e3 * (time.process_time() - start) / count, most


def main() -> None:
    """Print a line per method."""
    problem = Problem(
        data=DataSpec(), backbone_name="resnet56", classes=100, image=CIFAR, keep=0.5, t=0.05, recipe=Recipe()
    )
    Band.of(problem).check()
    Band.of(problem).sample(np.random.default_rng(0), 1)  # counted once per band
    print(f"{measure.device_name('cpu')}, ResNet-56, half the macs")
    for methods in (SOME, MANY):
        for method in methods:
            spent, flight = per_candidate(method, problem)
            print(f"{method.name:20} {spent:7.1f} ms per candidate, {flight:5} in flight")


if __name__ == "__main__":
    main()
