"""The command `tas-bench`: run | report | list | cost."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.text import Text

from tas_bench.errors import FAILED_JOBS, INTERNAL, IO_FAULT, OK, InputError, TasBenchError, unknown
from tas_bench.text import one_line

if TYPE_CHECKING:
    from tas_bench.plans import Plans
    from tas_bench.sweep import Sweep

DEFAULT_RESULTS = Path("results/runs")
logging.getLogger("tas_bench").addHandler(logging.NullHandler())  # a run logs to files, not to the terminal

EXAMPLES = """
examples:
  tas-bench list                                  what there is to run
  tas-bench run demo                              Table 1's layout on digits, minutes on a laptop
  tas-bench run table1 --smoke --data DIR         a minutes-long version on real CIFAR-100
  tas-bench run table1 --data DIR --set seeds=0,1,2,3,4 --set tas.lambda_cost=4
  tas-bench run table1 --data DIR --address auto  on a running Ray cluster
  tas-bench report results/runs/demo              the tables of what has finished so far
  tas-bench cost resnet32 --classes 100           what the unpruned network costs

exit codes: 0 complete, 1 internal fault, 2 bad input, 3 finished with failed jobs, 4 store damaged,
5 I/O, 130 / 143 stopped by a signal. A stopped run goes on with the same command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        return int(args.command(args))
    except TasBenchError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return IO_FAULT
    except OSError as error:
        _complain(f"{error.filename or 'I/O'}: {error.strerror or error}")
        return IO_FAULT
    except Exception as error:
        logging.getLogger("tas_bench").exception("internal fault")
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        _complain(f"internal fault, please report it: {type(error).__name__} at {place}: {error}")
        return INTERNAL


def _complain(message: str) -> None:
    sys.stderr.write(f"tas-bench: error: {one_line(message)[:1000]}\n")


# ---- commands


def run(args: argparse.Namespace) -> int:
    """`tas-bench run`: run what is missing of a sweep, then print its report."""
    from tas_bench.costs.latency import LATENCY
    from tas_bench.data import check_data, download
    from tas_bench.latency import Bench, settle
    from tas_bench.progress import Progress
    from tas_bench.resources import Resources
    from tas_bench.runner import run_sweep
    from tas_bench.signals import Interrupted

    sweep = _settle(args)
    if args.download:
        if args.data is None:
            raise InputError("--download needs --data DIR to put the files in")
        for dataset in sweep.datasets:
            download(dataset, args.data)
    results = args.results or DEFAULT_RESULTS / sweep.name
    resources = Resources(address=args.address, cpus=args.cpus_per_job, gpus=args.gpus_per_job)
    console = Console(stderr=True)
    if sweep.cost == LATENCY:
        for problem in sweep.problems:  # before a minute of measuring
            check_data(problem.data, args.data)
        resources.check()
        sweep = settle(sweep, Bench.at_hand(args.cpus_per_job, args.gpus_per_job), console, args.quiet)

    def progress() -> Progress:  # called when nothing stands against the run: a refusal is one line
        console.print(Text(f"{sweep.heading}\nresults: {results}"), soft_wrap=True)
        for method in sweep.methods:
            if warning := getattr(method, "warning", None):
                console.print(Text(f"warning: {method.name}: {warning}"), soft_wrap=True)
        return Progress(console, sweep.jobs, args.quiet)

    try:
        plans = run_sweep(sweep, results, args.data, resources, progress)
    except Interrupted as stop:
        console.print("stopped; finished jobs are kept. Go on with the same command.", highlight=False)
        return 128 + stop.signum
    ran = len(plans.outcomes) - plans.replayed
    console.print(f"{ran} jobs run, {plans.replayed} found finished", highlight=False)
    _print_report(results)
    return _verdict(plans)


def report(args: argparse.Namespace) -> int:
    """`tas-bench report`: print the tables of a results directory and write them beside the rows."""
    _print_report(args.results)
    return OK


def show(args: argparse.Namespace) -> int:
    """`tas-bench list`: what there is, or the settings of one sweep."""
    from tas_bench.settings import preset_names, setting_names

    if args.sweep:
        sweep = _find_sweep(args.sweep)
        for key, value in setting_names(sweep).items():
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            sys.stdout.write(f"--set {key}={shown}\n")
        for key, presets in preset_names(sweep).items():
            sys.stdout.write(f"presets: --set {key}={'|'.join(presets)}\n")
        return OK
    for heading, things in _catalogue().items():
        sys.stdout.write(f"{heading}\n")
        for name, thing in sorted(things.items()):
            sys.stdout.write(f"  {name:16}{_about(thing)}\n")
    return OK


def cost(args: argparse.Namespace) -> int:
    """`tas-bench cost`: macs, parameters and latency of a backbone, unpruned or at a size."""
    from tas_bench.backbones import find_backbone
    from tas_bench.figures import as_json, as_text, figures
    from tas_bench.space import read_size

    backbone = find_backbone(args.backbone)
    if not 1 <= args.classes <= 1_000_000:
        raise InputError(f"--classes is {args.classes}; it must be from 1 to 1,000,000")
    size = read_size(args.size) if args.size else backbone.full
    backbone.check(size)
    found = figures(backbone, args.classes, size, args.cost, Console(stderr=True))
    sys.stdout.write(as_json(found) if args.json else as_text(found, backbone))
    return OK


# ---- what the commands share


def _settle(args: argparse.Namespace) -> Sweep:
    """The sweep as the command line wants it."""
    from tas_bench.settings import smoke, with_settings

    sweep = _find_sweep(args.sweep)
    if args.smoke:
        sweep = smoke(sweep)
    settings: dict[str, str] = {}
    for text in args.set:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--set takes key=value, not '{text}'")
        if key in settings:
            raise InputError(f"--set {key} is given twice")
        settings[key] = value
    if args.train_subset is not None:
        settings["train_subset"] = args.train_subset
    known = _catalogue()
    return with_settings(sweep, settings, {"methods": known["methods"], "transfers": known["transfers"]})


def _find_sweep(name: str) -> Sweep:
    sweeps = _catalogue()["sweeps"]
    if name not in sweeps:
        raise unknown("sweep", name, sweeps)
    found: Sweep = sweeps[name]
    return found


def _catalogue() -> dict[str, dict[str, Any]]:
    """Everything that discovery finds. `baselines` and `sweeps` lie above this package: they are found by name."""
    from tas_bench.backbones import all_backbones
    from tas_bench.costs import all_costs
    from tas_bench.costs.latency import LATENCY, find_latency
    from tas_bench.data import all_datasets
    from tas_bench.discover import classes, instances
    from tas_bench.sweep import Sweep
    from tas_bench.tas import Tas
    from tas_bench.transfer import all_transfers

    return {
        "sweeps": instances("sweeps", Sweep),
        "methods": {Tas.name: Tas} | classes("baselines", has="plan"),
        "transfers": dict(all_transfers()),
        "backbones": dict(all_backbones()),
        "datasets": dict(all_datasets()),
        "costs": all_costs() | {LATENCY: find_latency},
    }


def _about(thing: Any) -> str:
    """One line on a thing in the catalogue."""
    if hasattr(thing, "title"):
        return str(thing.title)
    if hasattr(thing, "convs"):
        return f"{len(thing.convs)} widths, stages of {' + '.join(str(s.blocks) for s in thing.stages)} blocks"
    if hasattr(thing, "classes"):
        return f"{thing.classes} classes, {thing.image.channels} x {thing.image.side} x {thing.image.side}"
    text = sys.modules[thing.of_layer.__module__ if hasattr(thing, "of_layer") else thing.__module__].__doc__ or ""
    return text.strip().splitlines()[0]


def _print_report(results: Path) -> None:
    from tas_bench.report import report as write_report
    from tas_bench.store import Store, load

    rows, uses = load(results), load(results, table="uses")
    manifest = Store(results).manifest()
    if manifest is None or rows.empty:
        raise InputError(f"{results} holds no results yet; `tas-bench run` makes some")
    write_report(rows, uses, manifest, results / "_report", Console())


def _verdict(plans: Plans) -> int:
    """Exit code of a finished run, with a line for every plan that ended early."""
    for plan in plans.plans:
        if plan.error:
            _complain(f"{plan.name}: {plan.error}")
    failed = sum(not outcome.ok for outcome in plans.outcomes.values())
    if failed:
        _complain(f"{failed} job{'s'[: failed > 1]} failed; the same command tries again")
    return FAILED_JOBS if failed or any(plan.error for plan in plans.plans) else OK


# ---- the command line


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _path(text: str) -> Path:
    if not text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no path")
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tas-bench",
        description="Compare ways of choosing a CNN's width and depth under a cost budget.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(
        name: str, function: Callable[[argparse.Namespace], int], about: str, more: str = ""
    ) -> argparse.ArgumentParser:
        more = more or "\n".join(["example:", *(x for x in EXAMPLES.split("\n") if f"tas-bench {name} " in x)])
        sub = commands.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", epilog=textwrap.dedent(more),
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip
        sub.set_defaults(command=function)
        return sub

    _add_run(command("run", run, "run what is missing of a sweep, and print its report", RUN_EXAMPLES))
    sub = command("report", report, "print the tables of a results directory, finished or not")
    sub.add_argument("results", metavar="DIR", type=_path, help="results directory")
    sub = command("list", show, "what there is: sweeps, methods, transfers, backbones, data sets, costs")
    sub.add_argument("sweep", metavar="SWEEP", nargs="?", help="show what --set can change in this sweep")
    sub = command("cost", cost, "macs, parameters and latency of a backbone, unpruned or at a size", COST_EXAMPLES)
    sub.add_argument("backbone", metavar="BACKBONE", help="such as resnet32")
    sub.add_argument("--classes", type=int, required=True, metavar="N", help="number of classes")
    sub.add_argument("--size", type=_path, metavar="FILE", help='JSON: {"widths": [...], "depths": [...]}')
    sub.add_argument(
        "--cost", default="macs", metavar="NAME", help="macs, params or latency (measured here), for the ratio"
    )
    sub.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


RUN_EXAMPLES = """
    examples:
      tas-bench run demo
      tas-bench run table1 --smoke --data DIR
      tas-bench run table1 --data DIR --set methods=tas,ratio --set transfers=kd --set tas=released
      tas-bench run table1 --data DIR --address 10.0.0.1:6379 --gpus-per-job 0.25

    `tas-bench list SWEEP` shows every key that --set takes. Stop it whenever you like: the same command goes
    on where it was, and finished jobs are never run again.
"""

COST_EXAMPLES = """
    examples:
      echo '{"widths": [12,12,12,12,12,12,12,25,25,25,25,25,25,50,50,50,50,50,50], "depths": [3,3,3]}' > size.json
      tas-bench cost resnet20 --classes 10 --size size.json --json
      tas-bench cost resnet20 --classes 10 --size size.json --cost latency
"""


def _add_run(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("sweep", metavar="SWEEP", help="its name, as `tas-bench list` shows it")
    sub.add_argument(
        "--results", type=_path, metavar="DIR", help=f"where rows go (default {DEFAULT_RESULTS}/SWEEP)"
    )
    sub.add_argument("--smoke", action="store_true", help="the sweep's own minutes-long version")
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting; repeatable"
    )
    sub.add_argument(
        "--data", type=_path, metavar="DIR", help="CIFAR as torchvision's or parquet, or train/CLASS and val/CLASS"
    )
    sub.add_argument("--download", action="store_true", help="let torchvision download the data set into --data")
    sub.add_argument("--train-subset", metavar="N", help="train on a fixed stratified part of N images")
    sub.add_argument("--address", metavar="HOST:PORT", help="join a running Ray cluster, or `auto`")
    sub.add_argument(
        "--cpus-per-job", type=float, default=1, metavar="X", help="CPU cores a job holds (default 1)"
    )
    sub.add_argument(
        "--gpus-per-job", type=float, metavar="X", help="share of a GPU (default 0.25 where there is one)"
    )
    sub.add_argument("--quiet", action="store_true", help="no progress display")
