"""Figure 3 of the paper: interpolation or none, Gumbel sample or mixture, with and without the cost's constraint.

Searches only: the trajectories (`tas_bench.load(DIR, table="trajectories")`) are what the figure draws.
"""

from itertools import product

from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.variant import Variant

STRATEGIES = product(
    {"sample": "gumbel", "mixture": "mixture"}.items(),
    {"CWI": "cwi", "no CWI": "pad"}.items(),
    {"constrained": 2.0, "free": 0.0}.items(),
)

SWEEP = Sweep(
    name="figure3",
    title="Figure 3",
    datasets=("cifar100",),
    backbones=("resnet56",),
    methods=tuple(
        Variant(
            "-".join((weights, match, cost)).replace(" ", "-").lower(),
            f"{weights}, {match}, {cost}",
            Tas(selection=selection, alignment=alignment, lambda_cost=lambda_cost),
        )
        for (weights, selection), (match, alignment), (cost, lambda_cost) in STRATEGIES
    ),
    transfers=(),
    shortened={
        "seeds": "0",
        "backbones": "resnet20",
        "train_subset": "1000",
        "batch": "125",
        "search_epochs": "5",
    },
)
