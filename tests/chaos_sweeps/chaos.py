"""The sweeps that are attacked; `chaos_cli.py` puts this folder beside the package's own sweeps."""

from baselines.random_search import RandomSearch
from baselines.ratio import Ratio
from tas_bench.discover import classes
from tas_bench.jobs import Recipe
from tas_bench.stub import StubMethod
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.transfer.kd import KD
from tas_bench.transfer.scratch import Scratch
from tas_bench.variant import Variant

SMALL = {"title": "Chaos", "datasets": ("digits",), "backbones": ("tiny",), "seeds": (0,)}

STUBS = Sweep(name="stubs", methods=(StubMethod(batches=3, jobs=4, seconds=1),), transfers=(), **SMALL)

ENDS = {"raise": "failed", "memory": "oom", "kill once": "ok", "segv once": "ok", "exit once": "ok"}
"""How a stub fails, and what becomes of it."""

DEATHS = Sweep(
    name="deaths", methods=tuple(Variant(f.split()[0], f, StubMethod(jobs=2, fault=f)) for f in ENDS),
    transfers=(), **SMALL,
)  # fmt: skip

HOGS = Sweep(
    name="hogs", transfers=(), **SMALL,
    methods=(
        Variant("hog", "Hog", StubMethod(jobs=2, seconds=1, fault="hog")),
        Variant("long", "Long", StubMethod(jobs=1, seconds=10)),
    ),
)  # fmt: skip

SEARCHES = Sweep(
    name="searches", transfers=(Scratch(),), recipe=Recipe(epochs=2, batch=64), **SMALL,
    methods=tuple(method() for method in classes("baselines", has="plan").values() if hasattr(method, "jobs")),
)  # fmt: skip
"""Every method there is that trains candidates."""

TRAININGS = Sweep(
    name="trainings", methods=(Ratio(),), transfers=(Scratch(),), recipe=Recipe(epochs=100, batch=64), **SMALL
)  # fmt: skip

MIXED = Sweep(
    name="mixed", methods=(RandomSearch(trials=4), Tas(search_epochs=2, samples=2)), transfers=(Scratch(), KD()),
    recipe=Recipe(epochs=1, batch=64), train_subset=200, **SMALL,
)  # fmt: skip
"""Jobs of every kind."""
