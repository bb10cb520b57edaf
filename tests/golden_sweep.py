"""The sweep of the golden stores, as `golden/make_store.py` has it."""

from tas_bench.jobs import Recipe
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.scratch import Scratch

SWEEP = Sweep(
    name="golden", title="Golden", datasets=("digits",), backbones=("tiny",), keep=0.6, t=0.1,
    methods=(Tas(search_epochs=2),), transfers=(Scratch(),), recipe=Recipe(epochs=2, batch=64),
    train_subset=100, seeds=(0,),
)  # fmt: skip
