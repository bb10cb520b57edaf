"""The command `tas-bench`: gathers what `tas_bench.commands` holds, and tells every error in one line."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tas_bench.commands import (
    check,
    compare,
    cost,
    doctor,
    export,
    list,  # noqa: A004 (a file is named as its command)
    pack,
    report,
    run,
    status,
    train,
    tune,
)
from tas_bench.commands.shared import Parser, complain
from tas_bench.errors import INTERNAL, IO_FAULT, OK, TasBenchError
from tas_bench.signals import Interrupted, raised_at_once
from tas_bench.text import own_version

COMMANDS = (run, tune, doctor, status, report, compare, check, list, cost, train, export, pack)

logging.getLogger("tas_bench").addHandler(logging.NullHandler())  # a run logs to files, not to the terminal

EXAMPLES = """
examples:
  tas-bench list                                  what there is to run
  tas-bench run demo                              Table 1's layout on digits, minutes on a laptop
  tas-bench run table1 --smoke --data DIR         a minutes-long version on real CIFAR-100
  tas-bench run table1 --data DIR --set seeds=0,1,2,3,4 --set tas.lambda_cost=4
  tas-bench run table1 --data DIR --address auto  on a running Ray cluster
  tas-bench run table1 --data DIR --dry-run       its jobs and what they will cost; nothing is run
  tas-bench tune demo                             which lambda_cost and t to take, and how sure that is
  tas-bench doctor table1 --data DIR              could it start here, now?
  tas-bench status results/runs/demo              how it stands, also while it runs elsewhere
  tas-bench report results/runs/demo              the tables of what has finished so far
  tas-bench check results/runs/demo               reads every file: is any damaged?
  tas-bench cost resnet32 --classes 100           what the unpruned network costs
  tas-bench train resnet20 --size size.json --transfer kd --out small.safetensors
  tas-bench export small.safetensors              the trained network as a torch.export program
  tas-bench export results/runs/demo --to csv     results for other programs: csv, latex, optuna, tensorboard

exit codes: 0 complete, 1 internal fault, 2 bad input, 3 finished with failed jobs, 4 store damaged,
5 I/O, 130 / 143 stopped by a signal. A stopped run goes on with the same command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (for good: the shell has closed it)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the encoding has no ±
    try:
        return _flushed(_run(argv))
    except SystemExit as end:  # of --help, or of rich where the pipe is closed
        raise SystemExit(_flushed(IO_FAULT if end.code else OK)) from None


def _flushed(code: int) -> int:
    """The exit code, once all that was printed is out; Python itself would end with another one."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left
        if not isinstance(error, BrokenPipeError):
            complain(f"I/O: {error.strerror}")
        code = code or IO_FAULT
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
        args.argv = sys.argv[1:] if argv is None else argv  # as typed, to go on with
        with raised_at_once():  # until the command has a way of its own
            return int(args.command(args))
    except TasBenchError as error:
        complain(str(error))
        return error.exit_code
    except Interrupted as stop:
        complain("interrupted")
        return 128 + stop.signum
    except BrokenPipeError:
        return IO_FAULT
    except OSError as error:
        complain(f"{error.filename or 'I/O'}: {error.strerror or error}")
        return IO_FAULT
    except Exception as error:
        logging.getLogger("tas_bench").exception("internal fault")
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        complain(f"internal fault, please report it: {type(error).__name__} at {place}: {error}")
        return INTERNAL


class _Version(argparse.Action):
    """Looks it up on demand alone: that takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(f"tas-bench {own_version()}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="tas-bench",
        description="Compare ways of choosing a CNN's width and depth under a cost budget.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser
