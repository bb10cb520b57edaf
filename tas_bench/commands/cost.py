"""`tas-bench cost`: macs, parameters and latency of a backbone, unpruned or at a size."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, path
from tas_bench.errors import OK, InputError

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

EXAMPLES = """
    examples:
      echo '{"widths": [12,12,12,12,12,12,12,25,25,25,25,25,25,50,50,50,50,50,50], "depths": [3,3,3]}' > size.json
      tas-bench cost resnet20 --classes 10 --size size.json --json
      tas-bench cost resnet20 --classes 10 --size size.json --cost latency
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "macs, parameters and latency of a backbone, unpruned or at a size"
    sub = add_command(commands, "cost", cost, about, EXAMPLES)
    sub.add_argument("backbone", metavar="BACKBONE", help="such as resnet32")
    sub.add_argument("--classes", type=int, required=True, metavar="N", help="number of classes")
    sub.add_argument("--size", type=path, metavar="FILE", help='JSON: {"widths": [...], "depths": [...]}')
    sub.add_argument(
        "--cost", default="macs", metavar="NAME", help="macs, params or latency (measured here), for the ratio"
    )
    sub.add_argument("--json", action="store_true", help="print one line of JSON")


def cost(args: argparse.Namespace) -> int:
    """Print what a size costs."""
    from rich.console import Console

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
