"""What several commands share: the parser, paths, complaints, and what discovery finds."""

from __future__ import annotations

import argparse
import contextlib
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tas_bench.errors import InputError, TasBenchError, unknown
from tas_bench.files import path_of
from tas_bench.text import one_line

if TYPE_CHECKING:
    from tas_bench.resources import Resources
    from tas_bench.sweep import Sweep

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT_RESULTS = Path("results/runs")
DATA_HELP = "CIFAR as torchvision's or parquet, or train/CLASS and val/CLASS"


def complain(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"tas-bench: error: {one_line(message)[:1000]}\n")


def warn_left_out(damaged: Iterable[str]) -> None:
    """A line on stderr per file that is damaged."""
    for line in damaged:
        sys.stderr.write(f"warning: left out: {one_line(line)}\n")


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Tell it, with where to read more."""
        raise InputError(f"{message} (see {self.prog} --help)")


def add_command(
    commands: Commands, name: str, function: Callable[[argparse.Namespace], int], about: str, examples: str
) -> argparse.ArgumentParser:
    """A command's own parser."""
    sub = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=textwrap.dedent(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    sub.set_defaults(command=function)
    return sub


def path(text: str) -> Path:
    """An argument that names a file or a folder."""
    if not text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no path")
    return Path(text)


def directory(text: str) -> Path:
    """An argument that names a results directory: a folder, or a URL of an object store.

    Raises:
        InputError: a URL that cannot be used.
    """
    return path_of(str(path(text)) if "://" not in text else text)


def settings_of(texts: Iterable[str]) -> dict[str, str]:
    """What --set was given, by key.

    Raises:
        InputError: not key=value, or a key twice.
    """
    settings: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--set takes key=value, not '{text}'")
        if key in settings:
            raise InputError(f"--set {key} is given twice")
        settings[key] = value
    return settings


def fetch(args: argparse.Namespace, datasets: Iterable[str]) -> None:
    """What --download asks for.

    Raises:
        InputError: no folder to put it into, or the download failed.
    """
    from tas_bench.data import download

    if args.download:
        if args.data is None:
            raise InputError("--download needs --data DIR to put the files in")
        for dataset in datasets:
            download(dataset, args.data)


def find_sweep(name: str) -> Sweep:
    """The sweep of that name.

    Raises:
        InputError: there is none; the near miss is suggested.
    """
    sweeps = catalogue()["sweeps"]
    if name not in sweeps:
        raise unknown("sweep", name, sweeps)
    found: Sweep = sweeps[name]
    return found


def sweep_options(sub: argparse.ArgumentParser) -> None:
    """What `settled` reads, and `--data`."""
    sub.add_argument("--smoke", action="store_true", help="the sweep's own minutes-long version")
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting; repeatable"
    )
    sub.add_argument("--data", type=path, metavar="DIR", help=DATA_HELP)
    sub.add_argument("--train-subset", metavar="N", help="train on a fixed stratified part of N images")


def share_options(sub: argparse.ArgumentParser) -> None:
    """What `resources_of` reads."""
    sub.add_argument("--address", metavar="HOST:PORT", help="join a running Ray cluster, or `auto`")
    sub.add_argument(
        "--cpus-per-job", action="append", default=[], metavar="[KIND=]X",
        help="CPU cores a job holds (default 1); with KIND (teacher, search, supernet ...), of such jobs alone",
    )  # fmt: skip
    sub.add_argument(
        "--gpus-per-job", action="append", default=[], metavar="[KIND=]X",
        help="share of a GPU (default 0.25 where there is one); KIND=X for jobs of that kind alone",
    )  # fmt: skip


def resources_of(args: argparse.Namespace, **more: Any) -> Resources:
    """What jobs hold, and where."""
    from tas_bench.resources import Resources, shares_of

    cpus, cpus_of = shares_of("--cpus-per-job", args.cpus_per_job)
    gpus, gpus_of = shares_of("--gpus-per-job", args.gpus_per_job)
    cpus = 1 if cpus is None else cpus
    return Resources(address=args.address, cpus=cpus, gpus=gpus, cpus_of=cpus_of, gpus_of=gpus_of, **more)


def settled(args: argparse.Namespace, change: Callable[[Sweep], Sweep] = lambda sweep: sweep) -> Sweep:
    """The sweep as the command line wants it: --smoke, --set, --train-subset, and the slots there are.

    Args:
        change: made before single settings are.

    Raises:
        InputError: no such sweep or setting, or a value out of range.
    """
    from tas_bench.settings import for_slots, smoke, with_settings
    from tas_bench.store import Store

    sweep = find_sweep(args.sweep)
    if args.smoke:
        sweep = smoke(sweep)
    sweep = change(sweep)
    settings = settings_of(args.set)
    if args.train_subset is not None:
        settings["train_subset"] = args.train_subset
    known = catalogue()
    sweep = with_settings(sweep, settings, {"methods": known["methods"], "transfers": known["transfers"]})
    manifest = None
    with contextlib.suppress(TasBenchError):  # who reads it later tells of it
        manifest = Store(args.results or DEFAULT_RESULTS / sweep.name).manifest()
    return for_slots(sweep, resources_of(args).side_by_side, manifest)


def catalogue() -> dict[str, dict[str, Any]]:
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
