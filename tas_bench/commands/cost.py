"""`tas-bench cost`: macs, parameters and latency of a backbone, unpruned or at a size."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from tas_bench.commands.shared import add_command, path
from tas_bench.errors import OK, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tas_bench.backbones.backbone import Backbone
    from tas_bench.commands.shared import Commands
    from tas_bench.costs.layer import Cost, Layer
    from tas_bench.space import Size

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
    from tas_bench.backbones import find_backbone
    from tas_bench.space import read_size

    backbone = find_backbone(args.backbone)
    if not 1 <= args.classes <= 1_000_000:
        raise InputError(f"--classes is {args.classes}; it must be from 1 to 1,000,000")
    size = read_size(args.size) if args.size else backbone.full
    backbone.check(size)
    counted = _counted(args.cost, backbone, args.classes, size)
    found = _found(counted, backbone.layers(args.classes), size, backbone.full)
    sys.stdout.write(json.dumps(found) + "\n" if args.json else _as_text(found, counted.noun, backbone.name))
    return OK


def _counted(name: str, backbone: Backbone, classes: int, size: Size) -> Cost:
    """A deployed cost by its name; "latency" is this device's table, once it has all of these sizes."""
    from rich.console import Console

    from tas_bench.costs import find_budget
    from tas_bench.costs.latency import LATENCY
    from tas_bench.latency import Bench, configs_of_sizes, measured

    if name != LATENCY:
        return find_budget(name)
    wanted = configs_of_sizes(backbone.layers(classes), [size, backbone.full])
    return measured(wanted, Bench.at_hand(), Console(stderr=True)).cost


def _found(counted: Cost, layers: Sequence[Layer], size: Size, full: Size) -> dict[str, Any]:
    """Costs of a size, and the share it has of the unpruned network's in what is counted."""
    from tas_bench.costs import all_costs
    from tas_bench.costs.latency import LATENCY

    mine, whole = counted.of(layers, size), counted.of(layers, full)
    found: dict[str, Any] = {
        name: all_costs()[name].of(layers, size) for name in ("macs", "macs_search", "params")
    }
    found |= {counted.noun: mine, f"unpruned_{counted.noun}": whole, "ratio": mine / whole}
    return found | ({"table": counted.name.partition(":")[2]} if counted.noun == LATENCY else {})


def _as_text(found: dict[str, Any], counted: str, backbone: str) -> str:
    """One line per figure."""
    notes = {
        "macs": "multiply-accumulates of the deployed network",
        "macs_search": "as the released search code counts them",
        "params": "trainable parameters",
        "latency": "nanoseconds per image, summed over layers",
        f"unpruned_{counted}": f"of the unpruned {backbone}",
        "ratio": f"{counted} / unpruned_{counted}",
    }
    width = max(14, 1 + max(map(len, found)))
    lines = []
    for key, value in found.items():
        shown = f"{value:,.4f}" if key == "ratio" else f"{value:,}" if key in notes else value
        lines.append(f"{key:{width}}{shown:>16}  {notes[key]}\n" if key in notes else f"{key:{width}}{shown}\n")
    return "".join(lines)
