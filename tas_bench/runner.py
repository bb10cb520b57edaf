"""Drives a sweep's plans on Ray Tune; the only file that imports ray.

Tune is a scheduler that may be thrown away at any moment: workers commit their own rows, the driver reads them
back from the store, and exit codes and resume come from the store, never from `Tuner.fit`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tas_bench.data import check_data
from tas_bench.dispatch import JOB_RETRIES, Dispatch, Task
from tas_bench.errors import INTERNAL, InputError, TasBenchError
from tas_bench.jobs import Context, Job, Outcome
from tas_bench.plans import NamedPlan, Plans, uses_rows
from tas_bench.progress import Progress
from tas_bench.resources import Resources, join_environment
from tas_bench.signals import Signals
from tas_bench.store import Store
from tas_bench.sweep import Sweep, names_of
from tas_bench.worker import execute

log = logging.getLogger("tas_bench")

HEARTBEAT = 2.0
"""Seconds between two signs of life of a running job."""


def run_sweep(
    sweep: Sweep,
    results: Path,
    data_root: Path | None,
    resources: Resources,
    progress: Callable[[], Progress],
) -> Plans:
    """Run what is missing of a sweep; every finished job's row is in `results` when this returns or raises.

    Raises:
        InputError: before any compute: a budget out of reach, a directory of another sweep, too few GPUs ...
        Interrupted: SIGINT or SIGTERM came; the same command goes on from here.
    """
    store = Store(results)
    fingerprints = {p.data.name: check_data(p.data, data_root, p.recipe.holdout) for p in sweep.problems}
    sweep.check_budget()
    resources.check()
    one_seed = replace(sweep, seeds=sweep.seeds[:1])
    Plans(one_seed.plans(), lambda _job, _key: None)  # a method may refuse the problem at its first step
    with store.lock():
        _log_to_file(log, results, "run.log", logging.INFO)

        def lookup(job: Job, key: str) -> Outcome | None:
            return store.outcome(key, needs_weights=job.kind == "teacher")

        def on_progress(plan: NamedPlan) -> None:
            store.write_uses(plan.name, uses_rows(plan, sweep.name), names_of(sweep.transfers))
            if plan.error:
                log.warning("plan %s ended early: %s", plan.name, plan.error)

        plans = Plans(sweep.plans(), lookup)
        store.claim(sweep.manifest(), fingerprints)
        plans.watch(on_progress)
        root = data_root.absolute() if data_root else None
        run_plans(plans, sweep, Context(results=results.absolute(), data_root=root), resources, progress)
    return plans


def run_plans(
    plans: Plans, sweep: Sweep, context: Context, resources: Resources, progress: Callable[[], Progress]
) -> None:
    """Run all that the plans ask for; Ray starts only if there is something to run."""
    if not plans.done:
        with progress() as display, Signals() as signals, _folder() as folder, _ray(resources, folder) as gpus:
            for name in ("ray", "ray.tune"):
                _log_to_file(logging.getLogger(name), context.results, "ray.log", logging.WARNING)
            signals.take()  # again, since ray.init took SIGTERM for itself
            dispatch = Dispatch(plans, sweep, replace(context, cpus=resources.cpus, gpus=gpus), display)
            _fit(dispatch, signals, folder)


# ---- Ray


@contextlib.contextmanager
def _ray(resources: Resources, folder: Path) -> Iterator[float]:
    """A Ray to run on: the cluster at `address`, or a local one on loopback, without dashboard, gone afterwards.

    Yields the share of a GPU that each job holds.
    """
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the store holds the results
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals are ours
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # by default workers give way to whatever else the machine does
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    if resources.address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # the switch that keeps a local Ray on loopback
    else:
        os.environ |= join_environment()
    import ray

    try:
        _connect(resources, folder)
        ray._private.worker.print_to_stdstream = _to_log  # it tells of every worker that dies
        found = ray.cluster_resources().get("GPU", 0)
        yield (0.25 if found else 0.0) if resources.gpus is None else resources.gpus
    finally:
        ray.shutdown()


def _connect(resources: Resources, folder: Path) -> None:
    """Start a local Ray, its files for nobody else's eyes, or join the cluster."""
    import ray

    if resources.address is None:
        old_umask = os.umask(0o077)
        try:
            ray.init(
                address="local", num_cpus=resources.total_cpus, num_gpus=resources.total_gpus,
                include_dashboard=False, _temp_dir=str(folder), log_to_driver=False, logging_level=logging.ERROR,
            )  # fmt: skip
        finally:
            os.umask(old_umask)
        return
    try:
        ray.init(address=resources.address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        hint = "if there is one, set RAY_AUTH_MODE as it has it"
        raise InputError(f"no Ray cluster answers at {resources.address} ({error}); {hint}") from error


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A private folder for Ray and Tune, whose sockets lie 65 characters below and may have 107 in all."""
    parent = tempfile.gettempdir()
    found = tempfile.mkdtemp(prefix="tas-bench-", dir=parent if len(parent) <= 20 else "/tmp")  # noqa: S108
    try:
        yield Path(found)
    finally:
        shutil.rmtree(found, ignore_errors=True)


def _log_to_file(logger: logging.Logger, results: Path, name: str, level: int) -> None:
    """Keep the terminal quiet: the details go to a file beside the rows."""
    for old in logger.handlers:
        old.close()
    handler = logging.FileHandler(results / "_log" / name, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(level)


def _to_log(message: dict[str, Any], **_options: Any) -> None:
    logging.getLogger("ray").warning("%s", " ".join(message["lines"]))


def _fit(dispatch: Dispatch, signals: Signals, folder: Path) -> None:
    """Let Tune pull jobs until every plan has ended."""
    from ray import tune

    context = dispatch.context
    slots = _slots(context)
    tuner = tune.Tuner(
        tune.with_resources(_worker(), {"cpu": context.cpus, "gpu": context.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=_searcher(dispatch), scheduler=_scheduler(slots), num_samples=-1, reuse_actors=True,
            max_concurrent_trials=slots, trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "tune"), name="tune", verbose=0, log_to_file=False,
            callbacks=[_watch(signals)],
            failure_config=tune.FailureConfig(max_failures=JOB_RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )  # fmt: skip
    tuner.fit()
    if dispatch.fault is not None:
        raise dispatch.fault
    if not dispatch.plans.done:
        raise TasBenchError("Ray Tune stopped before the sweep was done; the same command goes on from here")


def _slots(context: Context) -> int:
    """How many jobs run side by side."""
    import ray

    total = ray.cluster_resources()
    limits = [
        int(total.get(name, 0) / share + 1e-9)
        for name, share in (("CPU", context.cpus), ("GPU", context.gpus))
        if share
    ]
    if min(limits) < 1:
        raise InputError(
            f"a job asks for {context.cpus:g} CPUs and {context.gpus:g} GPUs; the cluster has no room"
        )
    return min(limits)


def _searcher(dispatch: Dispatch) -> Any:
    """The dispatch as a Tune searcher. The class is local because ray is imported when a run needs it."""
    from ray.tune.search import Searcher

    class PlanSearcher(Searcher):
        def __init__(self, dispatch: Dispatch) -> None:
            super().__init__(metric="done", mode="max")
            self.dispatch = dispatch

        def __getstate__(self) -> dict[str, Any]:
            return {}  # generators do not pickle, and resume trusts the store

        def save(self, checkpoint_path: str) -> None: ...
        def restore(self, checkpoint_path: str) -> None: ...

        def suggest(self, trial_id: str) -> Any:
            config = self.dispatch.suggest(trial_id)
            return Searcher.FINISHED if config is None and self.dispatch.finished else config

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            self.dispatch.tick(trial_id, result)

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            self.dispatch.complete(trial_id, result, died=error)

    return PlanSearcher(dispatch)


def _scheduler(slots: int) -> Any:
    """First come, first served, with all workers kept warm.

    Where plans wait for their batches Tune would keep one worker and start the others anew, for seconds each.
    """
    from ray.tune.schedulers import FIFOScheduler

    class Warm(FIFOScheduler):
        warm = False

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            if not self.warm:
                self.warm = True
                cache = tune_controller._tune_controller._actor_cache  # no public way
                cache.increase_max(trial.placement_group_factory, slots)

    return Warm()


def _watch(signals: Signals) -> Any:
    """A Tune callback that ends the run between two of Tune's steps once a signal came."""
    from ray import tune

    class Watch(tune.Callback):
        def __init__(self, signals: Signals) -> None:
            self.signals = signals

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_step_begin(self, **_info: Any) -> None:
            self.signals.check()

    return Watch(signals)


def _worker() -> Any:
    """The Trainable that runs jobs one after another in a warm actor."""
    from ray import tune

    class Worker(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._begin(config["task"])

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._begin(new_config["task"])
            return True

        def _begin(self, task: Task) -> None:
            self.task = task
            self.thread: threading.Thread | None = None
            self.epoch, self.epochs = 0, 0
            self.fault: tuple[int, str] | None = None

        def step(self) -> dict[str, Any]:
            """Start the job, or look after it: every few seconds a sign of life, at its end `done`."""
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, daemon=True)
                self.thread.start()
            self.thread.join(HEARTBEAT)
            done = not self.thread.is_alive()
            return {"done": done, "epoch": self.epoch, "epochs": self.epochs, "fault": self.fault}

        def _work(self) -> None:
            try:
                execute(self.task.job, self.task.labels, replace(self.task.context, tick=self._tick))
            except TasBenchError as error:
                self.fault = error.exit_code, str(error)
            except BaseException as error:
                self.fault = INTERNAL, f"{type(error).__name__}: {error}"

        def _tick(self, done: int, total: int) -> None:
            self.epoch, self.epochs = done, total

    return Worker
