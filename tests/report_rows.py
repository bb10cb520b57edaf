"""A sweep's rows and uses written down by hand, and what the report makes of them."""

import io
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
from rich.console import Console

from tas_bench.report import report
from tas_bench.report.example import write_example
from tas_bench.report.sections import all_sections
from tas_bench.report.source import Source, read_source
from tas_bench.report.table1 import narrowed, table1
from tas_bench.schema import ROWS, USES

BUDGET = 41_480_000.0
SWEEP = {
    "name": "table1_cifar",
    "title": "Table 1",
    "problems": [{"dataset": "cifar100", "backbone": "resnet32", "keep": 0.6}],
    "train_subset": None,
    "t": 0.05,
    "seeds": [0, 1, 2],
    "methods": [
        {"name": "ratio", "label": "Pre-defined"},
        {"name": "random_search", "label": "Random Search"},
        {"name": "cma_es", "label": "CMA-ES"},
        {"name": "tas", "label": "TAS"},
    ],
    "transfers": ["scratch", "init", "kd"],
    "fixed": {},
}


class Sweep:
    """Rows and uses written down by hand."""

    def __init__(self):
        self.rows, self.uses = {}, []

    def add(self, method, seed, kind, transfer=None, *, job=None, row=True, **measures):
        job = job or f"{method}-{seed}-{kind}-{transfer}-{len(self.uses)}"
        self.uses.append(
            {
                "job_id": job,
                "sweep": "table1_cifar",
                "plan": f"{method}-{seed}",
                "method": method,
                "seed": seed,
                "dataset": "cifar100",
                "backbone": "resnet32",
            }
            | {"kind": kind, "transfer": transfer}
        )
        if row:
            self.rows[job] = {"job_id": job, "status": "ok", "kind": kind, "method": method} | measures
        return self

    def final(self, method, seed, transfer, accuracy, macs=41_000_000, **measures):
        measures = {
            "budget": BUDGET,
            "epochs": 300,
            "test_accuracy": accuracy,
            "macs": macs,
            "cost": macs,
        } | measures
        return self.add(method, seed, "final", transfer, **measures)

    @property
    def frames(self):
        return (
            pa.Table.from_pylist(list(self.rows.values()), schema=ROWS).to_pandas(),
            pa.Table.from_pylist(self.uses, schema=USES).to_pandas(),
        )


def full_sweep(shifts=(-0.01, 0.0, 0.01)):
    sweep = Sweep().add("teacher", 0, "teacher", test_accuracy=0.7, macs=69_000_000, epochs=300)
    for seed, shift in enumerate(shifts):
        for i, method in enumerate(("ratio", "random_search", "cma_es", "tas")):
            for j, transfer in enumerate(SWEEP["transfers"]):
                sweep.final(method, seed, transfer, 0.68 + 0.01 * i + 0.02 * j + shift)
        for _ in range(3):
            sweep.add("random_search", seed, "candidate", device_seconds=600.0, train_macs=10**15)
        sweep.add("cma_es", seed, "candidate", device_seconds=9000.0, train_macs=7 * 10**15)
        sweep.add("tas", seed, "search", device_seconds=100.0 * (seed + 1), train_macs=2 * 10**15)
    return sweep


def source_of(sweep, manifest=SWEEP):
    """What a report is made of; `sweep` may be the frames themselves."""
    rows, uses = sweep.frames if isinstance(sweep, Sweep) else sweep
    none = pd.DataFrame()
    return Source(manifest, rows.reindex(columns=ROWS.names), uses.reindex(columns=USES.names), none, none, {})


def used_of(sweep, manifest=SWEEP):
    """What plans on the first problem asked for."""
    source = source_of(sweep, manifest)
    return source.of(source.problems[0])


def lines_of(sweep, manifest=SWEEP):
    return table1(used_of(sweep, manifest), narrowed(manifest)[0]).set_index("name")


def on(sweep=None, **changes):
    """The manifest with another problem; the sweep's uses are moved to it."""
    for use in sweep.uses if sweep else ():
        use |= {k: v for k, v in changes.items() if k in use}
    return SWEEP | {"problems": [SWEEP["problems"][0] | changes]}


def shown(sweep, manifest=SWEEP, width=100, out_dir=None, **console):
    file = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        report(source_of(sweep, manifest), out_dir or Path(folder), Console(file=file, width=width, **console))
    return file.getvalue()


def example(root):
    """A made-up sweep of three seeds, all ended."""
    write_example(root, seeds=3, candidates=2, epochs=4)
    return read_source(root)


def parts(source, name):
    """What a section of the report says."""
    [section] = [section for section in all_sections() if section.name == name]
    return section.make(source)
