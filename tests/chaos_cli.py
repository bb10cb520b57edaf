"""The command with the sweeps of the chaos suite, and a checkpoint after every epoch."""

import sys
from functools import partial
from pathlib import Path

import sweeps
from tas_bench.cli import main
from tas_bench.jobs import Context
from tas_bench.runner import supervisor

SWEEPS = str(Path(__file__).with_name("chaos_sweeps"))

if __name__ == "__main__":
    sweeps.__path__.append(SWEEPS)
    supervisor.Context = partial(Context, checkpoint_seconds=0)
    sys.exit(main())
