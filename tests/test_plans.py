"""Plans over a store of outcomes: each job once, in any order of completion, and resume is replay."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tas_bench.backbones.backbone import ImageShape
from tas_bench.errors import PlanFailedError
from tas_bench.jobs import DataSpec, Outcome, Problem, Recipe, job_id
from tas_bench.plans import NamedPlan, Plans, uses_rows
from tas_bench.schema import USES


@dataclass(frozen=True)
class Number:
    """A job that is told apart by a number."""

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "candidate"
    touches_test: ClassVar[bool] = False

    seed: int

    def describe(self) -> dict[str, Any]:
        return {"transfer": "scratch"}


def answer(job):
    """What becomes of a job: a number, or for every seventh a failure."""
    if job.seed % 7 == 6:
        return Outcome(status="failed", error=f"{job.seed} fails")
    return Outcome(val_accuracy=job.seed * 37 % 101 / 101)


def accuracies(outcomes):
    return [None if o.val_accuracy is None else round(o.val_accuracy * 101) for o in outcomes]


def climber(start, steps, width):
    """A plan whose every batch depends on the outcomes of the one before, with twins inside a batch."""
    trace, place = [], start
    for _ in range(steps):
        batch = [Number((place + i // 2) % 40) for i in range(width)]
        outcomes = yield batch
        trace.append(accuracies(outcomes))
        place += 1 + sum(a or 0 for a in trace[-1])
    return trace


PROBLEM = Problem(
    data=DataSpec(name="digits"), backbone_name="tiny", classes=10, image=ImageShape(1, 8), keep=0.6, t=0.05,
    recipe=Recipe(),
)  # fmt: skip


class Run:
    """Plans that remember what they returned, over a dict of finished jobs."""

    def __init__(self, makers, known=()):
        self.results = {}
        self.known = dict(known)
        named = [
            NamedPlan(name, f"m-{name}", 0, PROBLEM, self._kept(name, steps)) for name, steps in makers.items()
        ]
        self.started, self.finished = [], []
        self.plans = Plans(named, lambda job, key: self.known.get(key))

    def _kept(self, name, steps):
        self.results[name] = yield from steps

    def go(self, pick=lambda n: 0, jobs=10**6):
        """Run to the end or for so many jobs, two side by side, finishing whichever `pick` says."""
        running = []
        while len(self.finished) < jobs:
            while len(running) < 2 and (use := self.plans.next_job()):
                running.append(use)
                self.started.append(use.key)
            if not running:
                break
            use = running.pop(pick(len(running) - 1))
            self.finished.append(use.key)
            self.plans.finish(use.key, answer(use.job))
            outcome = self.plans.outcomes[use.key]
            if outcome.ok:  # a failed job is never taken for a finished one
                self.known[use.key] = outcome
        return self


def key(number):
    return job_id(Number(number))


# ---------------------------------------------------------------- batches and outcomes


def one_batch(*numbers):
    return (yield [Number(n) for n in numbers])


def test_outcomes_come_in_the_order_of_the_jobs_whatever_ends_first():
    for pick in (0, -1):
        run = Run({"p": one_batch(3, 1, 2)}).go(lambda n, pick=pick: pick)
        assert accuracies(run.results["p"]) == [10, 37, 74]
    assert run.finished != run.started


def test_a_job_runs_once_across_and_within_batches():
    def again():
        first = yield [Number(1), Number(1), Number(2)]
        second = yield [Number(2), Number(3), Number(1)]
        return accuracies(first), accuracies(second)

    run = Run({"a": again(), "b": one_batch(3, 1), "c": one_batch(2)}).go()
    assert sorted(run.started) == sorted(map(key, (1, 2, 3)))
    assert run.results["a"] == ([37, 37, 74], [74, 10, 37])
    assert accuracies(run.results["b"]) == [10, 37]
    assert run.plans.done


def test_a_job_belongs_to_who_asked_first_and_is_used_by_all():
    plans = Run({"a": one_batch(1), "b": one_batch(2, 1, 2)}).go().plans
    assert plans.first_use[key(1)].method == "m-a"
    a, b = plans.plans
    assert [use.key for use in a.uses] == [key(1)]
    assert [use.key for use in b.uses] == [key(2), key(1)], "each once, in the order they were asked for"
    rows = uses_rows(b, "mine")
    assert [list(row) for row in rows] == [USES.names] * 2
    assert rows[1] == {
        "job_id": key(1), "sweep": "mine", "plan": "b", "method": "m-b", "seed": 0,
        "dataset": "digits", "backbone": "tiny", "kind": "candidate", "transfer": "scratch",
    }  # fmt: skip


def test_an_empty_batch_goes_on():
    def empty():
        nothing = yield []
        one = yield [Number(1)]
        more = yield []
        return nothing, accuracies(one), more

    run = Run({"p": empty(), "q": iter_nothing()}).go()
    assert run.results == {"p": ([], [37], []), "q": None}


def iter_nothing():
    yield from ()


def test_nothing_to_hand_out_while_plans_wait_or_after_the_end():
    plans = Run({"p": climber(0, 2, 2)}).plans
    assert plans.queued == {"candidate": 1}
    use = plans.next_job()
    assert plans.next_job() is None
    assert not plans.done
    plans.finish(use.key, answer(use.job))
    assert plans.queued == {"candidate": 1}
    use = plans.next_job()
    plans.finish(use.key, answer(use.job))
    assert plans.done
    assert plans.next_job() is None


def test_failed_outcomes_reach_the_plan_and_failed_plans_stop_alone():
    def gives_up():
        [outcome] = yield [Number(6)]
        raise PlanFailedError(f"cannot go on: {outcome.error}")

    run = Run({"a": gives_up(), "b": one_batch(6, 1), "c": climber(1, 5, 3)}).go()
    assert [plan.error for plan in run.plans.plans] == ["cannot go on: 6 fails", None, None]
    assert run.plans.done
    assert accuracies(run.results["b"]) == [None, 37]
    assert "c" in run.results


def test_a_plan_may_fail_at_once():
    def hopeless():
        raise PlanFailedError("no hope")
        yield []

    run = Run({"a": hopeless(), "b": one_batch(1)}).go()
    assert [plan.error for plan in run.plans.plans] == ["no hope", None]
    assert "b" in run.results


def test_other_errors_of_a_plan_are_not_swallowed():
    def broken():
        yield [Number(1)]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Run({"a": broken()}).go()


def test_a_watcher_sees_every_step_and_what_was_before():
    run = Run({"a": climber(0, 2, 2), "b": one_batch(1)})
    seen = []
    run.plans.watch(lambda plan: seen.append((plan.name, len(plan.uses), plan.done)))
    run.go()
    assert seen[:2] == [("a", 1, False), ("b", 1, False)]
    assert {("a", 2, True), ("b", 1, True)} <= set(seen)


def test_jobs_are_told_apart_by_all_that_decides_them():
    @dataclass(frozen=True)
    class Newer(Number):
        version: ClassVar[int] = 2

    keys = {job_id(Number(1)), job_id(Number(2)), job_id(Newer(1))}
    assert len(keys) == 3
    assert job_id(Number(1)) == job_id(dataclasses.replace(Number(2), seed=1))
    assert all(len(k) == 20 and int(k, 16) >= 0 for k in keys)


# ---------------------------------------------------------------- replay and resume


def some_plans():
    return {"a": climber(0, 4, 3), "b": climber(1, 3, 4), "c": one_batch(0, 6, 13)}


def test_replay_of_a_full_store_runs_nothing_but_what_failed():
    first = Run(some_plans()).go()
    again = Run(some_plans(), first.known)
    assert again.plans.replayed == len(set(first.known) & set(again.plans.outcomes))
    again.go()
    failed = {k for k, outcome in first.plans.outcomes.items() if not outcome.ok}
    assert failed
    assert set(again.started) == failed
    assert again.results == first.results
    assert [[u.key for u in p.uses] for p in again.plans.plans] == [
        [u.key for u in p.uses] for p in first.plans.plans
    ]


def test_replay_of_a_full_store_is_over_at_once():
    first = Run({"a": one_batch(1, 2), "b": one_batch(2, 3)}).go()
    again = Run({"a": one_batch(1, 2), "b": one_batch(2, 3)}, first.known)
    assert again.plans.done
    assert again.plans.replayed == 3
    assert again.results == first.results


@given(st.data())
def test_resume_from_every_prefix_in_any_order_gives_the_same(data):
    def pick(n):
        return data.draw(st.integers(0, n))

    whole = Run(some_plans()).go(pick)
    cut = data.draw(st.integers(0, len(whole.finished)))
    part = Run(some_plans()).go(pick, jobs=cut)
    rest = Run(some_plans(), part.known).go(pick)
    assert rest.results == whole.results
    assert rest.plans.outcomes == whole.plans.outcomes
    assert not set(rest.started) & set(part.known), "no finished job runs twice"
    assert len(set(rest.started)) == len(rest.started)
    assert set(rest.started) | set(part.known) == set(whole.finished)


def test_more_plans_run_only_what_is_missing():
    first = Run({"a": one_batch(1, 2)}).go()
    more = Run({"a": one_batch(1, 2), "b": one_batch(2, 3, 4)}, first.known).go()
    assert sorted(more.started) == sorted(map(key, (3, 4)))


def test_a_job_is_described_once_however_many_steps_its_plan_takes(monkeypatch):
    described = []
    monkeypatch.setattr(Number, "describe", lambda self: described.append(self.seed) or {"transfer": "scratch"})

    def long():
        for step in range(20):
            yield [Number(step), Number(0)]

    plans = Plans([NamedPlan("p", "m", 0, PROBLEM, long())], lambda job, _key: None)
    told = []
    plans.watch(lambda plan: told.append(uses_rows(plan, "mine")))
    while use := plans.next_job():
        plans.finish(use.key, answer(use.job))
    assert len(told[-1]) == 20
    assert {row["transfer"] for row in told[-1]} == {"scratch"}
    assert sorted(described) == list(range(20))


def test_while_rows_answer_someone_is_told_after_every_step():
    steps, plan = [], NamedPlan("a", "m", 0, PROBLEM, climber(0, 9, 2))
    Plans([plan], lambda job, _key: answer(job), lambda: steps.append(plan.done))
    assert steps == [False] * 9 + [True]
