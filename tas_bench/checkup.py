"""Looks at every file of a results directory: what is damaged, what that costs, and out of the way with it.

A run may go on meanwhile: rows are listed before the files that a commit writes ahead of them are looked for, and
a file that is gone by the time it fails to read is no damage.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from tas_bench import snapshot
from tas_bench.errors import InputError, StoreDamagedError, StoreIOError
from tas_bench.files import temporaries
from tas_bench.jobs import WEIGHTED, weights_path
from tas_bench.schema import DATA_FILE, ROWS, SWEEP_FILE, TRAJECTORIES, USES
from tas_bench.store import FOLDERS, Row, Store
from tas_bench.tables import read_table, read_weights
from tas_bench.text import one_line, reason

ASIDE = "_damaged"
"""Folder of the results directory where `repair` puts what is damaged."""

MEANS = {
    "rows": "its job runs again",
    "_uses": "the next run of its sweep writes it again, but for problems and transfers that run leaves out",
    "_curves": "this learning curve is lost, its row stands",
    "_trajectories": "this trajectory is lost, its row stands",
    "_weights": "a job that needs them trains them again",
    "_checkpoints": "its job goes on from the checkpoint before it, or from its start",
}
"""What the loss of a file means, by its folder."""


@dataclass(frozen=True)
class Finding:
    """One file that is not as it should be.

    Attributes:
        what: what is wrong with it; `means`: what runs again, or is lost.
        damage: False for what the next run mends by itself, or what is told for completeness.
        movable: whether putting it out of the way helps.
        done: what `repair` did about it.
    """

    path: Path
    what: str
    means: str
    damage: bool = True
    movable: bool = False
    done: str = ""

    def __str__(self) -> str:
        did = f" [{self.done}]" if self.done else ""
        return one_line(f"{self.path}: {self.what}; {self.means}{did}")


@dataclass(frozen=True)
class Checkup:
    """What was found.

    Attributes:
        files: files read, by folder.
        missing: jobs that plans asked for and that have no row.
    """

    findings: list[Finding]
    files: Counter[str]
    missing: int

    @property
    def damaged(self) -> int:
        """How many findings are damage that nothing was done about."""
        return sum(f.damage and not f.done for f in self.findings)


def check(root: Path) -> Checkup:
    """Read all of a results directory; nothing in it changes.

    Raises:
        InputError: it holds no results.
    """
    expect_results(root)
    files: Counter[str] = Counter()
    findings: list[Finding] = []
    kept = {name: files_of(root / name) for name in ("_curves", "_trajectories")}
    rows: dict[str, Row] = {}
    asked: set[str] = set()
    for path in files_of(root / "rows"):
        findings += _look(path, lambda p: rows.update({p.stem: _row(p)}), files)
    for path in files_of(root / "_uses"):
        findings += _look(path, lambda p: asked.update(_uses(p)), files)
    for folder, look in LOOKS.items():
        for path in kept.get(folder, files_of(root / folder)):
            findings += _look(path, look, files)
    findings += [*_manifest(root, rows), *_snapshot(root)]
    findings += [f for key, row in rows.items() for f in _companions(root, key, row)]
    for path in (*kept["_curves"], *kept["_trajectories"]):
        if path.exists() and not (root / "rows" / path.name).exists():
            means = "its job's run was cut short, or its row is lost; the job writes it again when it runs"
            findings.append(Finding(path, f"is of no row in {root / 'rows'}", means, damage=False))
    for path in unfinished(root):
        means = "a run that goes on writes it, or a killed one left it; the next run drops it"
        findings.append(Finding(path, "is a temporary file", means, damage=False))
    return Checkup(sorted(findings, key=lambda f: (not f.damage, f.path)), files, len(asked - set(rows)))


def unfinished(root: Path) -> list[Path]:
    """Files that a writer has not finished."""
    return sorted(p for folder in (root, *(root / name for name in FOLDERS)) for p in temporaries(folder))


def expect_results(root: Path) -> None:
    """Refuse a directory that is no results directory.

    Raises:
        InputError: it holds no rows.
    """
    if not (root / "rows").is_dir():
        raise InputError(f"{root} holds no results (no directory {root / 'rows'})")


# ---- files


def files_of(folder: Path) -> list[Path]:
    """What readers of the folder take for its files."""
    ending = {"_weights": "*.safetensors", "_checkpoints": "*.pt"}.get(folder.name, "*.parquet")
    return sorted(p for p in folder.glob(ending) if not p.name.startswith("."))


def _look(path: Path, look: Callable[[Path], Any], files: Counter[str]) -> Iterator[Finding]:
    """What is wrong with one file."""
    means = MEANS[path.parent.name]
    files[path.parent.name] += 1
    try:
        _open(path)
        look(path)
    except StoreIOError as error:
        if isinstance(error, OSError):  # an object store that cannot be reached
            raise
        yield _unread(path, error)
    except FileNotFoundError:
        files[path.parent.name] -= 1  # a run has just dropped it
    except NewerError as error:
        yield Finding(path, str(error), "it is left as it is")
    except Exception as error:  # damaged bytes may raise anything at all
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
            yield _unread(path, error)
        elif is_there(path):
            yield Finding(path, f"is damaged ({reason(error, 160)})", means, movable=True)


def _open(path: Path) -> None:
    """That it is a file, if it is one of this machine's."""
    try:
        if isinstance(path, Path):
            path.open("rb").close()
    except IsADirectoryError:
        raise ValueError("it is a directory") from None
    except FileNotFoundError:
        if path.is_symlink():
            raise ValueError("it is a link that leads nowhere") from None
        raise


def is_there(path: Path) -> bool:
    """Whether it is there, if only as a link that leads nowhere."""
    return path.exists() or (isinstance(path, Path) and path.is_symlink())


def _unread(path: Path, error: BaseException) -> Finding:
    """A file that the file system, or want of memory, keeps from us."""
    return Finding(path, f"cannot be read ({one_line(error.__cause__ or error)[:160]})", "it may be whole or not")


class NewerError(Exception):
    """A file of a newer tas_bench."""


def _table(path: Path, schema: pa.Schema | None) -> pa.Table:
    try:
        return read_table(path, schema)
    except StoreDamagedError as error:
        if error.__cause__ is None:
            raise NewerError(str(error).removeprefix(f"{path} ")) from None
        raise error.__cause__ from None


def _one_value(table: pa.Table, column: str, wanted: str) -> None:
    """That a column holds nothing but the file's name."""
    for value in set(table.column(column).to_pylist()) - {wanted}:
        raise ValueError(f"it is of {column} {value}: renamed, or a copy")


def _row(path: Path) -> Row:
    table = _table(path, ROWS)
    _one_value(table, "job_id", path.stem)
    row: Row = table.to_pylist()[0]
    if (job := row["job"]) is not None and sha256(job.encode()).hexdigest()[:20] != path.stem:
        raise ValueError("the job in it has another id")
    if not isinstance(json.loads(job or "{}"), dict):
        raise ValueError("the job in it is none")
    return row


def _curve(path: Path) -> None:
    _one_value(_table(path, None), "job_id", path.stem)


def _trajectory(path: Path) -> None:
    _one_value(_table(path, TRAJECTORIES), "job_id", path.stem)


def _uses(path: Path) -> set[str]:
    """Ids of the jobs that a plan asked for."""
    table = _table(path, USES)
    _one_value(table, "plan", path.stem)
    return set(table.column("job_id").to_pylist())


def _weights(path: Path) -> None:
    """As it was written, and every number in it is finite."""
    try:
        weights = read_weights(path)
    except StoreDamagedError as error:
        raise (error.__cause__ or error) from None
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds numbers that are not finite")


def _checkpoint(path: Path) -> None:
    """As a job that goes on would read it."""
    from tas_bench.checkpoint import read_state

    read_state(path, "cpu")


LOOKS: dict[str, Callable[[Path], None]] = {
    "_curves": _curve, "_trajectories": _trajectory, "_weights": _weights, "_checkpoints": _checkpoint,
}  # fmt: skip


# ---- what belongs together


def _companions(root: Path, key: str, row: Row) -> Iterator[Finding]:
    """What an ended job should have kept and is not there; what `repair` put aside is known."""
    if row["status"] != "ok":
        return
    ours = row["job"] is not None and str(json.loads(row["job"]).get("type")).startswith("tas_bench.")
    trained = ours and row["epochs"] is not None  # jobs of other packages may keep no curve
    needed = {
        root / "_curves" / f"{key}.parquet": trained,
        root / "_trajectories" / f"{key}.parquet": trained and row["arch_lr"] is not None,
        weights_path(root, key): row["kind"] in WEIGHTED,
    }
    for path, needs in needed.items():
        if needs and not is_there(path):
            means, for_good = MEANS[path.parent.name], path.parent.name != "_weights"
            if for_good:
                means += f" (to have it again, delete {root / 'rows' / path.name}: the job runs again)"
            yield Finding(path, "is missing", means, damage=for_good and not _put_aside(root, path))


def _snapshot(root: Path) -> Iterator[Finding]:
    """The file of all rows, which nobody but other programs depends on."""
    path = root / snapshot.NAME
    means = "the next run writes it anew, and tas_bench reads the rows without it"
    try:
        snapshot.read_snapshot(path)
    except FileNotFoundError:
        return
    except StoreDamagedError as error:
        yield Finding(path, str(error).removeprefix(f"{path} "), means, damage=False)
    except StoreIOError as error:
        yield replace(_unread(path, error), damage=False)
    except Exception as error:  # damaged bytes may raise anything at all
        yield Finding(path, f"is damaged ({reason(error, 160)})", means, movable=True)


def _manifest(root: Path, rows: dict[str, Row]) -> Iterator[Finding]:
    store, again = Store(root), "no run goes on here until it is restored or repaired"
    for path, read in ((root / SWEEP_FILE, store.manifest), (root / DATA_FILE, store.own_data)):
        try:
            if read() is None and path.name == SWEEP_FILE and rows and files_of(root / "_uses"):
                yield Finding(path, "is missing", again, movable=True)
        except StoreDamagedError as error:
            yield Finding(path, f"is damaged ({one_line(error.__cause__)[:160]})", again, movable=True)
        except StoreIOError as error:
            yield _unread(path, error)


def _put_aside(root: Path, path: Path) -> bool:
    """Whether `repair` has put a file of that name aside."""
    return any(is_there(folder / path.name) for folder in (root / ASIDE).glob(f"{path.parent.name}*"))
