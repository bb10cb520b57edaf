"""How a sweep stands, from its results directory alone, wherever it runs."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tas_bench.attempts import under_way
from tas_bench.lock import Holder
from tas_bench.reading import load
from tas_bench.store import Store
from tas_bench.text import duration


@dataclass(frozen=True)
class Status:
    """What is told.

    Attributes:
        holder: who runs it now; None where nobody does.
        jobs: by status: ok, failed, oom, timeout and diverged as their rows say; running and waiting.
        plans: one row per plan, with the same counts.
        running: one row per attempt under way: job_id, plan, kind, host, pid, seconds.
        failed: one row per job that ended badly: job_id, plan, kind, status, attempts, error.
    """

    sweep: str
    holder: Holder | None
    jobs: dict[str, int]
    plans: pd.DataFrame
    running: pd.DataFrame
    failed: pd.DataFrame

    @property
    def who(self) -> str:
        """Who runs it, in a line."""
        if self.holder is None:
            return "nobody runs it now"
        place = f"{self.holder.host}:{self.holder.pid}"
        return f"run by {place}, last sign of life {duration(self.holder.age_seconds)} ago"


def status_of(results: Path) -> Status:
    """Read how a sweep stands; nothing changes.

    Raises:
        InputError: no results there.
        StoreDamagedError: a file cannot be read back.
    """
    store = Store(results)
    rows = load(results).set_index("job_id")
    uses = load(results, table="uses")
    held = store.holder()
    attempts = under_way(results) if held is not None else {}
    jobs = uses.drop_duplicates("job_id").set_index("job_id")[["plan", "kind"]]
    jobs["status"] = rows["status"].reindex(jobs.index)
    began = pd.to_datetime(pd.Series({key: one["started"] for key, one in attempts.items()}, dtype=str), utc=True)
    again = began.reindex(jobs.index) > rows["ended"].reindex(jobs.index)  # its weights are lost
    going = jobs.index.isin(list(attempts)) & (jobs["status"].ne("ok") | again)
    jobs["status"] = jobs["status"].mask(going, "running").fillna("waiting")
    by_plan = uses.assign(status=uses["job_id"].map(jobs["status"]))
    manifest = store.manifest()
    return Status(
        sweep=manifest["name"] if manifest else str(results),
        holder=held,
        jobs={str(name): int(count) for name, count in jobs["status"].value_counts().items()},
        plans=pd.crosstab(by_plan["plan"], by_plan["status"]).rename_axis(columns=None).reset_index(),
        running=_running(jobs[jobs["status"] == "running"], attempts),
        failed=_failed(jobs, rows),
    )


def _running(jobs: pd.DataFrame, attempts: dict[str, dict[str, str]]) -> pd.DataFrame:
    now = datetime.datetime.now(datetime.UTC)
    found = [
        {
            "job_id": key, "plan": job["plan"], "kind": job["kind"],
            "host": attempts[str(key)]["host"], "pid": attempts[str(key)]["pid"],
            "seconds": (now - datetime.datetime.fromisoformat(attempts[str(key)]["started"])).total_seconds(),
        }
        for key, job in jobs.iterrows()
    ]  # fmt: skip
    return pd.DataFrame(found, columns=["job_id", "plan", "kind", "host", "pid", "seconds"])


def _failed(jobs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    bad = jobs[~jobs["status"].isin(["ok", "running", "waiting"])]
    return bad.join(rows[["attempts", "error"]]).reset_index()
