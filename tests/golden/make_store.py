"""Makes a golden store: `python tests/golden/make_store.py tests/golden/store_vN`, in the root of a checkout.

Whoever raises `SCHEMA_VERSION` runs it once and adds what it made. Those of versions 1 and 2 were made by the last
commits of those versions (c9d3d90 and the parent of a134a46), with this file's likeness for their `Sweep`.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, os.getcwd())

from tas_bench.data import check_data
from tas_bench.jobs import Context, Recipe
from tas_bench.plans import Plans, uses_rows
from tas_bench.store import Store
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.scratch import Scratch
from tas_bench.uses import write_uses
from tas_bench.worker import Labels, execute

SWEEP = Sweep(
    name="golden", title="Golden", datasets=("digits",), backbones=("tiny",), keep=0.6, t=0.1,
    methods=(Tas(search_epochs=2),), transfers=(Scratch(),), recipe=Recipe(epochs=2, batch=64),
    train_subset=100, seeds=(0,),
)  # fmt: skip
"""A search of two epochs and the final training of what it found."""


def make(out):
    """Run the sweep in this process."""
    [problem], store = SWEEP.problems, Store(out)
    plans = Plans(SWEEP.plans(), lambda _job, _key: None)
    with store.lock():
        store.claim(SWEEP.manifest(), {"digits": check_data(problem.data, None, 0.0)})
        while not plans.done:
            use = plans.next_job()
            labels = Labels(sweep="golden", method=use.method, budget=problem.budget, budget_cost=problem.cost)
            execute(use.job, labels, Context(results=out))
            plans.finish(use.key, store.outcome(use.key))
        for plan in plans.plans:
            write_uses(store.path, plan.name, uses_rows(plan, "golden"), ["scratch"])
    (out / "_lock").unlink(missing_ok=True)


make(Path(sys.argv[1]).absolute())
