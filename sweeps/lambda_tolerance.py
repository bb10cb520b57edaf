"""How lambda_cost and t decide whether a search meets its budget: CIFAR-100, ResNet-32, a grid of both.

`tas-bench tune` answers it with heat maps, hit-rates and a recommendation; feeds no table of the paper.
"""

from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.tune import Tuning

SWEEP = Sweep(
    name="lambda_tolerance",
    title="lambda_cost and t",
    datasets=("cifar100",),
    backbones=("resnet32",),
    methods=(
        Tuning(
            tas=Tas(),
            over=("lambda_cost=0.5/1/2/4/8", "t=0.02/0.05/0.1"),
            repeats=3,
            train_epochs=20,
        ),
    ),
    transfers=(),
    seeds=(0,),
    shortened={
        "datasets": "digits",
        "backbones": "resnet20",
        "batch": "64",
        "search_epochs": "12",
        "train_subset": "720",
        "train_epochs": "4",
        "repeats": "1",
        "over": "lambda_cost=0.25/1/4,t=0.05/0.1",
    },
)
