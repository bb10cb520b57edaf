"""What finding a size costs: what searches in `methods`, TAS's variants aside, and again at about the cost of TAS.

At the paper's schedule the search of TAS comes to 4.5 trainings of a size in its band, in training macs; a
supernet to 0.6, and a score in it to 1 / 700. `tests/test_search_sweeps.py` checks that those at equal cost are
near TAS.
"""

from baselines.cma_es import CmaEs
from baselines.evolution import Evolution
from baselines.optuna_nsga2 import OptunaNsga2
from baselines.optuna_tpe import OptunaTpe
from baselines.random_search import RandomSearch
from baselines.reinforce import Reinforce
from baselines.successive_halving import SuccessiveHalving
from sweeps.methods import OTHERS, PRUNED, SHARED, SHORTENED, TRAINED
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.scratch import Scratch
from tas_bench.variant import Variant

EQUAL = (
    RandomSearch(trials=4),
    CmaEs(generations=1, population=4),
    Evolution(cycles=4, population_size=2, sample_size=2, parallel=1),
    Reinforce(steps=3, samples=2),
    OptunaTpe(n_trials=4, n_startup_trials=2, parallel=1),
    OptunaNsga2(n_trials=4, population_size=2),
    SuccessiveHalving(trials=18),
)
EQUAL_SHARED = (
    RandomSearch(fitness="shared", trials=2600),
    CmaEs(fitness="shared", generations=100, population=26),
    Evolution(fitness="shared", cycles=2600, population_size=64, sample_size=16, parallel=16),
    Reinforce(fitness="shared", steps=259, samples=10),
)

SWEEP = Sweep(
    name="search_cost",
    title="Search cost",
    datasets=("cifar100",),
    backbones=("resnet32",),
    keep=0.6,
    methods=(
        Tas(),
        *TRAINED,
        *SHARED,
        *PRUNED,
        *OTHERS,
        *(Variant(f"{m.name}-equal", f"{m.label}, cost of TAS", m) for m in EQUAL),
        *(Variant(f"{m.name}-shared-equal", f"{m.label}, shared, cost of TAS", m) for m in EQUAL_SHARED),
    ),
    transfers=(Scratch(),),
    shortened=SHORTENED
    | {
        "random_search-equal.trials": "2",
        "successive_halving-equal.trials": "2",
        "random_search-shared-equal.trials": "40",
        "evolution-shared-equal.cycles": "40",
        "cma_es-shared-equal.generations": "20",
        "reinforce-shared-equal.steps": "20",
    },
)
