"""The layout of Table 1 in minutes on a laptop: the real 8 x 8 digits of scikit-learn, ResNet-20."""

from baselines.cma_es import CmaEs
from baselines.random_search import RandomSearch
from baselines.ratio import Ratio
from tas_bench.jobs import Recipe
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.init import Init
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch

SWEEP = Sweep(
    name="demo",
    title="Table 1's layout",
    datasets=("digits",),
    backbones=("resnet20",),
    keep=0.6,
    methods=(
        Ratio(),
        RandomSearch(trials=6),
        CmaEs(generations=2, population=3),
        Tas(search_epochs=30),
    ),
    transfers=(Scratch(), Init(), KD()),
    seeds=(0, 1),
    recipe=Recipe(epochs=12, batch=64),
    shortened={
        "seeds": "0",
        "epochs": "2",
        "trials": "2",
        "generations": "1",
        "population": "2",
        "search_epochs": "3",
    },
)
