"""The report of 2,000 jobs with curves: seconds and megabytes; and how long 10,000 rows take to load."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tas_bench.measure import device_name
from tas_bench.reading import load
from tas_bench.report.example import write_example
from tas_bench.report.source import read_source
from tas_bench.report.whole import write_report
from tas_bench.snapshot import write_snapshot
from tas_bench.tables import read_row, row_bytes


def main() -> None:
    """Write a directory of made-up results, report it with and without figures, then one of many rows."""
    print(device_name("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        jobs = write_example(root, seeds=5, candidates=193)
        write_snapshot(root)
        began = time.perf_counter()
        source = read_source(root)
        read = time.perf_counter() - began
        page = write_report(source, root / "_report", figures=False)
        written = time.perf_counter() - began
        write_report(source, root / "_report")
        size = page.stat().st_size / 1e6
        print(f"{jobs:,} jobs with curves: {read:.1f} s to read, {written:.1f} s with the page of {size:.1f} MB")
        print(f"with PNG and SVG too: {read + time.perf_counter() - began - written:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        write_example(root, seeds=1, candidates=1, epochs=1)
        [row] = read_row(next((root / "rows").glob("final*"))).to_pylist()
        for i in range(10_000):
            key = f"{i:020x}"
            (root / "rows" / f"{key}.parquet").write_bytes(row_bytes(row | {"job_id": key}))
        for name in ("without the snapshot", "with it"):
            began = time.perf_counter()
            count = len(load(root))
            print(f"{count:,} rows, {name}: {time.perf_counter() - began:.2f} s")
            write_snapshot(root)


if __name__ == "__main__":
    main()
