"""Trains one size in this process, without Ray. Jobs, rows and checkpoints are those of any sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from tas_bench.backbones import find_backbone
from tas_bench.errors import TrainingFailedError, unknown
from tas_bench.jobs import Context, job_id
from tas_bench.progress import bar
from tas_bench.settings import preset_names, setting_names, with_settings
from tas_bench.space import Size
from tas_bench.store import Row, Store
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.train import Train, final_job, teacher_job
from tas_bench.transfer import all_transfers
from tas_bench.worker import Labels, execute, log_path

LABELS = Labels(sweep="train", method="by_hand", budget=None)


def job_of(
    backbone: str, size: Size | None, transfer: str, dataset: str, seed: int, settings: Mapping[str, str]
) -> Train:
    """The training that is asked for; its teacher's is in it where it needs one.

    The unpruned network from scratch is what others learn from, so it is trained as their teacher.

    Args:
        size: None takes the unpruned one.
        settings: of the recipe and the transfer by name, as `--set` takes them, `train_subset`, `teacher_epochs`.

    Raises:
        InputError: an unknown name, a size that does not fit, a setting out of range.
    """
    known, unpruned = all_transfers(), find_backbone(backbone)
    if transfer not in known:
        raise unknown("transfer", transfer, known)
    if size is not None:
        unpruned.check(size)
    size = unpruned.canonical(size or unpruned.full)
    sweep = Sweep(  # which knows its settings by name; nothing searches
        name=LABELS.sweep, title="By hand", methods=(Tas(),), transfers=(known[transfer](),),
        datasets=(dataset,), backbones=(backbone,), seeds=(seed,),
    )  # fmt: skip
    _check_keys(settings, sweep, transfer)
    sweep = with_settings(sweep, settings)
    [problem], [chosen] = sweep.problems, sweep.transfers
    if size == unpruned.full and not chosen.needs_teacher:
        return teacher_job(problem, seed)
    return final_job(problem, size, seed, chosen)


def _check_keys(settings: Mapping[str, str], sweep: Sweep, transfer: str) -> None:
    """Refuse what is a sweep's setting and none of a training."""
    every = (*setting_names(sweep), *preset_names(sweep))
    sweeps_own = ("train_subset", "teacher_epochs")
    known = [key for key in every if key in sweeps_own or key.partition(".")[0] in ("recipe", transfer)]
    for key in settings:
        if not any(full == key or full.endswith(f".{key}") for full in known):
            raise unknown("setting", key, known)


def train_by_hand(job: Train, store: Store, context: Context, console: Console, quiet: bool) -> Row:
    """Train the teacher, where the job needs one, and the job; what is finished is taken as it is.

    The store's lock is held by the caller; afterwards the weights lie beside the row.

    Raises:
        TrainingFailedError: one of them ended badly.
    """
    if isinstance(job.teacher, Train):
        _train(job.teacher, store, context, console, quiet)
    return _train(job, store, context, console, quiet)


def _train(job: Train, store: Store, context: Context, console: Console, quiet: bool) -> Row:
    key = job_id(job)
    found = store.row(key)
    if found is not None and store.outcome(key, needs_weights=True) is not None:
        console.print(Text(f"{name_of(job)}: found finished"), soft_wrap=True)
        return found
    before: int | None = None

    def tick(done: int, _total: int) -> None:
        nonlocal before
        before = done - 1 if before is None else before  # what a checkpoint brought
        tell(done, before)

    with bar(f"training {name_of(job)}", job.recipe.epochs, console, quiet) as tell:
        row = execute(job, LABELS, replace(context, keep_weights=True, tick=tick))
    if row["status"] != "ok":
        if row["status"] == "diverged":
            advice = f"it would again: take a lower rate than {job.recipe.lr:g} (--set lr=...)"
        else:
            advice = f"details in {log_path(store.path, key)}; the same command tries again"
        raise TrainingFailedError(f"{name_of(job)} ended as {row['status']}: {row['error']}; {advice}")
    if row["warning"]:
        console.print(Text(f"warning: {row['warning']}"), soft_wrap=True)
    standing = store.row(key)
    assert standing is not None
    return standing


def name_of(job: Train) -> str:
    """The training in a few words."""
    what = "unpruned, from scratch" if job.role == "teacher" else job.transfer.name
    return f"{job.backbone_name} on {job.data.name} ({what}, {job.recipe.epochs} epochs, seed {job.seed})"
