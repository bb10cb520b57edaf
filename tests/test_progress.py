"""The live display and its plain lines."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tas_bench import progress
from tas_bench.progress import Progress, bar, seconds_left
from tas_bench.text import duration, one_line


class Clock:
    """A clock the test moves."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(progress, "monotonic", found)
    return found


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def drive(shown):
    """Two of three jobs end, one of them badly."""
    shown.update(done=0, running=2, waiting=1, plans_left=2)
    for job in "abc":
        shown.job_started(job, f"tas seed {job}")
    shown.job_ticked("a", 12, 60)
    shown.job_finished("b", "tas seed b", "ok", 30.0)
    shown.job_finished("c", "tas seed c", "oom", 1.0)
    shown.best("tas", "68.9 % validation")
    shown.update(done=2, running=1, waiting=3, plans_left=2)


@pytest.mark.parametrize(
    ("means", "counts", "others", "slots", "expected"),
    [
        ({}, {"a": 5}, 0, 2, None),
        ({}, {}, 0, 2, 0.0),
        ({"a": 30.0}, {"a": 0}, 0, 2, 0.0),
        ({"a": 30.0}, {"a": 10}, 0, 2, 150.0),
        ({"a": 30.0}, {"a": 1}, 0, 4, 30.0),
        ({"a": 30.0}, {"a": 2}, 0, 0, 60.0),
        ({"a": 30.0}, {"a": 2}, 8, 2, 150.0),
        ({"score": 3.0, "final": 10_800.0}, {"final": 132}, 0, 16, 132 / 16 * 10_800),
        ({"score": 3.0, "final": 10_800.0}, {"score": 10, "final": 1}, 0, 16, 10_800.0),
        ({"score": 3.0}, {"final": 100}, 0, 10, 30.0),
    ],
)
def test_seconds_left(means, counts, others, slots, expected):
    assert seconds_left(means, counts, others, slots) == expected


@pytest.mark.parametrize(("timed", "told"), [(True, "about 3.0 h left"), (False, "at least")])
def test_time_left_is_by_kind_and_of_a_kind_without_times_a_least(clock, timed, told):
    shown = Progress(console(terminal=False), total_hint=602, quiet=False)
    for i in range(600):
        shown.job_finished(str(i), "a score", "ok", 3.0, "score")
    if timed:
        shown.job_finished("f", "a final", "ok", 10_800.0, "final")
    shown.update(done=600 + timed, running=1, waiting=0, plans_left=1, kinds={"final": 1})
    assert told in shown.times()


@given(st.floats(0.01, 1e5), st.integers(1, 10**4), st.integers(1, 64))
def test_seconds_left_is_between_one_job_and_one_after_the_other(mean, remaining, concurrency):
    left = seconds_left({"a": mean}, {"a": remaining}, 0, concurrency)
    assert mean <= left <= mean * remaining * (1 + 1e-9)
    assert seconds_left({"a": mean}, {"a": remaining + 1}, 0, concurrency) >= left


@pytest.mark.parametrize(
    ("seconds", "half", "text"),
    [(0, None, "0.0 s"), (59, 2, "59.0 ± 2.0 s"), (90, None, "1.5 min"), (7200, 360, "2.0 ± 0.1 h")],
)
def test_duration(seconds, half, text):
    assert duration(seconds, half) == text


@given(st.text())
def test_one_line(text):
    assert one_line(text).isprintable()


def test_terminal_shows_running_jobs_and_the_best(clock):
    out = console(terminal=True)
    with Progress(out, total_hint=10, quiet=False) as shown:
        drive(shown)
        clock.now += 60
        live = console(terminal=False)
        live.print(shown._view())
    text = live.file.getvalue()
    assert "2 of about 10 jobs done, 1 failed, 1 running (20% through), 3 waiting, 2 plans left" in text
    assert "1.0 min so far, about 2.0 min left" in text  # 8 jobs of 30 s, two at a time
    assert "tas seed a" in text
    assert "epoch 12/60" in text
    assert "tas seed b" not in text
    assert "best so far, tas: 68.9 % validation" in text
    assert "oom: tas seed c" in text
    assert out.file.getvalue().rstrip().endswith("left")


def test_unknown_total_is_a_lower_bound(clock):
    shown = Progress(console(terminal=False), total_hint=None, quiet=False)
    drive(shown)
    assert "2 jobs done" in shown.counts()
    assert "at least 1.0 min left" in shown.times()


def test_running_list_is_cut(clock):
    shown = Progress(console(terminal=False), total_hint=None, quiet=False)
    for i in range(progress.SHOWN + 5):
        shown.job_started(str(i), f"job {i}")
    out = console(terminal=False)
    out.print(shown._view())
    assert "and 5 more" in out.file.getvalue()


def test_plain_lines_are_seldom(clock):
    out = console(terminal=False)
    with Progress(out, total_hint=1000, quiet=False) as shown:
        for i in range(1000):
            clock.now += 0.1
            shown.job_started(str(i), f"job {i}")
            shown.job_ticked(str(i), 1, 1)
            shown.job_finished(str(i), f"job {i}", "ok", 0.1)
            shown.update(done=i + 1, running=1, waiting=1, plans_left=3 - i // 400)
    lines = out.file.getvalue().splitlines()
    assert 3 <= len(lines) <= 10 + 2 + 1  # every 10 s of 100, two plans ended, the end
    assert lines[-1].startswith("1000 jobs done")
    assert all("\x1b" not in line for line in lines)


def test_a_plain_line_waits_until_a_free_slot_has_work(clock):
    out = console(terminal=False)
    with Progress(out, total_hint=None, quiet=False) as shown:
        shown.update(done=0, running=2, waiting=4, plans_left=3)
        clock.now += progress.PLAIN_EVERY
        shown.update(done=1, running=1, waiting=4, plans_left=2)
        assert out.file.getvalue() == ""
        shown.update(done=1, running=2, waiting=3, plans_left=2)
        assert "2 running" in out.file.getvalue()
        clock.now += 2 * progress.PLAIN_EVERY
        shown.update(done=2, running=1, waiting=3, plans_left=2)
        assert "1 running" not in out.file.getvalue()
        clock.now += progress.PLAIN_EVERY
        shown.update(done=2, running=1, waiting=3, plans_left=2)
        assert "1 running" in out.file.getvalue(), "though not for long"
        shown.update(done=3, running=0, waiting=0, plans_left=1)
    assert len(out.file.getvalue().splitlines()) == 3


def test_long_jobs_are_told_of_while_they_run(clock):
    out = console(terminal=False)
    with Progress(out, total_hint=None, quiet=False) as shown:
        shown.job_started("a", "tas seed 0")
        shown.update(done=0, running=2, waiting=0, plans_left=1)
        for epoch in range(1, 13):
            clock.now += progress.SILENT / 4
            shown.job_ticked("a", epoch, 60)
    lines = out.file.getvalue().splitlines()
    assert [line.split(",")[1].strip() for line in lines] == [f"2 running ({n}% through)" for n in (3, 7, 10)]


def test_the_last_plain_line_is_not_said_twice(clock):
    out = console(terminal=False)
    with Progress(out, total_hint=None, quiet=False) as shown:
        clock.now += progress.PLAIN_EVERY
        shown.update(done=3, running=0, waiting=0, plans_left=0)
    assert len(out.file.getvalue().splitlines()) == 1


def test_long_plain_line_is_not_wrapped(clock):
    out = Console(file=io.StringIO(), force_terminal=False, width=20)
    with Progress(out, total_hint=None, quiet=False) as shown:
        drive(shown)
    assert len(out.file.getvalue().splitlines()) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_shows_nothing(terminal, clock):
    out = console(terminal)
    with Progress(out, total_hint=3, quiet=True) as shown:
        drive(shown)
        clock.now += 100
        shown.update(done=3, running=0, waiting=0, plans_left=0)
    assert out.file.getvalue() == ""


def test_hostile_labels_are_shown_as_they_are(clock):
    shown = Progress(console(terminal=False), total_hint=None, quiet=False)
    shown.job_started("a", "[red]x[/nope]\x1b[31m\ny")
    shown.best("[b]", "[/b]\r")
    out = console(terminal=False)
    out.print(shown._view())
    text = out.file.getvalue()
    assert "[red]x[/nope]" in text
    assert "\x1b" not in text


def test_live_display_stops_when_the_run_fails(clock):
    out = console(terminal=True)
    shown = Progress(out, total_hint=None, quiet=False)
    with pytest.raises(RuntimeError), shown:
        raise RuntimeError
    assert not shown._live.is_started
    assert "0 jobs done" in out.file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_tells_the_time_left_by_what_this_attempt_did(clock, terminal):
    """60 of 100 epochs came from a checkpoint, and the next took 30 seconds: 39 more take 19.5 minutes."""
    shown = console(terminal)
    with bar("training", 100, shown, quiet=False) as tell:
        clock.now += 30
        tell(61, 60)
    text = shown.file.getvalue()
    assert text.startswith("training\n")
    assert "about 19.5 min left" in text
    assert ("61/100" if terminal else "61 of 100") in text


def test_a_quiet_bar_says_nothing(clock):
    shown = console(False)
    with bar("training", 100, shown, quiet=True) as tell:
        clock.now += 30
        tell(1, 0)
    assert shown.file.getvalue() == ""
