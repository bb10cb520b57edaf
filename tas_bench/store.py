"""The results directory: one parquet file per finished job, committed by whoever ran it.

    DIR/rows/<job id>.parquet    the rows; all else begins with an underscore, so readers of DIR skip it
    DIR/_curves/<job id>.parquet learning curves; DIR/_trajectories/ likewise, of searches
    DIR/_uses/<plan>.parquet     which plan asked for which job
    DIR/_weights/                teachers' weights; DIR/_checkpoints/ of jobs that have not ended well
    DIR/_sweep.json, DIR/_lock   the sweep these rows belong to; held while a run writes

A commit writes a hidden temporary file, syncs it, links it to its final name and syncs the directory: a row is
there whole or not at all, and of two who finish the same job the first wins.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tas_bench.digest import check_digest, with_digest
from tas_bench.errors import InputError, StoreDamagedError, StoreIOError
from tas_bench.jobs import Outcome, weights_path
from tas_bench.schema import CURVE_KEYS, ROWS, SCHEMA_VERSION, TRAJECTORIES, USES
from tas_bench.space import Size

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Row = dict[str, Any]
Table = Literal["rows", "curves", "trajectories", "uses"]
FOLDERS = ("rows", "_curves", "_trajectories", "_uses", "_weights", "_checkpoints", "_log")

MANIFEST_KEYS = {"name", "title", "t", "train_subset", "problems", "seeds", "methods", "transfers", "fixed"}
"""What `_sweep.json` must hold to be compared and reported."""


LOST = "delete it, as `tas-bench check --repair` does: {} is lost, its row stands"
REMEDIES = {
    "rows": "delete it and its job runs again",
    "_uses": "delete it and the next run of its sweep writes it again",
    "_curves": LOST.format("this learning curve"),
    "_trajectories": LOST.format("this trajectory"),
}
"""What to do about a damaged file, by its folder."""


@contextlib.contextmanager
def _io(path: Path) -> Iterator[None]:
    """Tell what the file system refused in one line."""
    try:
        yield
    except OSError as error:
        raise StoreIOError(f"cannot write {error.filename or path}: {error.strerror}") from error


class Store:
    """A results directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # ---- reading

    def row_path(self, job_id: str) -> Path:
        """Where a job's row lies once it is committed."""
        return self.path / "rows" / f"{job_id}.parquet"

    def row(self, job_id: str) -> Row | None:
        """A committed row, or None.

        Raises:
            StoreDamagedError: it cannot be read back.
        """
        path = self.row_path(job_id)
        return read_file(path, ROWS).to_pylist()[0] if path.exists() else None

    def outcome(self, job_id: str, needs_weights: bool = False) -> Outcome | None:
        """The outcome of a job that ended well and has all it should have kept; None if it must be run."""
        row = self.row(job_id)
        if row is None or row["status"] != "ok" or (needs_weights and not _whole(weights_path(self.path, job_id))):
            return None
        return outcome_of(row)

    def manifest(self) -> dict[str, Any] | None:
        """The sweep this directory belongs to, as written by `claim`.

        Raises:
            StoreDamagedError: it cannot be read back.
        """
        path = self.path / "_sweep.json"
        try:
            if not path.exists():
                return None
            found: dict[str, Any] = json.loads(path.read_text())
            if "problems" not in found and (keys := {"dataset", "backbone", "keep"}) <= set(found):
                found["problems"] = [{key: found[key] for key in sorted(keys)}]  # of schema version 1
            if missing := MANIFEST_KEYS - set(found):
                raise ValueError(f"it has no {' and no '.join(sorted(missing))}")
            return found
        except (OSError, ValueError, TypeError) as error:
            raise StoreDamagedError(
                f"{path} cannot be read ({error}); restore it or use another --results"
            ) from error

    # ---- writing

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for one run; made if missing. The lock goes with the process, however it ends.

        Raises:
            InputError: not writable, or another run holds it.
        """
        try:
            for name in FOLDERS:
                (self.path / name).mkdir(parents=True, exist_ok=True)
            handle = open(self.path / "_lock", "a+")  # noqa: SIM115
        except OSError as error:
            raise InputError(f"results directory {self.path} is not writable: {error.strerror}") from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                handle.seek(0)
                raise InputError(f"{self.path} is in use by {handle.read().strip() or 'another run'}") from error
            for name in FOLDERS:  # what a killed writer left
                for temporary in (self.path / name).glob(".*.tmp"):
                    temporary.unlink(missing_ok=True)
            handle.truncate(0)
            handle.write(f"{socket.gethostname()}:{os.getpid()}\n")
            handle.flush()
            yield

    def claim(self, manifest: Mapping[str, Any]) -> None:
        """Make the directory this sweep's, or check that it is.

        Raises:
            InputError: it holds another sweep's rows, or this sweep's with settings that change what it compares.
        """
        found = self.manifest()
        if next((self.path / "rows").glob("*.parquet"), None):
            if found is None:
                raise InputError(f"{self.path} holds rows but no _sweep.json; use another --results")
            _compare(found, manifest, self.path)
            manifest = _union(found, manifest)
        with _io(self.path):
            _replace(self.path / "_sweep.json", lambda p: p.write_text(json.dumps(manifest, indent=1) + "\n"))

    def commit(self, row: Row, outcome: Outcome | None = None) -> bool:
        """Commit a finished job: weights, curve and trajectory first, the row last.

        Args:
            outcome: has the weights, curve and trajectory; None where there are none.

        Returns:
            False where an ok row was there already: that one stands.

        Raises:
            StoreIOError: the file system refused; no row is left half-written.
        """
        job_id, outcome = row["job_id"], outcome or Outcome()
        with _io(self.path):
            if (weights := outcome.weights) is not None:
                _replace(weights_path(self.path, job_id), lambda p: _save_weights(weights, p))
            if outcome.curve:
                self._write_epochs("_curves", job_id, _curve_table(job_id, outcome.curve))
            if outcome.trajectory:
                points = [{"job_id": job_id, **point} for point in outcome.trajectory]
                self._write_epochs("_trajectories", job_id, pa.Table.from_pylist(points, schema=TRAJECTORIES))
            first = self._commit_row(pa.Table.from_pylist([row], schema=ROWS), job_id)
            if row["status"] == "ok":
                for kept in (self.path / "_checkpoints").glob(f"{job_id}.*"):
                    kept.unlink(missing_ok=True)
            return first

    def _write_epochs(self, folder: str, job_id: str, table: pa.Table) -> None:
        _replace(self.path / folder / f"{job_id}.parquet", lambda p: _write(table, p))

    def _commit_row(self, table: pa.Table, job_id: str) -> bool:
        final = self.row_path(job_id)
        temporary = final.with_name(f".{job_id}.{socket.gethostname()}.{os.getpid()}.tmp")
        _write(table, temporary)
        try:
            os.link(temporary, final)
        except FileExistsError:
            standing = self.row(job_id)
            if standing is not None and standing["status"] == "ok":
                return False
            os.replace(temporary, final)  # a failed row gives way to a later attempt
        finally:
            temporary.unlink(missing_ok=True)
        _sync(final.parent)
        return True

    def write_uses(self, plan: str, uses: Sequence[Row], transfers: Sequence[str]) -> None:
        """Write which jobs a plan has asked for so far.

        Finals of transfers other than the present run's stay: an earlier run asked for them.
        """
        path = self.path / "_uses" / f"{plan}.parquet"
        earlier = read_file(path, USES).to_pylist() if path.exists() else []
        kept = [use for use in earlier if use["kind"] == "final" and use["transfer"] not in transfers]
        table = pa.Table.from_pylist([*uses, *kept], schema=USES)
        with _io(self.path):
            _replace(path, lambda p: _write(table, p))


def outcome_of(row: Row) -> Outcome:
    """An outcome as the row tells it (without curve and weights)."""
    fields = {k: row[k] for k in Outcome.__dataclass_fields__ if k in row}
    size = Size(tuple(row["widths"]), tuple(row["depths"])) if row["widths"] else None
    return Outcome(**fields, size=size)


def load(path: str | Path, table: Table = "rows") -> pd.DataFrame:
    """Read a results directory.

    Args:
        table: "rows" (one per finished job), "curves" (one per job and epoch), "trajectories" (one per search and
            epoch) or "uses" (one per plan and job).

    Raises:
        InputError: there is no such directory, or it holds no results.
        StoreDamagedError: a file cannot be read back, or was written by a newer tas_bench.
    """
    root = Path(path)
    if not (root / "rows").is_dir():
        raise InputError(f"{root} holds no results (no directory {root / 'rows'})")
    folder = root / (table if table == "rows" else f"_{table}")
    files = sorted(f for f in folder.glob("*.parquet") if not f.name.startswith("."))
    schema = {"rows": ROWS, "uses": USES, "curves": None, "trajectories": TRAJECTORIES}[table]
    tables = [read_file(f, schema) for f in files]
    if not tables:
        tables = [(schema or CURVE_KEYS).empty_table()]
    return pa.concat_tables(tables, promote_options="default").to_pandas()


def read_file(path: Path, schema: pa.Schema | None) -> pa.Table:
    """One file, checksums verified, cast to the schema.

    Raises:
        StoreDamagedError: it cannot be read back, or was written by a newer tas_bench.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            version = int((file.schema_arrow.metadata or {}).get(b"schema_version", b"0"))
            if version > SCHEMA_VERSION:
                raise StoreDamagedError(f"{path} has schema version {version}; upgrade tas_bench to read it")
            table = file.read()
            check_digest(table)
            if schema is ROWS and len(table) != 1:
                raise ValueError(f"{len(table)} rows in it, not one")
            if schema is None:
                table.select(CURVE_KEYS.names)  # or it is no curve
                return table
            if strange := set(table.column_names) - set(schema.names):
                raise ValueError(f"unknown column {min(strange)}")
            for name in set(schema.names) - set(table.column_names) if 0 < version < SCHEMA_VERSION else ():
                table = table.append_column(name, pa.nulls(len(table)))  # a later version added it
            return table.select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise StoreDamagedError(f"{path} is damaged ({reason}); {REMEDIES[path.parent.name]}") from error


def _whole(weights: Path) -> bool:
    """Whether a weights file is there and not cut short; a damaged one is made anew."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(with_digest(table), path, write_page_checksum=True)
    _sync(path)


def _save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, path)
    _sync(path)


def _curve_table(job_id: str, curve: Sequence[Mapping[str, float]]) -> pa.Table:
    measures = [k for k in curve[0] if k != "epoch"]
    schema = pa.schema([*CURVE_KEYS, *(pa.field(m, pa.float64()) for m in measures)])
    return pa.Table.from_pylist([{"job_id": job_id, **point} for point in curve], schema=schema)


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside `path`, then take its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _compare(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Refuse to mix what must not be compared; more problems, seeds, methods or transfers are welcome."""
    if found["name"] != wanted["name"]:
        raise InputError(f"{path} holds sweep '{found['name']}', not '{wanted['name']}'; use another --results")
    for key, value in wanted["fixed"].items():
        there = found["fixed"].get(key, value)  # absent: of a method or transfer that is new here
        if there != value:
            raise InputError(f"{path} was made with {key} = {there}, now it is {value}; use another --results")


def _union(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The wanted manifest with the problems, seeds, methods and transfers that earlier runs added."""
    both = {
        key: [*found[key], *(x for x in wanted[key] if x not in found[key])]
        for key in ("problems", "seeds", "methods", "transfers")
    }
    return {**wanted, **both, "fixed": {**found["fixed"], **wanted["fixed"]}}
