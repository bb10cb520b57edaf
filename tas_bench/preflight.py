"""What must hold before a sweep is run, and what to do where it does not: at the start of a run, and in doctor."""

from __future__ import annotations

import contextlib
import errno
import math
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tas_bench.backbones import find_backbone
from tas_bench.costs.latency import LATENCY
from tas_bench.data import check_data, dataset_info, train_count
from tas_bench.data.vision import torchvision
from tas_bench.errors import InputError, StoreIOError, TasBenchError
from tas_bench.estimate import disk_of, room_of
from tas_bench.files import REFUSALS, remote, temporary_of, write_whole
from tas_bench.jobs import DataSpec, Recipe
from tas_bench.plans import Plans
from tas_bench.reading import load
from tas_bench.resources import Resources
from tas_bench.store import Store
from tas_bench.sweep import Sweep, names_of
from tas_bench.text import one_line

PACKAGE = "tas-bench"

RAY_BYTES = 100_000_000
"""What Ray writes below the folder for temporary files, logs above all."""


class DoubtError(TasBenchError):
    """Something that may turn out badly, though a run can begin."""


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        status: ok, warning or failed.
        told: what was found and, unless ok, what to do; one line.
    """

    name: str
    status: str
    told: str


def check_run(sweep: Sweep, results: Path, data_root: Path | None, resources: Resources) -> dict[str, str]:
    """Refuse a run that cannot end well, before anything is computed or written.

    Returns:
        A fingerprint of the data by data set, see `check_data`.

    Raises:
        InputError: what the user asked for cannot be done here.
        StoreIOError: the results directory, or the folder for temporary files, takes no files or too few.
    """
    with contextlib.suppress(DoubtError):
        check_versions()
    fingerprints = check_images(sweep, data_root)
    sweep.check_budget()
    resources.check()
    check_methods(sweep)
    check_writable(results)
    check_joins(sweep, results, fingerprints)
    check_rooms(sweep, results, resources)
    return fingerprints


def diagnose(sweep: Sweep | None, results: Path, data_root: Path | None, resources: Resources) -> Iterator[Check]:
    """The same checks one by one, whatever they find; without a sweep those of the installation alone."""
    yield _checked("versions", check_versions)
    yield _checked("torchvision", check_torchvision)
    yield _checked("devices", lambda: _devices(resources))
    if sweep is None:
        return
    fingerprints: dict[str, str] = {}
    yield _checked("data", lambda: _images(sweep, data_root, fingerprints))
    yield _checked("budget", lambda: _budget(sweep))
    yield _checked("results directory", lambda: _directory(sweep, results, fingerprints))
    yield _checked("room", lambda: check_rooms(sweep, results, resources))


def _checked(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", one_line(check()))
    except DoubtError as doubt:
        return Check(name, "warning", one_line(doubt))
    except TasBenchError as error:
        return Check(name, "failed", one_line(error))


# ---- the installation


def check_versions() -> str:
    """Refuse versions of Python or of packages other than those supported.

    Raises:
        InputError: one is missing, too old or too new.
        DoubtError: tas_bench itself is not installed, so that nobody knows which are.
    """
    try:
        supported, wanted = distribution(PACKAGE).metadata["Requires-Python"], requires(PACKAGE) or []
    except PackageNotFoundError as error:
        raise DoubtError(f"{PACKAGE} is not installed: versions are not compared; pip install -e .") from error
    if not SpecifierSet(supported).contains(platform.python_version()):
        raise InputError(f"Python is {platform.python_version()}; tas_bench needs {supported}: use such a one")
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate():
            _check_version(requirement)
    found = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "ray"))
    return f"Python {platform.python_version()}, {found}"


def _check_version(wanted: Requirement) -> None:
    try:
        found = version(wanted.name)
    except PackageNotFoundError as error:
        raise InputError(f"{wanted.name} is not installed; pip install '{wanted}'") from error
    if not wanted.specifier.contains(found, prereleases=True):
        raise InputError(f"{wanted.name} is {found}; tas_bench needs {wanted.specifier}: pip install '{wanted}'")


def check_torchvision() -> str:
    """Refuse a torchvision that was built for another torch and cannot be imported.

    Raises:
        InputError: it cannot be imported.
        DoubtError: it can, though its operators were built for another torch.
    """
    torchvision("datasets")  # raises where even data sets cannot be had
    mine, theirs = (Version(version(name)) for name in ("torch", "torchvision"))
    for wanted in map(Requirement, requires("torchvision") or []):
        if wanted.name == "torch" and not wanted.specifier.contains(mine, prereleases=True):
            raise DoubtError(f"torchvision {theirs} was built for torch {wanted.specifier}, not {mine}; {_MATCH}")
    if theirs.local is not None and mine.local is not None and theirs.local != mine.local:
        raise DoubtError(f"torchvision {theirs} and torch {mine} are not of one build; {_MATCH}")
    return f"{theirs} goes with torch {mine}"


_MATCH = "data sets and transforms work, its operators may not: install the one that matches"


def _devices(resources: Resources) -> str:
    """What there is; refuses what a job asks for and is not there.

    Raises:
        InputError: see `Resources.check`.
    """
    resources.check()
    if resources.address is not None:
        return f"a Ray cluster answers at {resources.address}"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(gpus) or "no GPU: jobs run on the CPU"


# ---- what a sweep needs


def check_images(sweep: Sweep, data_root: Path | None) -> dict[str, str]:
    """Refuse data that is missing, damaged or too little; fingerprints by data set. Raises as `check_data`."""
    fingerprints = {
        problem.data.name: check_data(problem.data, data_root, problem.recipe.holdout)
        for problem in {p.data: p for p in sweep.problems}.values()
    }
    for problem in sweep.problems:
        count, recipe = train_count(problem.data, data_root), problem.recipe
        parts = (count // 2, count - count // 2, count - round(count * recipe.holdout))
        check_last_batch(problem.backbone_name, problem.data, recipe, parts)
    return fingerprints


def check_last_batch(backbone_name: str, data: DataSpec, recipe: Recipe, parts: Iterable[int]) -> None:
    """Refuse a pass that ends with one image where a feature map has one pixel: a batch norm needs two values.

    Args:
        parts: images of each pass.
    """
    info = dataset_info(data.name)
    layers = find_backbone(backbone_name).layers(info.classes, info.image)
    if all(layer.positions > 1 for layer in layers if layer.norm):
        return
    for images in parts:
        if images % recipe.batch == 1:
            raise InputError(
                f"{images} images in batches of {recipe.batch} leave one over, which {backbone_name} "
                f"cannot normalise on {data.name}; change batch or train_subset"
            )


def check_methods(sweep: Sweep) -> None:
    """Refuse a problem that a method refuses at its first step.

    Raises:
        InputError: the method says why.
    """
    one_seed = replace(sweep, seeds=sweep.seeds[:1])
    Plans(one_seed.plans(), lambda _job, _key: None)


def check_writable(results: Path) -> str:
    """Refuse a results directory that cannot be made or written; nothing is left behind.

    Raises:
        InputError: something is in the way, or the name is too long.
        StoreIOError: the file system takes no files there.
    """
    try:
        if remote(results) is not None:
            probe = temporary_of(results / "probe")
            write_whole(probe, b"")
            probe.unlink(missing_ok=True)
            return f"{results} can be written"
        folder = existing(results)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(folder))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        kind = StoreIOError if error.errno in REFUSALS else InputError
        told = f"results directory {results} is not writable: {error.strerror}"
        raise kind(f"{told}; use another --results") from error
    return f"{results} can be written"


def check_joins(sweep: Sweep, results: Path, fingerprints: dict[str, str]) -> None:
    """Refuse a results directory of another sweep, of other settings or of other data.

    Raises:
        InputError: what is there must not be compared with what would come.
        StoreDamagedError: what is there cannot be read.
    """
    store = Store(results)
    store.joined(sweep.manifest())
    store.joined_data(fingerprints)


def check_rooms(sweep: Sweep, results: Path, resources: Resources) -> str:
    """Refuse a results directory or a folder for temporary files without room for what is left to run.

    Raises:
        StoreIOError: see `check_room`.
    """
    left = sweep.jobs - _finished(sweep, results)
    if left <= 0:
        return "nothing is left to run"
    temporary = check_room(Path(tempfile.gettempdir()), RAY_BYTES)
    if remote(results) is not None:
        return temporary
    cpus, gpus = room_of(resources)
    most = max(share.fits(cpus, gpus) for share in resources.shares(gpus)) if cpus < math.inf else 0
    return f"{check_room(results, disk_of(sweep, left, min(left, most)))}; {temporary}"


def _finished(sweep: Sweep, results: Path) -> int:
    """Jobs that this sweep's plans have asked for and that ended well; the directory may hold others."""
    if not (results / "rows").is_dir():
        return 0
    rows, uses = load(results), load(results, table="uses")
    wanted = (uses["kind"] != "final") | uses["transfer"].isin(names_of(sweep.transfers))
    here = uses["dataset"].isin(sweep.datasets) & uses["backbone"].isin(sweep.backbones)
    own = uses[uses["plan"].isin([plan.name for plan in sweep.plans()]) & wanted & here]
    return int((rows["job_id"].isin(own["job_id"]) & (rows["status"] == "ok")).sum())


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def check_room(folder: Path, needed: int) -> str:
    """Refuse a file system with less room than is needed.

    Raises:
        StoreIOError: it has less.
    """
    free = shutil.disk_usage(existing(folder)).free
    told = f"{folder} has {free / 1e6:,.0f} MB free, up to {needed / 1e6:,.0f} MB are needed"
    if free < needed:
        raise StoreIOError(f"{told}: make room, or use another folder")
    return told


def _images(sweep: Sweep, data_root: Path | None, fingerprints: dict[str, str]) -> str:
    fingerprints.update(check_images(sweep, data_root))
    return ", ".join(f"{name} ({mark})" for name, mark in fingerprints.items())


def _directory(sweep: Sweep, results: Path, fingerprints: dict[str, str]) -> str:
    """Whether a run may write there, now.

    Raises:
        DoubtError: another one does.
    """
    told = check_writable(results)
    if sweep.cost != LATENCY:  # a run measures first, and its manifest names the table
        check_joins(sweep, results, fingerprints)
    if holder := Store(results).holder():
        raise DoubtError(f"{results} is held by {holder.host}:{holder.pid}; a run can begin there once that ends")
    return told


def _budget(sweep: Sweep) -> str:
    """Whether budget and methods can be had.

    Raises:
        DoubtError: nobody knows before layers were measured.
    """
    if sweep.cost == LATENCY:
        raise DoubtError("a run with the cost latency measures layers first, and checks its budget then")
    sweep.check_budget()
    check_methods(sweep)
    return "every method can meet it"
