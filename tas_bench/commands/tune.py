"""`tas-bench tune`: which lambda_cost and t to take, and how sure that is."""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tas_bench.commands.run import carry_out, run_options
from tas_bench.commands.shared import add_command, settled
from tas_bench.errors import InputError

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands
    from tas_bench.sweep import Sweep

log = logging.getLogger("tas_bench")

DEFAULT = "lambda_tolerance"

EVERY = 15.0
"""Seconds, at least, between two looks at the rows for the study while it runs."""

EXAMPLES = f"""
    examples:
      tas-bench tune --smoke                          on digits, minutes on 2 cores
      tas-bench tune demo
      tas-bench tune table1 --data DIR --over lambda_cost=0.5/1/2/4 --over t=0.02/0.05/0.1 --set tune.repeats=3
      tas-bench tune table1 --data DIR --sampler motpe --trials 40 --over lambda_cost=0.1:10:log --over t=0.02:0.1
      tas-bench tune demo --sampler tpe --objectives gap --trials 9 --over lambda_cost=0.1:9:log --over samples=2:4
      tas-bench tune demo --set tune.stop_after=0.4   gives up searches that stay far from the band

    What can be tuned: lambda_cost, t, arch_lr, arch_weight_decay, tau_start, tau_end, samples, search_epochs.
    Samplers: grid, random, tpe (one objective), motpe and nsga2 (several). Objectives: accuracy (of the derived
    size after tune.train_epochs), gap (|F - R| / R of the argmax), cost (training macs of the search). Any sweep
    with one TAS in it can be tuned; `tas-bench list {DEFAULT}` shows all that --set takes.
    Stop it whenever you like: the same command goes on where it was, and a larger --trials adds to what is there.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "tune lambda_cost, t and other settings of TAS"
    sub = add_command(commands, "tune", tune, about, EXAMPLES)
    sub.add_argument("sweep", metavar="SWEEP", nargs="?", default=DEFAULT, help=f"whose TAS (default {DEFAULT})")
    sub.add_argument(
        "--over", action="append", default=[], metavar="NAME=VALUES",
        help="what to tune: NAME=V1/V2/..., NAME=LOW:HIGH or NAME=LOW:HIGH:log; repeatable",
    )  # fmt: skip
    sub.add_argument("--sampler", metavar="NAME", help="grid, random, tpe, motpe or nsga2")
    sub.add_argument("--trials", metavar="N", help="how many in all (default: the grid's points, else 20)")
    sub.add_argument("--objectives", metavar="NAMES", help="of accuracy, gap and cost, with commas between")
    run_options(sub)


def tune(args: argparse.Namespace) -> int:
    """Run what is missing of a tuning, then tell what to take."""
    from rich.console import Console

    from tas_bench.tune.answer import show

    args.set += _settings(args)
    sweep = settled(args, tunable)
    if sweep.cost != "macs":
        raise InputError(f"tuning compares F with R in macs; the budget is in {sweep.cost}: leave --set cost out")
    return carry_out(args, sweep, lambda results: show(sweep, results, Console()), _Keeper(sweep))


def tunable(sweep: Sweep) -> Sweep:
    """The sweep itself where it is a tuning; else one of its TAS, under a name of its own.

    Raises:
        InputError: it has no TAS, or several.
    """
    from tas_bench.tas import Tas
    from tas_bench.tune import Tuning
    from tas_bench.variant import settings_of

    if any(isinstance(method, Tuning) for method in sweep.methods):
        return sweep
    found = [tas for tas in map(settings_of, sweep.methods) if isinstance(tas, Tas)]
    if len(found) != 1:
        raise InputError(f"{sweep.name} has {len(found) or 'no'} TAS to tune; take a sweep with one, as {DEFAULT}")
    return replace(
        sweep, name=f"{sweep.name}-tune", methods=(Tuning(tas=found[0]),), transfers=(), seeds=sweep.seeds[:1],
        shortened={},
    )  # fmt: skip


def _settings(args: argparse.Namespace) -> list[str]:
    """The command's own options as --set takes them."""
    options = {
        "over": ",".join(args.over),
        "sampler": args.sampler,
        "trials": args.trials,
        "objectives": args.objectives,
    }
    return [f"tune.{name}={value}" for name, value in options.items() if value]


class _Keeper:
    """Brings the study up to date while the tuning runs, for whoever looks at it with optuna-dashboard."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.due = sweep, 0.0

    def __call__(self, results: Path) -> None:
        from tas_bench.tune.answer import keep_studies

        began = time.monotonic()
        if began < self.due:
            return
        try:
            keep_studies(self.sweep, results, failed=False)
        except Exception:  # what is made of the rows must not end the run that makes them
            log.exception("the study is not up to date")
        self.due = time.monotonic() + max(EVERY, 10 * (time.monotonic() - began))
