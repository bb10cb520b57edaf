"""Table 1 of the paper at a scale that two CPU cores can pay for: real CIFAR-100, ResNet-20, 10,000 images.

In pilots smaller batches, which are more updates, went with more accurate networks, and after as many epochs the
unpruned one was hardly above sizes trained from scratch: hence a teacher that trains for twice as long. The search
of TAS has twice the epochs of a training, as in the paper; random search and CMA-ES judge as many sizes as the
same macs pay for. The paper does not say what joins widths that differ along a residual stream at first; `--set
transfers=scratch,init,init-identity,kd` runs Init both ways.
"""

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
    name="replication_cifar100",
    title="Table 1 at reduced scale",
    datasets=("cifar100",),
    backbones=("resnet20",),
    keep=0.6,
    methods=(
        Ratio(),
        RandomSearch(trials=12, proxy_epochs=12),
        CmaEs(generations=2, population=6, proxy_epochs=12),
        Tas(search_epochs=60),
    ),
    transfers=(Scratch(), Init(), KD()),
    seeds=(0, 1, 2),
    train_subset=10_000,
    recipe=Recipe(epochs=30, batch=50),
    teacher_epochs=60,
    shortened={
        "seeds": "0",
        "train_subset": "500",
        "epochs": "2",
        "teacher_epochs": "4",
        "batch": "125",
        "trials": "2",
        "generations": "1",
        "population": "2",
        "random_search.proxy_epochs": "1",
        "cma_es.proxy_epochs": "1",
        "search_epochs": "3",
    },
)
