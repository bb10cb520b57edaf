"""`tas-bench run`: run what is missing of a sweep, then print its report."""

from __future__ import annotations

import argparse
import math
import shlex
from typing import TYPE_CHECKING

from tas_bench.commands.dry_run import dry_run
from tas_bench.commands.report import print_report
from tas_bench.commands.shared import (
    DEFAULT_RESULTS,
    add_command,
    complain,
    directory,
    fetch,
    resources_of,
    settled,
    share_options,
    sweep_options,
)
from tas_bench.errors import FAILED_JOBS, OK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tas_bench.commands.shared import Commands
    from tas_bench.plans import Plans
    from tas_bench.sweep import Sweep

EXAMPLES = """
    examples:
      tas-bench run demo
      tas-bench run table1 --smoke --data DIR
      tas-bench run table1 --data DIR --set methods=tas,ratio --set transfers=kd --set tas=released
      tas-bench run table1 --data DIR --address 10.0.0.1:6379 --gpus-per-job 0.25 --gpus-per-job search=1

    `tas-bench list SWEEP` shows every key that --set takes. Stop it whenever you like: the same command goes
    on where it was, and finished jobs are never run again.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "run what is missing of a sweep, and print its report"
    sub = add_command(commands, "run", run, about, EXAMPLES)
    sub.add_argument("sweep", metavar="SWEEP", help="its name, as `tas-bench list` shows it")
    run_options(sub)


def run_options(sub: argparse.ArgumentParser) -> None:
    """What `carry_out` reads."""
    sub.add_argument(
        "--results",
        type=directory,
        metavar="DIR",
        help=f"where rows go (default {DEFAULT_RESULTS}/SWEEP, SWEEP-smoke or SWEEP-tune)",
    )
    sweep_options(sub)
    sub.add_argument("--download", action="store_true", help="let torchvision download the data set into --data")
    share_options(sub)
    sub.add_argument(
        "--job-hours", type=float, default=math.inf, metavar="H",
        help="a job that runs longer ends as `timeout` (default: no limit)",
    )  # fmt: skip
    sub.add_argument(
        "--break-lock", action="store_true",
        help="take DIR from a run on another machine that has given no sign of life for a minute",
    )  # fmt: skip
    sub.add_argument("--quiet", action="store_true", help="no progress display")
    sub.add_argument(
        "--track", action="append", default=[], metavar="NAME",
        help="tell tensorboard (DIR/_tensorboard), mlflow or wandb of every job as it ends; repeatable",
    )  # fmt: skip
    sub.add_argument(
        "--dry-run", action="store_true",
        help="tell the jobs and what they will cost; run nothing, write nothing, download nothing",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run what is missing of a sweep, then print its report."""
    return carry_out(args, settled(args), print_report)


def carry_out(
    args: argparse.Namespace,
    sweep: Sweep,
    show: Callable[[Path], None],
    ended: Callable[[Path], None] = lambda _results: None,
) -> int:
    """Run what is missing of a sweep that is settled, then show what came of it.

    Args:
        show: takes the results directory.
        ended: likewise, now and then when more jobs have ended.
    """
    from rich.console import Console
    from rich.text import Text

    from tas_bench.costs.latency import LATENCY
    from tas_bench.estimate import estimate
    from tas_bench.latency import Bench, settle
    from tas_bench.preflight import check_images
    from tas_bench.runner.supervisor import Talk, run_sweep
    from tas_bench.signals import Interrupted
    from tas_bench.track import check as check_trackers

    check_trackers(args.track)
    results = args.results or DEFAULT_RESULTS / sweep.name
    resources = resources_of(args, job_seconds=3600 * args.job_hours)
    if args.dry_run:
        return dry_run(sweep, results, args.data, resources)
    fetch(args, sweep.datasets)
    console = Console(stderr=True)
    if sweep.cost == LATENCY:
        check_images(sweep, args.data)  # before a minute of measuring
        resources.check()
        sweep = settle(sweep, Bench.at_hand(resources.cpus, resources.gpus), console, args.quiet)

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    def begin() -> None:
        say(f"{sweep.heading}\nresults: {results}")
        for method in sweep.methods:
            if warning := getattr(method, "warning", None):
                say(f"warning: {method.name}: {warning}")
        expected = estimate(sweep, results, args.data, resources, calibrate=False)
        if expected.large:
            say(str(expected))

    try:
        talk = Talk(begin, say, lambda: ended(results), args.quiet, tuple(args.track))
        done = run_sweep(sweep, results, args.data, resources, talk, args.break_lock)
    except Interrupted as stop:
        say(f"stopped; finished jobs are kept. Go on with: {shlex.join(['tas-bench', *args.argv])}")
        return 128 + stop.signum
    say(f"{done.ran} jobs run, {done.found} found finished")
    show(results)
    return _verdict(done.plans)


def _verdict(plans: Plans) -> int:
    """Exit code of a finished run, with a line for every plan that ended early."""
    for plan in plans.plans:
        if plan.error:
            complain(f"{plan.name}: {plan.error}")
    failed = sum(not outcome.ok for outcome in plans.outcomes.values())
    if failed:
        complain(f"{failed} job{'s'[: failed > 1]} failed; the same command tries again")
    return FAILED_JOBS if failed or any(plan.error for plan in plans.plans) else OK
