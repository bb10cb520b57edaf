"""`python -m tas_bench` is `tas-bench`."""

import sys

from tas_bench.cli import main

sys.exit(main())
