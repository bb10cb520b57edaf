"""How lambda_cost and t decide whether a search meets its budget: real CIFAR-10, ResNet-20, 1,000 images.

Searches only, three seeds to a cell. `lambda_tolerance` is a like grid on digits, with a recommendation.
"""

from tas_bench.jobs import Recipe
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.tune import Tuning

SWEEP = Sweep(
    name="replication_tolerance",
    title="lambda_cost and t at reduced scale",
    datasets=("cifar10",),
    backbones=("resnet20",),
    keep=0.6,
    methods=(
        Tuning(
            tas=Tas(search_epochs=20),
            over=("lambda_cost=0.5/1/2/4/8", "t=0.01/0.05/0.1/0.2"),
            objectives=("gap",),
            repeats=3,
            confirm=0,
        ),
    ),
    transfers=(),
    seeds=(0,),
    train_subset=1_000,
    recipe=Recipe(epochs=20, batch=25),
    shortened={
        "train_subset": "500",
        "batch": "50",
        "search_epochs": "3",
        "repeats": "1",
        "over": "lambda_cost=0.5/8,t=0.05/0.2",
    },
)
