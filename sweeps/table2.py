"""Table 2 of the paper: how many candidates a layer samples per step, |I|; CIFAR-10, ResNet-32."""

from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.kd import KD
from tas_bench.variant import Variant

SWEEP = Sweep(
    name="table2",
    title="Table 2",
    datasets=("cifar10",),
    backbones=("resnet32",),
    keep=0.56,  # the paper's |I| = 2 kept 38.95 M of 69.12 M
    methods=tuple(Variant(f"samples-{n}", f"|I| = {n}", Tas(samples=n)) for n in (1, 2, 3, 5, 8)),
    transfers=(KD(),),
    shortened={
        "seeds": "0",
        "train_subset": "500",
        "epochs": "2",
        "batch": "125",
        "search_epochs": "5",
    },
)
