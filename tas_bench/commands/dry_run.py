"""`tas-bench run SWEEP --dry-run`: what a run would do and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tas_bench.errors import OK, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from tas_bench.estimate import Estimate, Planned
    from tas_bench.resources import Resources
    from tas_bench.sweep import Sweep


def dry_run(sweep: Sweep, results: Path, data_root: Path | None, resources: Resources) -> int:
    """Print the jobs by kind and method and what they will cost, once nothing stands against the run.

    Raises:
        InputError: what a run would refuse; the cost latency, which is measured first.
    """
    from rich.console import Console
    from rich.text import Text

    from tas_bench.costs.latency import LATENCY
    from tas_bench.estimate import estimate
    from tas_bench.preflight import check_run

    if sweep.cost == LATENCY:
        raise InputError("--dry-run measures no latency; name a table that is there: --set cost=latency:KEY")
    check_run(sweep, results, data_root, resources)
    found, console = estimate(sweep, results, data_root, resources), Console()
    console.print(Text(f"{sweep.heading}\nresults: {results}"), soft_wrap=True)
    console.print(_table(found))
    for line in (*found.sources, str(found)):
        console.print(Text(line), soft_wrap=True)
    return OK


def _table(found: Estimate) -> Table:
    """One line per kind of job and method."""
    from rich import box
    from rich.table import Table

    groups: dict[tuple[str, str], list[Planned]] = {}
    for job in found.jobs:
        transfer = job.use.transfer if job.use.job.kind == "final" else None
        groups.setdefault((job.use.method, " ".join(filter(None, (job.use.job.kind, transfer)))), []).append(job)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("method", "job", "finished", "to run", "macs", "device time"):
        table.add_column(name, justify="left" if name in ("method", "job") else "right", no_wrap=True)
    for (method, kind), jobs in groups.items():
        table.add_row(method, kind, *_figures(jobs))
    table.add_section()
    table.add_row("all", "", *_figures(list(found.jobs)))
    return table


def _figures(jobs: list[Planned]) -> tuple[str, ...]:
    from tas_bench.estimate import total
    from tas_bench.text import duration

    to_run = [job for job in jobs if not job.finished]
    macs, seconds = total(job.macs for job in to_run), total(job.seconds for job in to_run)
    return (
        str(len(jobs) - len(to_run)), str(len(to_run)),
        "?" if macs is None else f"{macs:.3g}", "?" if seconds is None else duration(seconds),
    )  # fmt: skip
