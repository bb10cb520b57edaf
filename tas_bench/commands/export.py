"""`tas-bench export`: a trained network as a file that runs without tas_bench."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, path
from tas_bench.errors import OK, InputError

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

EXAMPLES = """
    examples:
      tas-bench export small.safetensors                    small.pt2, a torch.export program
      tas-bench export small.safetensors --to onnx          small.onnx
      tas-bench export small.safetensors --out /tmp/net.pt2

    Both take batches of any size, float32 images less the mean and by the deviation that is printed. It is
    compared with the network on random images before it is written. A file that is there stays, unless --out
    names it.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "write a trained network as a torch.export program or as ONNX"
    sub = add_command(commands, "export", export, about, EXAMPLES)
    sub.add_argument("file", metavar="FILE", type=path, help="what `tas-bench train` wrote")
    sub.add_argument("--to", choices=("torch", "onnx"), default="torch", help="what to write (default torch)")
    sub.add_argument("--out", type=path, metavar="PATH", help="where (default beside FILE, as .pt2 or .onnx)")


def export(args: argparse.Namespace) -> int:
    """Write a network, and compare what was written with it."""
    from tas_bench.export import SUFFIXES, check_packages
    from tas_bench.export import export as write
    from tas_bench.saved import check_writable, image_of, read_network

    suffix = SUFFIXES[args.to]
    if args.out and args.out.suffix != suffix:
        raise InputError(f"--out is '{args.out}'; --to {args.to} writes a file that ends in {suffix}")
    check_packages(args.to)
    network, about = read_network(args.file)
    out: Path = args.out or args.file.with_suffix(suffix)
    check_writable(out)
    if args.out is None and out.exists():
        raise InputError(f"'{out}' is there already; give --out, it may name this file")
    image = image_of(about)
    worst = write(network, image, about, args.to, out)
    mean, std = about.get("mean", "?"), about.get("std", "?")
    shape = f"(batch, {image.channels}, {image.side}, {image.side})"
    apart = f"its logits differ from the network's by at most {worst:.1e} of the greatest"
    sys.stdout.write(f"{out} written; {apart}\n")
    sys.stdout.write(f"input: float32 {shape}, pixels in [0, 1] less {mean}, divided by {std}\n")
    return OK
