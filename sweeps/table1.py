"""Table 1 of the paper: CIFAR-100, ResNet-32, 40 % of MACs pruned; CMA-ES, which the paper lacks, beside it."""

from baselines.cma_es import CmaEs
from baselines.random_search import RandomSearch
from baselines.ratio import Ratio
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.init import Init
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch

SWEEP = Sweep(
    name="table1",
    title="Table 1",
    datasets=("cifar100",),
    backbones=("resnet32",),
    keep=0.6,
    methods=(Ratio(), RandomSearch(), CmaEs(population=6), Tas()),
    transfers=(Scratch(), Init(), KD()),
    seeds=(0, 1, 2),
    shortened={
        "seeds": "0",
        "train_subset": "1000",
        "epochs": "4",
        "batch": "128",
        "trials": "3",
        "generations": "2",
        "population": "2",
        "search_epochs": "10",
    },
)
