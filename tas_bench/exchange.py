"""Results in the forms of other programs: CSV, LaTeX, Optuna's journal, TensorBoard's events."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tas_bench.errors import InputError, StoreDamagedError
from tas_bench.files import write_whole
from tas_bench.reading import TABLES, load, read_arrow
from tas_bench.report.render import csv
from tas_bench.text import file_name, quiet_optuna
from tas_bench.track import TensorBoard, name_of, scalars

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def to_csv(results: Path, out: Path) -> list[Path]:
    """Every table as CSV; lists are JSON in their cells."""
    texts = {table: csv(load(results, table=table).map(_no_list)) for table in TABLES}
    return _write(out, {f"{table}.csv": text for table, text in texts.items()})


def _no_list(cell: Any) -> Any:
    return json.dumps(cell.tolist()) if isinstance(cell, np.ndarray) else cell


def to_latex(results: Path, out: Path) -> list[Path]:
    """Every table of the report, one file each."""
    from tas_bench.report.parts import Table
    from tas_bench.report.sections import all_sections
    from tas_bench.report.source import read_source
    from tas_bench.report.written import as_latex

    source = read_source(results)
    if source.damaged:
        raise StoreDamagedError("; ".join(source.damaged))
    parts = [part for section in all_sections() for part in section.make(source)]
    return _write(
        out, {f"{file_name(part.name)}.tex": as_latex(part) for part in parts if isinstance(part, Table)}
    )


def _write(out: Path, texts: dict[str, str]) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(out / name, text.encode())
    return [out / name for name in texts]


def to_optuna(results: Path, out: Path) -> list[Path]:
    """One study per problem, method and seed in a journal: `optuna-dashboard OUT/journal.log` opens it.

    A trial is a job that tried a size: its widths and depths are the parameters, its validated accuracy the value.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    path = out / "journal.log"
    if path.exists():
        raise InputError(f"'{path}' is there already; give --out, or move it away")
    out.mkdir(parents=True, exist_ok=True)
    rows, uses = load(results), load(results, table="uses")
    asked = uses[["job_id", "sweep", "dataset", "backbone", "method", "seed", "kind"]].drop_duplicates()
    asked = asked[~asked["kind"].isin(["teacher", "final"])]
    own = ["job_id", "widths", "depths", "status", "val_accuracy", "macs", "device_seconds", "started", "ended"]
    tried = asked.merge(rows[own], on="job_id")
    tried = tried[tried["widths"].notna() & tried["depths"].notna()]
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(part)))
    keys = ["sweep", "dataset", "backbone", "method", "seed"]
    try:
        with quiet_optuna():
            for names, jobs in tried.groupby(keys, sort=False):
                name, sampler = "-".join(map(str, names)), _no_sampler()
                study = optuna.create_study(
                    storage=storage, study_name=name, direction="maximize", sampler=sampler
                )
                widest = [max(column) for column in zip(*jobs["widths"], strict=True)]
                deepest = [max(column) for column in zip(*jobs["depths"], strict=True)]
                study.add_trials([_trial(job, widest, deepest) for job in jobs.sort_values("ended").itertuples()])
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return [path]


def _no_sampler() -> Any:
    """Nothing is drawn; a sampler that is named keeps Optuna from making its own."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=0)


def _trial(job: Any, widest: list[int], deepest: list[int]) -> FrozenTrial:
    from optuna.distributions import IntDistribution
    from optuna.trial import TrialState, create_trial

    found: dict[str, tuple[int, int]] = {}
    for name, values, most in (("width", job.widths, widest), ("depth", job.depths, deepest)):
        found |= {f"{name}_{i:03}": (int(v), int(m)) for i, (v, m) in enumerate(zip(values, most, strict=True))}
    ok = job.status == "ok" and pd.notna(job.val_accuracy)
    return create_trial(
        params={name: value for name, (value, _) in found.items()},
        distributions={name: IntDistribution(1, most) for name, (_, most) in found.items()},
        state=TrialState.COMPLETE if ok else TrialState.FAIL,
        value=float(job.val_accuracy) if ok else None,
        user_attrs={"job_id": job.job_id, "macs": int(job.macs), "device_seconds": float(job.device_seconds)}
        if ok
        else {"job_id": job.job_id, "status": str(job.status)},
    )


def to_tensorboard(results: Path, out: Path) -> list[Path]:
    """A folder of events per job, named after who asked first: measures, its curve, and how its search went."""
    if find_spec("tensorboardX") is None:
        raise InputError("--to tensorboard needs tensorboardX: pip install 'tas-bench[tensorboard]'")
    points = defaultdict(list)
    for table in ("curves", "trajectories"):
        for point in read_arrow(results, table).to_pylist():
            points[point["job_id"]].append(point)
    rows, board = read_arrow(results, "rows").to_pylist(), TensorBoard(out)
    for row in rows:
        board.tell(name_of(row), row, scalars(points[row["job_id"]]))
    return [out / file_name(name_of(row)) for row in rows]


FORMS: dict[str, Callable[[Path, Path], list[Path]]] = {
    "csv": to_csv, "latex": to_latex, "optuna": to_optuna, "tensorboard": to_tensorboard,
}  # fmt: skip
