"""`tas-bench train`: train one size by hand and write it to a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tas_bench.commands.shared import DATA_HELP, DEFAULT_RESULTS, add_command, directory, fetch, path, settings_of
from tas_bench.errors import OK

if TYPE_CHECKING:
    from rich.console import Console

    from tas_bench.backbones.backbone import ImageShape
    from tas_bench.commands.shared import Commands
    from tas_bench.jobs import Context
    from tas_bench.store import Row
    from tas_bench.train import Train

RESULTS = DEFAULT_RESULTS / "train"
SMALL = 16
"""Images of a smaller side are trained on one core: more would wait for each other."""

STOPPED = "stopped; the same command goes on from the last checkpoint (one every 30 s, between epochs)"

EXAMPLES = """
    examples:
      tas-bench train resnet20                        unpruned, on digits: minutes on a laptop
      tas-bench train resnet20 --size size.json --transfer kd --out small.safetensors --set epochs=100
      tas-bench train resnet32 --size size.json --transfer kd --set kd=paper --dataset cifar100 --data DIR
      tas-bench export small.safetensors              the network as a torch.export program

    A size file holds {"widths": [...], "depths": [...]}. A teacher is trained once and found finished by those
    who learn from it later. Stop it whenever you like: the same command goes on from a checkpoint.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "train one size by hand and write it to a file"
    sub = add_command(commands, "train", train, about, EXAMPLES)
    sub.add_argument("backbone", metavar="BACKBONE", help="such as resnet20")
    sub.add_argument("--size", type=path, metavar="FILE", help="the size, as JSON (default unpruned)")
    sub.add_argument("--transfer", default="scratch", metavar="NAME", help="scratch (default), init, kd ...")
    sub.add_argument("--dataset", default="digits", metavar="NAME", help="such as cifar10 (default digits)")
    sub.add_argument("--data", type=path, metavar="DIR", help=DATA_HELP)
    sub.add_argument("--download", action="store_true", help="let torchvision download the data set into --data")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all randomness (default 0)")
    sub.add_argument("--train-subset", metavar="N", help="train on a fixed stratified part of N images")
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="a setting of recipe or transfer: epochs=30 (default 300), batch=64 (256), lr=0.05 (0.1), kd=paper;"
        " also teacher_epochs",
    )  # fmt: skip
    sub.add_argument("--cpus", type=float, metavar="N", help="CPU cores to use (default all; 1 for digits)")
    sub.add_argument("--gpus", type=float, metavar="X", help="0 for none (default 1 where there is one)")
    sub.add_argument(
        "--results", type=directory, metavar="DIR", help=f"where rows and weights go (default {RESULTS})"
    )
    sub.add_argument("--out", type=path, metavar="FILE", help="what to write (default BACKBONE.safetensors)")
    sub.add_argument("--quiet", action="store_true", help="no progress display")


def train(args: argparse.Namespace) -> int:
    """Train what is missing, and write the network's file."""
    from rich.console import Console

    from tas_bench.data import check_data, dataset_info, train_count
    from tas_bench.jobs import job_id
    from tas_bench.preflight import check_last_batch
    from tas_bench.saved import check_out
    from tas_bench.signals import Interrupted

    job = _job(args)
    out: Path = args.out or Path(f"{args.backbone}.safetensors")
    check_out(out, None if args.out else job_id(job))
    context, console = _context(args, dataset_info(job.data.name).image), Console(stderr=True)
    fetch(args, [job.data.name])
    fingerprint = check_data(job.data, args.data, job.recipe.holdout)
    count = train_count(job.data, args.data)
    parts = [count - round(count * job.recipe.holdout)]
    check_last_batch(job.backbone_name, job.data, job.recipe, parts)
    try:
        row = _write(job, fingerprint, context, console, out, args.quiet)
    except Interrupted as stop:
        console.print(STOPPED, highlight=False, soft_wrap=True)
        return 128 + stop.signum
    sys.stdout.write(f"{_told(job, row)}\n")
    sys.stdout.write(f"{out} written; `tas-bench export {out}` makes a torch.export program of it\n")
    return OK


def _job(args: argparse.Namespace) -> Train:
    """The training as the command line wants it."""
    from tas_bench.by_hand import job_of
    from tas_bench.space import read_size

    settings = settings_of(args.set)
    if args.train_subset is not None:
        settings["train_subset"] = args.train_subset
    size = read_size(args.size) if args.size else None
    return job_of(args.backbone, size, args.transfer, args.dataset, args.seed, settings)


def _context(args: argparse.Namespace, image: ImageShape) -> Context:
    """The GPU if there is one, and all cores, unless told otherwise."""
    import torch

    from tas_bench.jobs import Context
    from tas_bench.resources import Resources

    cpus = float(1 if image.side < SMALL else Resources().total[0]) if args.cpus is None else args.cpus
    gpus = float(torch.cuda.is_available()) if args.gpus is None else args.gpus
    Resources(cpus=cpus, gpus=gpus).check()
    return Context(results=args.results or RESULTS, data_root=args.data, cpus=cpus, gpus=gpus)


def _write(job: Train, fingerprint: str, context: Context, console: Console, out: Path, quiet: bool) -> Row:
    """Train the job and write its file; its row."""
    from tas_bench.by_hand import train_by_hand
    from tas_bench.jobs import job_id, weights_path
    from tas_bench.saved import metadata_of, write_network
    from tas_bench.store import Store
    from tas_bench.tables import read_weights

    store = Store(context.results)
    with store.lock():
        store.claim_data({job.data.name: fingerprint})
        row = train_by_hand(job, store, context, console, quiet)
        about = metadata_of(row, fingerprint)
        write_network(out, read_weights(weights_path(context.results, job_id(job))), about)
    return row


def _told(job: Train, row: Row) -> str:
    """What came out, in one line."""
    from tas_bench.backbones import find_backbone
    from tas_bench.costs import all_costs
    from tas_bench.data import dataset_info

    backbone, info, costs = find_backbone(job.backbone_name), dataset_info(job.data.name), all_costs()
    layers, told = backbone.layers(info.classes, info.image), []
    for name in ("macs", "params"):
        share = row[name] / costs[name].of(layers, backbone.full)
        told.append(f"{costs[name].amount(row[name])} {name} ({share:.1%} of the unpruned network's)")
    accuracy = f"{100 * row['test_accuracy']:.2f} % of the test images of {info.name} right"
    return f"{backbone.name}, {job.transfer.name}: {accuracy}; {', '.join(told)}"
