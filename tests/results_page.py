"""RESULTS.md with the rows it is made of, and how its cells are written, by other means than `results/`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

ROOT = Path(__file__).parents[1]
TABLE1, TABLE2, TOLERANCE = (f"replication_{name}" for name in ("cifar100", "samples", "tolerance"))
SHORT = {
    TABLE1: ["seeds=0,1", "teacher_epochs=2", "search_epochs=2", "trials=6"],
    TABLE2: ["seeds=0,1", "search_epochs=2"],
    TOLERANCE: ["repeats=2", "search_epochs=2"],
}
TRANSFERS = {"scratch": "", "init": " w/ Init", "kd": " w/ KD"}
LABELS = {"ratio": "Pre-defined", "random_search": "Random Search", "cma_es": "CMA-ES", "tas": "TAS"}


@dataclass(frozen=True)
class Page:
    """RESULTS.md and the rows it is made of."""

    rows: Path
    text: str

    def packed(self, sweep, table):
        return pq.read_table(self._file(sweep, f"{table}.parquet")).to_pandas()

    def manifest(self, sweep):
        return json.loads(self._file(sweep, "_sweep.json").read_text(encoding="utf-8"))

    def _file(self, sweep, name):
        path = self.rows / sweep / name
        if not path.is_file():
            pytest.skip(f"no rows of {sweep} yet")  # the replication is under way
        return path

    def asked(self, sweep, status=("ok",)):
        """Jobs by who asked for them, one line per method, seed and job; of the row what it measured."""
        uses, rows = self.packed(sweep, "uses"), self.packed(sweep, "rows")
        own = ["sweep", "dataset", "backbone", "method", "seed", "kind", "transfer"]
        uses = uses.drop_duplicates(["method", "seed", "job_id", "kind"])
        return uses.merge(rows[rows["status"].isin(status)].drop(columns=own), on="job_id")

    def trajectories(self, sweep, jobs):
        """What the searches logged, with their budgets."""
        told = self.packed(sweep, "trajectories").merge(jobs[["job_id", "budget"]].drop_duplicates(), on="job_id")
        return told.assign(share=told["f_cost"] / told["budget"])

    def section(self, sweep):
        """What it says of a sweep."""
        [found] = [part for part in self.text.split("\n## ") if f"(results/{sweep}" in part]
        return found

    def below(self, caption):
        """The page from a table's caption to the next one's."""
        return Page(self.rows, self.text.split(f"\n**{caption}**")[1].split("\n**")[0])

    def table(self, *columns):
        """The lines of the one table that begins with this column and has the others, as dicts of cells."""
        found, lines = [], self.text.splitlines()
        for i, line in enumerate(lines):
            if line.startswith("|") and i + 1 < len(lines) and lines[i + 1].startswith("| ---"):
                header, body = cells(line), []
                for other in lines[i + 2 :]:
                    if not other.startswith("|"):
                        break
                    body.append(dict(zip(header, cells(other), strict=True)))
                if header[0] == columns[0] and set(columns) <= set(header):
                    found.append(body)
        [one] = found
        return one


def cells(line):
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def mean_and_half(values):
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return (values.mean() if len(values) else None), None
    return values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)


def told(values, how="{:.2f}"):
    """A mean with its 95 % interval, as the tables write it."""
    mean, half = mean_and_half(values)
    if mean is None:
        return ""
    return how.format(mean) + ("" if half is None else f" ± {how.format(half).removeprefix('+')}")


def told_in(unit, values):
    """Seconds or macs, as the tables write them."""
    mean, half = mean_and_half(values)
    sizes = {"seconds": ((3600, "h"), (60, "min"), (1, "s")), "macs": ((1e15, "P"), (1e12, "T"), (1e9, "G"))}[unit]
    if not mean and unit == "seconds":
        return "0"
    size, name = next((pair for pair in sizes if mean >= pair[0]), sizes[-1])
    return f"{mean / size:.1f}" + ("" if half is None else f" ± {half / size:.1f}") + f" {name}"


def told_apart(finals):
    """Points that methods must be apart, by least squares on dummies of methods and seeds; seeds that have all."""
    wide = 100 * finals.pivot_table("test_accuracy", "seed", "method").dropna()
    seeds, methods = wide.shape
    if seeds < 2 or methods < 2:
        return None
    dummies = np.zeros((seeds * methods, seeds + methods))
    for line, (i, j) in enumerate(np.ndindex(seeds, methods)):
        dummies[line, [i, seeds + j]] = 1
    found = wide.to_numpy().ravel()
    solved, _, rank, _ = np.linalg.lstsq(dummies, found)
    free = seeds * methods - rank
    variance = ((found - dummies @ solved) ** 2).sum() / free
    return f"{stats.t.ppf(0.975, free) * np.sqrt(2 * variance / seeds):.1f}", seeds
