"""The results directory: one parquet file per finished job, committed by whoever ran it.

    DIR/rows/<job id>.parquet    the rows; all else begins with an underscore, so readers of DIR skip it
    DIR/_curves/<job id>.parquet learning curves; DIR/_trajectories/ likewise, of searches
    DIR/_results.parquet         all rows in one file, as a run wrote them last; see `snapshot.py`
    DIR/_uses/<plan>.parquet     which plan asked for which job
    DIR/_weights/                of teachers and of what was trained by hand
    DIR/_checkpoints/            of jobs that have not ended well, or that others go on from
    DIR/_attempts/               logs of attempts at jobs that did not end well at once
    DIR/_runs/                   what the slots of each run did
    DIR/_sweep.json, _data.json  the sweep these rows belong to; fingerprints of the data behind them
    DIR/_lock                    who holds it, while a run writes

A commit writes a hidden temporary file, syncs it, links it to its final name and syncs the directory: a row is
there whole or not at all, and of two who finish the same job the first wins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tas_bench.digest import sealed, unsealed
from tas_bench.errors import InputError, StoreDamagedError, StoreIOError
from tas_bench.files import REFUSALS, create, is_left, read_whole, temporaries, write_whole
from tas_bench.jobs import WEIGHTED, Outcome, weights_path
from tas_bench.lock import Holder, Lock, hold, holder_of
from tas_bench.manifest import joined
from tas_bench.reading import packed_path
from tas_bench.schema import DATA_FILE, MANIFEST, ROWS, SWEEP_FILE, TRAJECTORIES, check_shape
from tas_bench.snapshot import read_rows, write_snapshot
from tas_bench.space import Size
from tas_bench.tables import (
    curve_table,
    read_row,
    row_bytes,
    table_bytes,
    weights_bytes,
    whole_weights,
)

Row = dict[str, Any]
FOLDERS = ("rows", "_curves", "_trajectories", "_uses", "_weights", "_checkpoints", "_attempts", "_runs", "_log")

MADE = (("rows", "*.parquet"), ("_checkpoints", "*.pt"))
"""What is made of data."""

FINGERPRINT = "data fingerprint of "
"""Before the data set's name: where `_sweep.json` kept fingerprints before `_data.json` did."""

LABELS = ("sweep", "method", "budget", "budget_cost", "cost")
"""Columns that say who asked for a job first."""

OF_OUTCOMES = [name for name in ROWS.names if name in Outcome.__dataclass_fields__] + ["widths", "depths"]
"""Columns that an outcome is made of."""


@contextlib.contextmanager
def _io(path: Path) -> Iterator[None]:
    """Tell what the file system refused in one line; what reads raises StoreIOError by itself."""
    try:
        yield
    except OSError as error:
        raise StoreIOError(f"cannot write {error.filename or path}: {error.strerror or error}") from error


class Store:
    """A results directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: Lock | None = None

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
        return read_row(path).to_pylist()[0] if path.exists() else None

    def outcome(self, job_id: str, needs_weights: bool = False) -> Outcome | None:
        """The outcome of a job that ended well and has all it should have kept; None if it must be run."""
        row = self.row(job_id)
        if row is None or row["status"] != "ok":
            return None
        needs_weights = needs_weights or row["kind"] in WEIGHTED
        return None if needs_weights and not self._has_weights(job_id) else outcome_of(row)

    def outcomes(self) -> dict[str, Outcome]:
        """The outcome of every committed row by job id, whatever its status.

        Raises:
            StoreDamagedError: a row cannot be read back.
        """
        keys, table = read_rows(self.path)
        rows = (row for batch in table.select(OF_OUTCOMES).to_batches(1000) for row in batch.to_pylist())
        return {key: outcome_of(row) for key, row in zip(keys, rows, strict=True)}

    def _has_weights(self, job_id: str) -> bool:
        return whole_weights(weights_path(self.path, job_id))

    def manifest(self) -> dict[str, Any] | None:
        """The sweep this directory belongs to, as written by `claim`.

        Raises:
            StoreDamagedError: it cannot be read back.
        """
        return self._json(SWEEP_FILE, MANIFEST)

    def data(self) -> dict[str, str]:
        """Fingerprints of the data that the rows are of, by data set, as `claim_data` wrote them, or once `claim`.

        Raises:
            StoreDamagedError: it cannot be read back.
        """
        fixed = (self.manifest() or {"fixed": {}})["fixed"]
        earlier = {k.removeprefix(FINGERPRINT): v for k, v in fixed.items() if k.startswith(FINGERPRINT)}
        return earlier | (self.own_data() or {})

    def own_data(self) -> dict[str, str] | None:
        """What `_data.json` says."""
        return self._json(DATA_FILE, {})

    def _json(self, name: str, shape: Mapping[str, Any]) -> dict[str, Any] | None:
        path = self.path / name
        try:
            if not path.exists():
                return None
            found = unsealed(read_whole(path))
            if "problems" not in found and (own := {"dataset", "backbone", "keep"}) <= set(found):
                found["problems"] = [{key: found[key] for key in sorted(own)}]  # of schema version 1
            check_shape(found, shape)
            return found
        except StoreIOError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise StoreDamagedError(
                f"{path} cannot be read ({error}); restore it or use another --results"
            ) from error

    # ---- writing

    @contextlib.contextmanager
    def lock(self, break_stale: bool = False) -> Iterator[Lock]:
        """Hold the directory for one run; made if missing. Takes over a dead holder's lock as `lock.hold` does.

        Raises:
            InputError: something is in the way, or another run holds it.
            StoreIOError: the file system takes no files there.
        """
        self._refuse_packed()
        with contextlib.ExitStack() as stack:
            try:
                for name in FOLDERS:
                    (self.path / name).mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(hold(self.path, break_stale))
                for name in ("", *FOLDERS):  # what a killed writer left; a killed driver's workers may yet live
                    for temporary in temporaries(self.path / name):
                        if (name and not lock.taken_over) or is_left(temporary):  # others try for the lock
                            temporary.unlink(missing_ok=True)
            except (OSError, StoreIOError) as error:
                reason = getattr(error, "strerror", None) or error
                kind = StoreIOError if getattr(error, "errno", None) in REFUSALS else InputError
                raise kind(f"results directory {self.path} is not writable: {reason}") from error
            self._lock = lock
            stack.callback(setattr, self, "_lock", None)
            yield lock

    def holder(self) -> Holder | None:
        """Who holds the directory now, if anyone does."""
        return holder_of(self.path)

    def compact(self) -> None:
        """Write all rows into `_results.parquet`, which makes the next reading fast; nothing else changes.

        Raises:
            InputError: this process does not hold the directory.
            StoreIOError: the file system refused.
        """
        if self._lock is None or not self._lock.held():
            raise InputError(f"{self.path} is not held by this run (any more): another may write there")
        with _io(self.path):
            write_snapshot(self.path)

    def claim(self, manifest: Mapping[str, Any], data: Mapping[str, str] | None = None) -> None:
        """Make the directory this sweep's, or check that it is.

        Args:
            data: see `claim_data`.

        Raises:
            InputError: it holds another sweep's rows, this sweep's with settings that change what it compares, or
                rows of other data.
        """
        manifest = self.joined(manifest)
        self.claim_data(data or {})
        write_whole(self.path / SWEEP_FILE, sealed(manifest))

    def joined(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """A sweep's manifest with what earlier runs added, as `claim` writes it.

        Raises:
            InputError: it holds another sweep's rows, this sweep's with settings that change what it compares, or
                is packed.
        """
        self._refuse_packed()
        found = self.manifest()
        if not next((self.path / "rows").glob("*.parquet"), None):
            return manifest
        if found is None:
            raise InputError(f"{self.path} holds rows but no _sweep.json; use another --results")
        return joined(found, manifest, self.path)

    def _refuse_packed(self) -> None:
        if packed_path(self.path, "rows").is_file():
            raise InputError(f"{self.path} is packed; `tas-bench unpack {self.path} DIR` makes DIR to go on in")

    def claim_data(self, data: Mapping[str, str]) -> None:
        """Remember the data that rows are about to be made of, or check that it is what they were made of.

        Args, raises: see `joined_data`.
        """
        if known := self.joined_data(data):
            write_whole(self.path / DATA_FILE, sealed(known))

    def joined_data(self, data: Mapping[str, str]) -> Mapping[str, str]:
        """The data that rows are made of, with those that they are about to be made of.

        A job's key does not tell where its images lie, so that a directory takes one data set of a name.

        Args:
            data: fingerprints (see `data.check_data`) by data set.

        Raises:
            InputError: there are rows or checkpoints of other data.
        """
        begun = any(next((self.path / name).glob(kind), None) for name, kind in MADE)
        known = self.data() if begun else {}
        for name, value in data.items():
            if known.get(name, value) != value:
                raise InputError(
                    f"{self.path} was made with {FINGERPRINT}{name} = {known[name]}, now it is {value}: other "
                    "images or another order; use another --results"
                )
        return {**known, **data}

    def commit(self, row: Row, outcome: Outcome | None = None) -> bool:
        """Commit a finished job: weights, curve and trajectory first, the row last.

        Where an ok row stands, nothing is written, unless its weights are missing or damaged and the outcome has
        some: then all is replaced, the row first, so that row and weights are of one training at every moment.

        Args:
            outcome: has the weights, curve and trajectory; None where there are none.

        Returns:
            False where an ok row was there already: that one stands.

        Raises:
            StoreIOError: the file system refused; no row is left half-written.
        """
        job_id, outcome = row["job_id"], outcome or Outcome()
        standing = self.row(job_id)
        with _io(self.row_path(job_id)):
            if standing is None or standing["status"] != "ok":
                self._write_kept(job_id, outcome)
                first = self._commit_row(row_bytes(row), job_id)
            else:
                first = outcome.ok and outcome.weights is not None and not self._has_weights(job_id)
                if first:
                    write_whole(self.row_path(job_id), row_bytes(row | {name: standing[name] for name in LABELS}))
                    self._write_kept(job_id, outcome)
            if row["status"] == "ok":
                for kept in (self.path / "_checkpoints").glob(f"{job_id}.*"):
                    kept.unlink(missing_ok=True)
            return first

    def _write_kept(self, job_id: str, outcome: Outcome) -> None:
        """What of an outcome is no column of its row."""
        if outcome.curve:
            self._write_epochs("_curves", job_id, curve_table(job_id, outcome.curve))
        if outcome.trajectory:
            points = [{"job_id": job_id, **point} for point in outcome.trajectory]
            self._write_epochs("_trajectories", job_id, pa.Table.from_pylist(points, schema=TRAJECTORIES))
        if outcome.weights is not None:
            write_whole(weights_path(self.path, job_id), weights_bytes(outcome.weights))

    def _write_epochs(self, folder: str, job_id: str, table: pa.Table) -> None:
        write_whole(self.path / folder / f"{job_id}.parquet", table_bytes(table))

    def _commit_row(self, data: bytes, job_id: str) -> bool:
        final = self.row_path(job_id)
        return create(final, data) or write_whole(final, data, unless=lambda: self._is_ok(job_id))

    def _is_ok(self, job_id: str) -> bool:
        row = self.row(job_id)
        return row is not None and row["status"] == "ok"


def outcome_of(row: Row) -> Outcome:
    """An outcome as the row tells it (without curve and weights)."""
    fields = {k: row[k] for k in Outcome.__dataclass_fields__ if k in row}
    size = Size(tuple(row["widths"]), tuple(row["depths"])) if row["widths"] else None
    return Outcome(**fields, size=size)
