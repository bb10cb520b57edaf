"""What a report is made from: the tables of one results directory, joined once for all sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from tas_bench.attempts import Attempts
from tas_bench.errors import InputError
from tas_bench.reading import TABLES, read
from tas_bench.report.table1 import Manifest, narrowed
from tas_bench.schema import ROWS, USES
from tas_bench.store import Store
from tas_bench.usage import runs

OF_BOTH = ("sweep", "dataset", "backbone", "method", "seed", "kind", "transfer")
"""Columns of the rows that tell who asked first; the table `uses` tells of everyone."""


@dataclass(frozen=True)
class Source:
    """The tables of a results directory.

    Attributes:
        manifest: the sweep, as `Store.manifest` reads it.
        rows, uses, curves, trajectories: as `tas_bench.load` reads them.
        logs: logs of attempts by job id: where they lie seen from the report, and what they say.
        runs: what the slots of each run did.
        damaged: files that were left out, a line each.
    """

    manifest: Manifest
    rows: pd.DataFrame
    uses: pd.DataFrame
    curves: pd.DataFrame
    trajectories: pd.DataFrame
    logs: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]]
    runs: Sequence[Mapping[str, Any]] = ()
    damaged: tuple[str, ...] = ()

    @cached_property
    def used(self) -> pd.DataFrame:
        """What the sweep's plans asked for, one line per problem, method, seed and job, with all of the job's row.

        No status where a row is missing.
        """
        mine = self.uses[self.uses["sweep"] == self.manifest["name"]]
        mine = mine[mine["seed"].isin(self.manifest["seeds"])].drop(columns="plan").drop_duplicates()
        mine = mine.dropna(subset=["job_id", "dataset", "backbone", "method", "kind"])
        rows = self.rows.drop(columns=list(OF_BOTH)).drop_duplicates("job_id")
        found = mine.merge(rows, on="job_id", how="left", validate="many_to_one")
        return found.assign(accuracy=100 * found["test_accuracy"])

    @property
    def problems(self) -> list[Manifest]:
        """The manifest, once for every problem of its sweep."""
        return narrowed(self.manifest)

    def of(self, problem: Manifest) -> pd.DataFrame:
        """`used`, of one problem."""
        return of_problem(self.used, problem)

    @property
    def finals(self) -> pd.DataFrame:
        """Final trainings that ended well."""
        used = self.used
        wanted = used["kind"].eq("final") & used["transfer"].isin(self.manifest["transfers"])
        return used[wanted & used["status"].eq("ok") & used["accuracy"].notna()]

    @cached_property
    def labels(self) -> dict[str, str]:
        """Methods by name, in the manifest's order."""
        return {method["name"]: method["label"] for method in self.manifest["methods"]}

    def label(self, method: str) -> str:
        """What a method is called."""
        return self.labels.get(method, method)

    def colour(self, method: str) -> int | None:
        """A method's number; grey for what is none."""
        names = list(self.labels)
        return names.index(method) if method in names else None

    def setting(self, method: str, name: str) -> Any:
        """A setting of a method or transfer mode, None where the manifest does not tell."""
        return self.manifest["fixed"].get(f"{method}.{name}")

    def heading(self, problem: Manifest) -> str:
        """A problem in a few words."""
        return f"{problem['dataset']}, {problem['backbone']}"


def of_problem(frame: pd.DataFrame, problem: Manifest) -> pd.DataFrame:
    """The lines of a problem."""
    return frame[frame["dataset"].eq(problem["dataset"]) & frame["backbone"].eq(problem["backbone"])]


def key_of(problem: Manifest) -> str:
    """A problem, as files and parts of the page are named by it."""
    return f"{problem['dataset']}-{problem['backbone']}"


def read_source(results: Path) -> Source:
    """Read a results directory, leaving out what is damaged.

    Raises:
        InputError: it holds nothing to report, or its sweep is not known.
        StoreDamagedError: its manifest cannot be read back.
    """
    damaged: list[str] = []
    frames = {table: read(results, table, damaged) for table in TABLES}
    manifest = Store(results).manifest()
    if manifest is None and len(frames["rows"]):
        raise InputError(f"{results} holds rows of no sweep; read them with tas_bench.load('{results}')")
    if manifest is None:
        raise InputError(f"{results} holds no results yet; `tas-bench run` makes some")
    if not manifest["problems"] or manifest["t"] is None:  # a stand-in of `check --repair`
        hint = f"`tas-bench run {manifest['name']} --results {results}`, with the settings it had,"
        raise InputError(f"{results / '_sweep.json'} has lost the settings; {hint} fills it in")
    uses = frames["uses"].reindex(columns=USES.names)
    if len(manifest["problems"]) == 1:  # uses of schema version 1 do not tell it
        uses = uses.fillna({key: manifest["problems"][0][key] for key in ("dataset", "backbone")})
    return Source(
        manifest,
        frames["rows"].reindex(columns=ROWS.names),
        uses,
        frames["curves"],
        frames["trajectories"],
        _logs(results),
        runs(results),
        tuple(damaged),
    )


def _logs(results: Path) -> dict[str, tuple[str, Sequence[Mapping[str, Any]]]]:
    """Logs of attempts; one that cannot be read says nothing."""
    found: dict[str, tuple[str, Sequence[Mapping[str, Any]]]] = {}
    for path in sorted((results / "_attempts").glob("*.json")):
        found[path.stem] = (f"../_attempts/{path.name}", Attempts(results, path.stem).all)
    return found
