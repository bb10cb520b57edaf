"""`tas-bench pack` and `tas-bench unpack`: a results directory in a handful of files, and back."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tas_bench.commands.shared import add_command, directory
from tas_bench.errors import OK

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

EXAMPLES = """\
    examples:
      tas-bench pack results/runs/table1 results/table1         rows.parquet, uses.parquet, curves.parquet ...
      tas-bench report results/table1                           reads it as it is; so does tas_bench.load
      tas-bench unpack results/table1 results/runs/table1       then `tas-bench run` goes on with it

    Weights, checkpoints and logs stay behind: a run that goes on trains again those teachers and
    supernets that it may need.
"""


def add(commands: Commands) -> None:
    """Add the commands."""
    sub = add_command(
        commands, "pack", pack, "put results into a handful of files, to commit or to send", EXAMPLES
    )
    sub.add_argument("results", metavar="DIR", type=directory, help="results directory")
    sub.add_argument("out", metavar="OUT", type=directory, help="folder; an earlier pack in it is replaced")
    sub = add_command(commands, "unpack", unpack, "make a results directory of packed files", EXAMPLES)
    sub.add_argument("packed", metavar="PACKED", type=directory, help="what `pack` wrote")
    sub.add_argument("results", metavar="DIR", type=directory, help="results directory; it gets what it lacks")


def pack(args: argparse.Namespace) -> int:
    """Pack, and say what."""
    from tas_bench.packed import pack as write

    sys.stdout.write(f"{write(args.results, args.out)} rows packed into {args.out}\n")
    return OK


def unpack(args: argparse.Namespace) -> int:
    """Unpack, and say what was missing."""
    from tas_bench.packed import unpack as write

    sys.stdout.write(f"{write(args.packed, args.results)} rows added to {args.results}\n")
    return OK
