"""Puts what is damaged in a results directory out of the way, so that it can be read and gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tas_bench import snapshot
from tas_bench.checkup import ASIDE, Checkup, Finding, check, expect_results, files_of, is_there, unfinished
from tas_bench.digest import sealed
from tas_bench.errors import StoreIOError
from tas_bench.files import write_whole
from tas_bench.schema import ROWS, SWEEP_FILE, USES
from tas_bench.store import Store
from tas_bench.tables import read_table


def repair(root: Path) -> Checkup:
    """Check, and put what is damaged into `_damaged/`, so that `load` and the next run work.

    Nothing is deleted but temporary files.

    Raises:
        InputError: it holds no results, or a run holds it.
        StoreIOError: the file system refused.
    """
    expect_results(root)
    left = unfinished(root)
    with Store(root).lock():  # drops those that nobody writes any more
        found = check(root)
        try:
            left = [path for path in left if not path.exists()]
            findings = [_set_aside(root, f) if f.movable else f for f in found.findings]
            findings = [_manifest_anew(root, f) if f.path == root / SWEEP_FILE else f for f in findings]
            what = "is what a killed writer left"
            findings += [Finding(p, what, "nothing is lost", done="dropped") for p in left]
        except OSError as error:
            raise StoreIOError(f"cannot repair {error.filename or root}: {error.strerror}") from error
    return replace(found, findings=findings)


def _set_aside(root: Path, finding: Finding) -> Finding:
    """Move a file to `_damaged/`, under its own name, over no other."""
    path = finding.path
    if not is_there(path):  # a manifest that is missing
        return finding
    if path == root / snapshot.NAME and path.is_file():
        path.unlink()
        return replace(finding, done="dropped")
    below = "" if path.parent == root else path.parent.name
    number, folder = 1, root / ASIDE / below
    while is_there(folder / path.name):
        number += 1
        folder = root / ASIDE / f"{below}.{number}"
    folder.mkdir(parents=True, exist_ok=True)
    path.rename(folder / path.name)
    return replace(finding, done=f"moved to {folder}")


def _manifest_anew(root: Path, finding: Finding) -> Finding:
    """Write a manifest that knows the sweep's name alone, by its uses or rows: the next run of it fills it in."""
    uses = [use for path in files_of(root / "_uses") for use in read_table(path, USES).to_pylist()]
    rows = [row for path in files_of(root / "rows") for row in read_table(path, ROWS).to_pylist()]
    names = sorted({found["sweep"] for found in uses or rows if found["sweep"]})
    if not (rows and finding.movable):  # a run may claim the directory as if it were new; or it cannot be read
        return finding
    if len(names) != 1:
        return replace(finding, done="", means=f"it cannot be written anew: rows are of {len(names)} sweeps")
    empty: dict[str, list[Any]] = {key: [] for key in ("problems", "seeds", "methods", "transfers")}
    stand_in = {"name": names[0], "title": names[0], "t": None, "train_subset": None, **empty, "fixed": {}}
    write_whole(root / SWEEP_FILE, sealed(stand_in))
    means = "its settings are lost: run the sweep with those it had, for no others will be refused"
    done = f"{finding.done}; " if finding.done else ""
    return replace(finding, means=means, done=f"{done}a stand-in knows that this is sweep '{names[0]}'")
