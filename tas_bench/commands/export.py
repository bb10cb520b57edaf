"""`tas-bench export`: a trained network, or a directory's results, in the form of another program."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, directory, path
from tas_bench.errors import OK, InputError

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

NETWORKS = ("torch", "onnx")
RESULTS = ("csv", "latex", "optuna", "tensorboard")

EXAMPLES = """
    examples:
      tas-bench export small.safetensors                      small.pt2, a torch.export program
      tas-bench export small.safetensors --to onnx            small.onnx
      tas-bench export small.safetensors --out /tmp/net.pt2
      tas-bench export results/runs/demo --to csv             rows, uses, curves and trajectories
      tas-bench export results/runs/demo --to latex           the report's tables
      tas-bench export results/runs/demo --to optuna          a journal: optuna-dashboard journal.log
      tas-bench export results/runs/demo --to tensorboard     events per job: tensorboard --logdir ...

    An exported network takes batches of any size, of float32 images, normalised by the mean and deviation that are
    printed. It is compared with the network on random images before it is written. A network's file that is there
    stays, unless --out names it.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "write a trained network, or results, in the form of another program"
    sub = add_command(commands, "export", export, about, EXAMPLES)
    sub.add_argument(
        "what", metavar="FILE|DIR", type=directory, help="what `tas-bench train` wrote, or a results directory"
    )
    sub.add_argument(
        "--to", choices=NETWORKS + RESULTS, default="torch",
        help="of a network torch or onnx, of results csv, latex, optuna or tensorboard (default torch)",
    )  # fmt: skip
    sub.add_argument(
        "--out", type=path, metavar="PATH",
        help="where (default beside FILE, as .pt2 or .onnx; of results DIR/_exported/FORM)",
    )  # fmt: skip


def export(args: argparse.Namespace) -> int:
    """Write a network or results; the form tells which."""
    if args.to in RESULTS:
        return _results(args.what, args.to, args.out)
    if not isinstance(args.what, Path) or args.what.is_dir():
        raise InputError(f"{args.what} is no network's file; results take --to {', '.join(RESULTS)}")
    return _network(args.what, args.to, args.out)


def _results(results: Path, form: str, out: Path | None) -> int:
    from tas_bench.exchange import FORMS

    out = out or results / "_exported" / form
    if not isinstance(out, Path):
        raise InputError(f"{results} lies in an object store; give --out, a folder here")
    written = FORMS[form](results, out)
    sys.stdout.write(f"{len(written)} written to {out}\n")
    return OK


def _network(file: Path, form: str, out: Path | None) -> int:
    """Write a network, and compare what was written with it."""
    from tas_bench.export import SUFFIXES, check_packages
    from tas_bench.export import export as write
    from tas_bench.saved import check_writable, image_of, read_network

    suffix = SUFFIXES[form]
    if out and out.suffix != suffix:
        raise InputError(f"--out is '{out}'; --to {form} writes a file that ends in {suffix}")
    check_packages(form)
    network, about = read_network(file)
    target = out or file.with_suffix(suffix)
    check_writable(target)
    if out is None and target.exists():
        raise InputError(f"'{target}' is there already; give --out, it may name this file")
    image = image_of(about)
    worst = write(network, image, about, form, target)
    mean, std = about.get("mean", "?"), about.get("std", "?")
    shape = f"(batch, {image.channels}, {image.side}, {image.side})"
    apart = f"its logits differ from the network's by at most {worst:.1e} of the greatest"
    sys.stdout.write(f"{target} written; {apart}\n")
    sys.stdout.write(f"input: float32 {shape}, pixels in [0, 1] less {mean}, divided by {std}\n")
    return OK
