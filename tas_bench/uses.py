"""Which plan asked for which job: one file per plan, written anew as the plan goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tas_bench.files import write_whole
from tas_bench.schema import USES
from tas_bench.tables import read_table, table_bytes

Use = dict[str, Any]


def write_uses(results: Path, plan: str, uses: Sequence[Use], transfers: Sequence[str]) -> None:
    """Write which jobs a plan has asked for so far.

    What earlier runs asked for of other problems stays. In a sweep of several problems a plan's name tells its
    problem: what stands under its other name moves to this one.

    Args:
        transfers: those whose finals are all among the uses. What earlier runs asked for of others stays.

    Raises:
        StoreDamagedError, StoreIOError: an earlier file cannot be read, or the file system refused.
    """
    places = {problem_of(use) for use in uses}
    names = [plan, *(_other_name(plan, *place) for place in places)]
    own, *others = (results / "_uses" / f"{name}.parquet" for name in names)
    earlier = {path: read_table(path, USES).to_pylist() for path in (own, *others) if path.exists()}
    places.add((None, None))  # of early days, when a sweep had one problem
    finals = {
        (use["job_id"], use["transfer"]): {**use, "plan": plan}
        for found in earlier.values() for use in found
        if problem_of(use) in places and use["kind"] == "final" and use["transfer"] not in transfers
    }  # fmt: skip
    left = {path: [use for use in found if problem_of(use) not in places] for path, found in earlier.items()}
    asked = {own: [*uses, *finals.values(), *left.pop(own, [])], **left}  # ours first: no line is ever in neither
    for path, lines in asked.items():
        if lines != earlier.get(path):
            write_whole(path, table_bytes(pa.Table.from_pylist(lines, schema=USES)))


def problem_of(use: Use) -> tuple[str | None, str | None]:
    """The data set and backbone that a use is of."""
    return use["dataset"], use["backbone"]


def _other_name(plan: str, dataset: str | None, backbone: str | None) -> str:
    """A plan's name without its problem where it tells it, else with it."""
    problem = f"{dataset}-{backbone}-"
    return plan.removeprefix(problem) if plan.startswith(problem) else f"{problem}{plan}"
