"""`tas-bench list`: what there is, or the settings of one sweep."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tas_bench.commands.shared import add_command, catalogue, find_sweep
from tas_bench.errors import OK

if TYPE_CHECKING:
    from tas_bench.commands.shared import Commands

EXAMPLES = """\
    examples:
      tas-bench list                                  what there is to run
      tas-bench list table1                           every setting that --set takes
"""


def add(commands: Commands) -> None:
    """Add the command."""
    about = "what there is: sweeps, methods, transfers, backbones, data sets, costs"
    sub = add_command(commands, "list", show, about, EXAMPLES)
    sub.add_argument("sweep", metavar="SWEEP", nargs="?", help="show what --set can change in this sweep")


def show(args: argparse.Namespace) -> int:
    """What there is, or the settings of one sweep."""
    from tas_bench.settings import preset_names, setting_names

    if args.sweep:
        sweep = find_sweep(args.sweep)
        for key, value in setting_names(sweep).items():
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            sys.stdout.write(f"--set {key}={shown}\n")
        for key, presets in preset_names(sweep).items():
            sys.stdout.write(f"presets: --set {key}={'|'.join(presets)}\n")
        return OK
    for heading, things in catalogue().items():
        sys.stdout.write(f"{heading}\n")
        width = max(map(len, things), default=0) + 2
        for name, thing in sorted(things.items()):
            missing = thing.missing() if hasattr(thing, "missing") else None
            sys.stdout.write(f"  {name:{width}}{_about(thing)}{f' ({missing})' if missing else ''}\n")
    return OK


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
