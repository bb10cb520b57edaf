"""Every method there is, from scratch and with knowledge distillation.

Whoever judges sizes judges 24; greedy slimming scores as many as it passes on its way.
"""

from baselines.cma_es import CmaEs
from baselines.evolution import Evolution
from baselines.greedy_slimming import GreedySlimming
from baselines.optuna_nsga2 import OptunaNsga2
from baselines.optuna_tpe import OptunaTpe
from baselines.random_search import RandomSearch
from baselines.ratio import Ratio
from baselines.reinforce import Reinforce
from baselines.successive_halving import SuccessiveHalving
from baselines.torch_pruning_l1 import TorchPruningL1
from tas_bench.discover import classes
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch
from tas_bench.variant import Variant, settings_of

SHARED = (
    Variant("random_search-shared", "Random Search, shared", RandomSearch(fitness="shared")),
    Variant("cma_es-shared", "CMA-ES, shared", CmaEs(population=6, fitness="shared")),
    Variant("evolution-shared", "Evolution, shared", Evolution(fitness="shared")),
    GreedySlimming(),
)
"""Those that score sizes inside one supernet."""

TRAINED = (
    RandomSearch(), CmaEs(population=6),
    Variant("cma_es-index", "CMA-ES, by index", CmaEs(population=6, coding="index")),
    Evolution(), Reinforce(), OptunaTpe(), OptunaNsga2(), SuccessiveHalving(),
)  # fmt: skip
"""Those that train sizes."""

PRUNED = (
    TorchPruningL1(),
    Variant("torch_pruning_l1-uniform", "Torch-Pruning L1, uniform", TorchPruningL1(scope="uniform")),
)
"""Those that prune the trained teacher."""

OTHERS = tuple(
    method()
    for name, method in classes("baselines", has="plan").items()
    if name not in {settings_of(known).name for known in (Ratio(), *TRAINED, *SHARED, *PRUNED)}
)
"""Those that nobody has named here yet, with their defaults."""

SHORTENED = {
    "seeds": "0",
    "train_subset": "500",
    "epochs": "3",
    "batch": "125",
    "random_search.trials": "3",
    "successive_halving.trials": "3",
    "generations": "2",
    "population": "2",
    "evolution.population_size": "2",
    "cycles": "4",
    "evolution.parallel": "2",
    "optuna_nsga2.population_size": "2",
    "optuna_nsga2.n_trials": "4",
    "steps": "1",
    "reinforce.samples": "2",
    "n_startup_trials": "2",
    "optuna_tpe.n_trials": "4",
    "optuna_tpe.parallel": "2",
    "at_once": "12",
    "search_epochs": "6",
    "finetune_epochs": "2",
}
"""Three or four sizes each, in minutes."""

SWEEP = Sweep(
    name="methods",
    title="All methods",
    datasets=("cifar100",),
    backbones=("resnet32",),
    keep=0.6,
    methods=(
        Ratio(),
        *TRAINED,
        *SHARED,
        *PRUNED,
        *OTHERS,
        Variant("tas-d", "TAS (D)", Tas(search="D")),
        Variant("tas-w", "TAS (W)", Tas(search="W")),
        Variant("tas-released", "TAS, released preset", Tas.presets()["released"]),
        Tas(),
    ),
    transfers=(Scratch(), KD()),
    shortened=SHORTENED,
)
