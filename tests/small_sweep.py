"""A small sweep on digits, what its `--set methods` knows, and all sweeps there are."""

from baselines.cma_es import CmaEs
from baselines.random_search import RandomSearch
from baselines.ratio import Ratio
from tas_bench.discover import instances
from tas_bench.jobs import Recipe
from tas_bench.settings import setting_names, with_settings
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.init import Init
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch

SWEEPS = instances("sweeps", Sweep)
SWEEP = Sweep(
    name="mine",
    title="A title",
    datasets=("digits",),
    backbones=("tiny",),
    methods=(Ratio(), RandomSearch(trials=3), CmaEs(), Tas(search_epochs=5)),
    transfers=(Scratch(), Init(), KD()),
    seeds=(0, 1),
    recipe=Recipe(epochs=2, batch=64),
    shortened={"seeds": "0", "trials": "2", "recipe.epochs": "1"},
)
PROBLEM = SWEEP.problems[0]
KNOWN = {
    "methods": {m.name: m for m in (Ratio, RandomSearch, CmaEs, Tas)},
    "transfers": {t.name: t for t in (Scratch, Init, KD)},
}


def changed(**settings):
    return with_settings(SWEEP, {k.replace("__", "."): v for k, v in settings.items()}, KNOWN)


OTHERS = {
    "methods": "tas", "transfers": "kd", "datasets": "cifar10", "backbones": "resnet20", "seeds": "3",
    "cost": "params", "tas.search": "W", "tas.tau_shape": "cosine", "tas.rule": "released",
    "tas.selection": "mixture", "tas.alignment": "pad", "tas.depth_samples": "1", "tas.zone": "released",
    "train_subset": "50", "teacher_epochs": "9", "recipe.holdout": "0.1", "init.channels": "l1",
    "init.residual": "identity",
    "random_search.proxy_epochs": "3", "cma_es.proxy_epochs": "4", "cma_es.coding": "index",
    "cma_es.population": "7",
} | {
    f"{method}.{key}": value
    for method in ("random_search", "cma_es")
    for key, value in (("fitness", "shared"), ("supernet_epochs", "5"), ("supernet_seed", "6"))
}  # fmt: skip


def other_value(key):
    """Another valid value of a setting of SWEEP, as text."""
    value = setting_names(SWEEP)[key]
    if key in OTHERS or isinstance(value, bool):
        return OTHERS.get(key, str(not value))
    return str(value + 1 if isinstance(value, int) else value / 2)
