"""Who holds a results directory: one process at a time, and nobody for longer than it lives."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tas_bench import lock as locks
from tas_bench.errors import InputError, StoreIOError
from tas_bench.files import is_left, process_space, temporary_of
from tas_bench.store import Store

HOLDER = """
import sys, time
from pathlib import Path
from tas_bench.store import Store
with Store(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(store):
    """A process that holds the store."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(store.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def marked(store, age=0.0, **changed):
    """Leave a lock of another holder, so many seconds old."""
    (store.path / "_lock").unlink(missing_ok=True)
    with store.lock():
        mark = json.loads((store.path / "_lock").read_text()) | {"token": "abc"} | changed
    path = store.path / "_lock"
    path.write_text(json.dumps(mark))
    os.utime(path, (time.time() - age,) * 2)
    return path


def refusal(store, **options):
    with pytest.raises(InputError) as caught, store.lock(**options):
        pass
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{store.path} is in use by ")
    return str(caught.value)


def taken(store, **options):
    """The lock can be had, and is gone afterwards."""
    with store.lock(**options) as lock:
        assert lock.held()
        holder = store.holder()
        assert (holder.pid, holder.token) == (os.getpid(), lock.token)
        assert [p.name for p in store.path.glob("_lock*")] == ["_lock"]
    assert store.holder() is None
    assert not list(store.path.glob("_lock*"))
    return lock.taken_over


def test_a_lock_is_refused_while_held_and_goes_with_its_holder(store, holder):
    assert f"{socket.gethostname()}:{holder.pid} (sign of life " in refusal(store)
    refusal(store, break_stale=True)
    found = store.holder()
    assert (found.host, found.pid) == (socket.gethostname(), holder.pid)
    assert 0 <= found.age_seconds < 60
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it has ended; its parent has not heard of it
    assert store.holder() is None
    assert taken(store)


def test_it_is_let_go_at_the_end_and_after_an_error(store):
    with store.lock():
        refusal(store)
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    assert not taken(store)


def test_what_it_says(store):
    with store.lock():
        found = json.loads((store.path / "_lock").read_text())
    assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
    assert {"boot", "start", "token", "since"} < found.keys()


DEAD = 2**22 + 1
"""No process has this id."""


@pytest.mark.parametrize("changed", [{"pid": DEAD}, {"start": "1"}], ids=str)
def test_a_dead_process_of_this_machine_holds_nothing(store, changed):
    marked(store, **changed)
    assert store.holder() is None
    assert taken(store)


def test_one_before_this_boot_is_dead_once_silent_for_a_minute(store):
    """Till then it may be another machine of the same name."""
    marked(store, age=50, boot="of yesterday", pid=DEAD)
    assert store.holder().pid == DEAD
    assert refusal(store, break_stale=True).endswith(" (sign of life 50 s ago)")
    marked(store, age=61, boot="of yesterday")
    assert store.holder() is None
    assert taken(store)


@pytest.mark.parametrize("hidden", ["stat", "boot_id"])
def test_what_cannot_be_read_proves_no_death(store, holder, monkeypatch, hidden):
    """As under hidepid, or where no more files may be opened."""
    real = Path.read_text

    def read(path, *args, **options):
        if path.name == hidden:
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", read)
    assert store.holder().pid == holder.pid
    refusal(store)


def test_a_lock_that_goes_while_it_is_looked_at_is_nobodys(store, monkeypatch):
    path, real = marked(store), locks._last

    def gone(root):
        found = real(root)
        path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(locks, "_last", gone)
    assert store.holder() is None


@pytest.mark.parametrize("changed", [{"host": "elsewhere"}, {"space": "another container", "pid": DEAD}], ids=str)
def test_a_process_elsewhere_is_judged_by_its_last_sign_of_life(store, changed):
    marked(store, age=30, **changed)
    for options in ({}, {"break_stale": True}):
        assert refusal(store, **options).endswith(" (sign of life 30 s ago)")
    path = marked(store, age=340, **changed)
    assert "without a sign of life for 340 s; if that run is gone for good, --break-lock" in refusal(store)
    assert 339 < store.holder().age_seconds < 345
    assert path.exists()
    assert taken(store, break_stale=True)


def test_a_clock_that_is_wrong_here_makes_nobody_old(store, monkeypatch):
    marked(store, age=3, host="elsewhere")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1e6)
    assert "sign of life 3 s ago" in refusal(store)


def test_locks_of_earlier_days(store):
    path = store.path / "_lock"
    path.write_text(f"{socket.gethostname()}:{DEAD}\n")
    assert taken(store)
    path.write_text(f"{socket.gethostname()}:{os.getpid()}\n")
    assert f":{os.getpid()} (sign of life" in refusal(store)
    path.write_text("elsewhere:7\n")
    assert "elsewhere:7 (sign" in refusal(store)


@pytest.mark.parametrize("text", ["", "{}", "[]", "\0\0", '{"pid": -3}', '{"pid": 1e99, "token": "../x"}'])
def test_a_damaged_lock_is_one_of_an_unknown_holder(store, text):
    path = store.path / "_lock"
    path.write_text(text)
    assert "in use by an unknown host:0" in refusal(store)
    os.utime(path, (1, 1))
    assert "--break-lock" in refusal(store)
    assert taken(store, break_stale=True)


def test_an_heir_that_died_on_its_way_is_inherited_from(store):
    path = marked(store, pid=DEAD)
    heir = json.loads(path.read_text()) | {"token": "def"}
    (store.path / "_lock.after.abc").write_text(json.dumps(heir))
    assert store.holder() is None
    assert taken(store)
    path = marked(store, pid=DEAD)
    (store.path / "_lock.after.abc").write_text(json.dumps(heir | {"pid": os.getpid()}))
    assert f":{os.getpid()} (" in refusal(store), "an heir on its way is the holder"


def test_signs_of_life_are_given_until_another_holds_it(store, monkeypatch):
    monkeypatch.setattr(locks, "RENEW", 0.02)
    path = store.path / "_lock"
    with store.lock() as lock:
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.holder().age_seconds < 60
        assert lock.held()
        marked_text = json.loads(path.read_text()) | {"token": "abc", "pid": 1}
        path.write_text(json.dumps(marked_text))
        while not lock.lost and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.lost
        assert not lock.held()
    assert json.loads(path.read_text()) == marked_text, "another's lock stays"


def test_a_file_system_that_is_silent_for_a_minute_holds_nothing(store, monkeypatch):
    with store.lock() as lock:
        monkeypatch.setattr(locks, "_last", lambda root: (_ for _ in ()).throw(OSError("no answer")))
        assert lock.held()
        monkeypatch.setattr(locks, "STALE", 0.0)
        assert not lock.held()
        assert not lock.lost
        monkeypatch.undo()


RACER = """
import sys, time
from pathlib import Path
from tas_bench.errors import InputError
from tas_bench.store import Store
store, break_stale = Store(Path(sys.argv[1])), sys.argv[2] == "old"
print("ready", flush=True)
for line in sys.stdin:
    try:
        with store.lock(break_stale) as lock:
            print("won" if lock.held() else "lost", flush=True)
            sys.stdin.readline()
        print("let go", flush=True)
    except InputError as error:
        print("refused", flush=True)
"""


@pytest.mark.parametrize("kind", ["dead", "old", "none"])
def test_of_two_takers_one_wins(store, kind):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(store.path), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        assert [p.stdout.readline() for p in racers] == ["ready\n"] * 2
        winners = set()
        for _ in range(25):
            if kind != "none":
                marked(store, age=100, **({"pid": DEAD} if kind == "dead" else {"host": "elsewhere"}))
            for p in racers:
                p.stdin.write("go\n")
            answers = [p.stdout.readline() for p in racers]
            assert sorted(answers) == ["refused\n", "won\n"]
            winner = answers.index("won\n")
            racers[winner].stdin.write("let go\n")
            assert racers[winner].stdout.readline() == "let go\n"
            assert not list(store.path.glob("_lock*"))
            winners.add(winner)
    finally:
        for p in racers:
            p.kill()
            p.communicate()


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="is not writable"), Store(path).lock():
            pass


def test_what_a_killed_writer_left_is_swept_up(store):
    left = store.path / "_weights" / ".x.safetensors.1.tmp"
    left.write_bytes(b"half")
    with store.lock():
        assert not left.exists()


def test_two_containers_of_one_name_and_process_id_write_to_two_files(tmp_path):
    assert temporary_of(tmp_path / "x") != temporary_of(tmp_path / "x")


def test_what_a_killed_writer_left_beside_the_folders_is_swept_once_it_is_old(store):
    left, young = store.path / "._sweep.json.a.1.tmp", store.path / "._lock.b.1.tmp"
    left.touch()
    young.touch()
    os.utime(left, (1, 1))
    with store.lock():
        assert (left.exists(), young.exists()) == (False, True)


def test_a_file_system_that_takes_no_files_is_told_as_before_a_run():
    with (
        pytest.raises(StoreIOError, match="/sys/kernel/nowhere is not writable"),
        Store(Path("/sys/kernel/nowhere")).lock(),
    ):
        pass


def test_what_a_killed_drivers_workers_still_write_is_left_to_them(store):
    marked(store, pid=DEAD)
    host, folder = socket.gethostname(), store.path / "rows"
    space = process_space()
    alive, dead, other, old, foreign = (
        folder / f".x.{s}-12345678.{h}.{pid}.tmp"
        for s, h, pid in (
            (space, host, os.getpid()), (space, host, DEAD), (space, "elsewhere", 7), (space, "old", 7),
            ("another0", host, DEAD),
        )
    )  # fmt: skip
    for path in (alive, dead, other, old, foreign):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    with store.lock():
        assert sorted(folder.iterdir()) == sorted([alive, other, foreign])
    with store.lock():
        assert not list(folder.iterdir())


def test_a_clock_that_is_ahead_takes_no_live_file_for_a_dead_one(store, monkeypatch):
    live = store.path / "rows" / ".x.parquet.other-host.1.tmp"
    live.touch()
    ahead = time.time
    monkeypatch.setattr(time, "time", lambda: ahead() + 120)
    assert not is_left(live)
    os.utime(live, (ahead() - 120,) * 2)
    assert is_left(live)
