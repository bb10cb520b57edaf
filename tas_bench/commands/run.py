"""`tas-bench run`: run what is missing of a sweep, then print its report."""

from __future__ import annotations

import argparse
import math
import shlex
from typing import TYPE_CHECKING

from tas_bench.commands.report import print_report
from tas_bench.commands.shared import (
    DATA_HELP,
    DEFAULT_RESULTS,
    add_command,
    catalogue,
    complain,
    directory,
    fetch,
    find_sweep,
    path,
    settings_of,
)
from tas_bench.errors import FAILED_JOBS, OK

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands
    from tas_bench.plans import Plans
    from tas_bench.resources import Resources
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
    sub.add_argument(
        "--results", type=directory, metavar="DIR", help=f"where rows go (default {DEFAULT_RESULTS}/SWEEP)"
    )
    sub.add_argument("--smoke", action="store_true", help="the sweep's own minutes-long version")
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting; repeatable"
    )
    sub.add_argument("--data", type=path, metavar="DIR", help=DATA_HELP)
    sub.add_argument("--download", action="store_true", help="let torchvision download the data set into --data")
    sub.add_argument("--train-subset", metavar="N", help="train on a fixed stratified part of N images")
    sub.add_argument("--address", metavar="HOST:PORT", help="join a running Ray cluster, or `auto`")
    sub.add_argument(
        "--cpus-per-job", action="append", default=[], metavar="[KIND=]X",
        help="CPU cores a job holds (default 1); with KIND, of teacher, search, candidate or final jobs alone",
    )  # fmt: skip
    sub.add_argument(
        "--gpus-per-job", action="append", default=[], metavar="[KIND=]X",
        help="share of a GPU (default 0.25 where there is one); likewise",
    )  # fmt: skip
    sub.add_argument(
        "--job-hours", type=float, default=math.inf, metavar="H",
        help="a job that runs longer ends as `timeout` (default: no limit)",
    )  # fmt: skip
    sub.add_argument(
        "--break-lock", action="store_true",
        help="take DIR from a run on another machine that has given no sign of life for a minute",
    )  # fmt: skip
    sub.add_argument("--quiet", action="store_true", help="no progress display")


def run(args: argparse.Namespace) -> int:
    """Run what is missing of a sweep, then print its report."""
    from rich.console import Console
    from rich.text import Text

    from tas_bench.costs.latency import LATENCY
    from tas_bench.data import check_data
    from tas_bench.latency import Bench, settle
    from tas_bench.runner import Talk, run_sweep
    from tas_bench.signals import Interrupted

    sweep = _settle(args)
    fetch(args, sweep.datasets)
    results = args.results or DEFAULT_RESULTS / sweep.name
    resources = _resources(args)
    console = Console(stderr=True)
    if sweep.cost == LATENCY:
        for problem in sweep.problems:  # before a minute of measuring
            check_data(problem.data, args.data, problem.recipe.holdout)
        resources.check()
        sweep = settle(sweep, Bench.at_hand(resources.cpus, resources.gpus), console, args.quiet)

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    def begin() -> None:
        say(f"{sweep.heading}\nresults: {results}")
        for method in sweep.methods:
            if warning := getattr(method, "warning", None):
                say(f"warning: {method.name}: {warning}")

    try:
        done = run_sweep(sweep, results, args.data, resources, Talk(begin, say, args.quiet), args.break_lock)
    except Interrupted as stop:
        say(f"stopped; finished jobs are kept. Go on with: {shlex.join(['tas-bench', *args.argv])}")
        return 128 + stop.signum
    say(f"{done.ran} jobs run, {done.found} found finished")
    print_report(results)
    return _verdict(done.plans)


def _resources(args: argparse.Namespace) -> Resources:
    """What jobs hold, and where."""
    from tas_bench.resources import Resources, shares_of

    cpus, cpus_of = shares_of("--cpus-per-job", args.cpus_per_job)
    gpus, gpus_of = shares_of("--gpus-per-job", args.gpus_per_job)
    return Resources(
        address=args.address, cpus=1 if cpus is None else cpus, gpus=gpus, cpus_of=cpus_of, gpus_of=gpus_of,
        job_seconds=3600 * args.job_hours,
    )  # fmt: skip


def _settle(args: argparse.Namespace) -> Sweep:
    """The sweep as the command line wants it."""
    from tas_bench.settings import smoke, with_settings

    sweep = find_sweep(args.sweep)
    if args.smoke:
        sweep = smoke(sweep)
    settings = settings_of(args.set)
    if args.train_subset is not None:
        settings["train_subset"] = args.train_subset
    known = catalogue()
    return with_settings(sweep, settings, {"methods": known["methods"], "transfers": known["transfers"]})


def _verdict(plans: Plans) -> int:
    """Exit code of a finished run, with a line for every plan that ended early."""
    for plan in plans.plans:
        if plan.error:
            complain(f"{plan.name}: {plan.error}")
    failed = sum(not outcome.ok for outcome in plans.outcomes.values())
    if failed:
        complain(f"{failed} job{'s'[: failed > 1]} failed; the same command tries again")
    return FAILED_JOBS if failed or any(plan.error for plan in plans.plans) else OK
