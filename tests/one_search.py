"""The least sweep that has a teacher, run in this process."""

import pytest

from tas_bench.jobs import Recipe
from tas_bench.replay import keep_uses, plans_of
from tas_bench.resources import Resources
from tas_bench.runner import supervisor
from tas_bench.store import Store
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch
from tas_bench.worker import Labels, execute

SWEEP = Sweep(
    name="small", title="Small", datasets=("digits",), backbones=("tiny",), keep=0.6, t=0.1,
    methods=(Tas(search_epochs=2),), transfers=(Scratch(), KD()), recipe=Recipe(epochs=2, batch=64),
    train_subset=100, seeds=(0,),
)  # fmt: skip
"""A teacher, a search and two finals."""


def run(path):
    """Run the sweep in this process, without Ray; the ids of the jobs that ran."""
    ran = []

    def work(sweep, context, *_rest):
        plans = plans_of(sweep, Store(context.results))
        keep_uses(plans, sweep, Store(context.results))
        while not plans.done:
            use = plans.next_job()
            execute(use.job, Labels(sweep=sweep.name, method=use.method, budget=None), context)
            ran.append(use.key)
            plans.finish(use.key, Store(context.results).outcome(use.key))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "run_jobs", work)
        supervisor.run_sweep(SWEEP, path, None, Resources(cpus=1))
    return ran


def files(results, folder):
    return sorted((results / folder).glob("[!.]*"))
