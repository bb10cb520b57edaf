"""Table 2 of the paper at a scale that two CPU cores can pay for: CIFAR-10, ResNet-20, 3,000 images.

Beside it a control: one size drawn at random in the band. Its one candidate is judged against none, so briefly.
"""

from baselines.random_search import RandomSearch
from tas_bench.jobs import Recipe
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.kd import KD
from tas_bench.variant import Variant

SWEEP = Sweep(
    name="replication_samples",
    title="Table 2 at reduced scale",
    datasets=("cifar10",),
    backbones=("resnet20",),
    keep=0.56,  # as `sweeps/table2.py`
    methods=(
        *(Variant(f"samples-{n}", f"|I| = {n}", Tas(samples=n, search_epochs=25)) for n in (1, 2, 3, 5, 8)),
        Variant("random_size", "A random size", RandomSearch(trials=1, proxy_epochs=1)),
    ),
    transfers=(KD(),),
    seeds=(0, 1, 2),
    train_subset=3_000,
    recipe=Recipe(epochs=20, batch=50),
    shortened={"seeds": "0", "train_subset": "500", "epochs": "2", "batch": "125", "search_epochs": "3"},
)
