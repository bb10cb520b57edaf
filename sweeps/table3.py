"""Table 3 of the paper, the rows of TAS: depth, width or both; five CIFAR ResNets on both CIFAR sets.

The paper prunes every network to a target of its own, and depth alone to another. Here the three share one, near
the paper's, that depth alone can meet: ResNet-32 with 9 of its 15 blocks keeps 59 %.
"""

from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.kd import KD
from tas_bench.variant import Variant

SWEEP = Sweep(
    name="table3",
    title="Table 3",
    datasets=("cifar10", "cifar100"),
    backbones=("resnet20", "resnet32", "resnet56", "resnet110", "resnet164"),
    keeps={"resnet20": 0.55, "resnet32": 0.6, "resnet56": 0.48, "resnet110": 0.47, "resnet164": 0.7},
    methods=(
        Variant("tas-d", "TAS (D)", Tas(search="D")),
        Variant("tas-w", "TAS (W)", Tas(search="W")),
        Variant("tas-wd", "TAS", Tas(search="WD")),
    ),
    transfers=(KD(),),
    shortened={
        "seeds": "0",
        "backbones": "resnet20,resnet32",
        "train_subset": "500",
        "epochs": "2",
        "batch": "125",
        "search_epochs": "4",
    },
)
