"""How lambda_cost and t decide whether a search meets its budget: a grid of both on digits, ResNet-20.

`tas-bench tune` answers it with heat maps, hit-rates and a recommendation; feeds no table of the paper. The same
on CIFAR-100: `tas-bench tune table1 --data DIR`.
"""

from tas_bench.jobs import Recipe
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.tune import Tuning

SWEEP = Sweep(
    name="lambda_tolerance",
    title="lambda_cost and t",
    datasets=("digits",),
    backbones=("resnet20",),
    methods=(
        Tuning(
            tas=Tas(search_epochs=30),
            over=("lambda_cost=0.25/0.5/1/2/4", "t=0.02/0.05/0.1"),
            repeats=3,
        ),
    ),
    transfers=(),
    seeds=(0,),
    recipe=Recipe(epochs=12, batch=64),
    shortened={
        "train_subset": "720",
        "batch": "32",
        "search_epochs": "12",
        "epochs": "4",
        "repeats": "1",
        "over": "lambda_cost=0.25/1/4,t=0.05/0.1",
    },
)
