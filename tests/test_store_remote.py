"""A results directory in an object store: as one in a folder, over real HTTP, with conditional puts for links."""

import dataclasses
import json
import logging
import pickle
import subprocess
import sys
import threading

import pandas as pd
import pytest
import torch
from helpers import bare_row, problem
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

import tas_bench
from sweeps import demo
from tas_bench import lock as locks
from tas_bench import remote
from tas_bench.checkpoint import Checkpoint, previous
from tas_bench.checkup import check
from tas_bench.cli import main
from tas_bench.errors import BAD_INPUT, DAMAGED, IO_FAULT, OK, InputError, StoreDamagedError, StoreIOError
from tas_bench.files import create, identities, path_of, write_whole
from tas_bench.jobs import Context, Outcome, checkpoint_path, job_id, weights_path
from tas_bench.preflight import check_run
from tas_bench.reading import load
from tas_bench.repair import repair
from tas_bench.report.example import write_example
from tas_bench.resources import Resources
from tas_bench.schema import USES
from tas_bench.settings import with_settings
from tas_bench.snapshot import NAME
from tas_bench.store import Store
from tas_bench.stub import Stub
from tas_bench.tables import row_bytes
from tas_bench.train import final_job, teacher_job, train
from tas_bench.transfer.kd import KD
from tas_bench.uses import write_uses
from tas_bench.worker import Labels, execute


@pytest.fixture(scope="module")
def server():
    """An object store on loopback, with a bucket; this process and its children reach it by their environment."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = DomainDispatcherApplication(create_backend_app)
    found = make_server("127.0.0.1", 0, app, threaded=False)  # one at a time, or its conditional puts would race
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    host, port = "127.0.0.1", found.server_port
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        path_of("s3://bucket").fs.mkdir("bucket")
        yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def root(server, request):
    return path_of(f"s3://bucket/runs/{abs(hash(request.node.name))}")


def test_results_are_packed_from_there_and_unpacked_to_there(root, here, capsys):
    write_example(here / "made", seeds=1, candidates=2, epochs=2)
    store = Store(here / "made")
    write_whole(here / "made" / "_runs" / "a.json", b"{}")
    assert main(["pack", "made", f"{root}/packed"]) == OK
    assert main(["unpack", f"{root}/packed", f"{root}/again"]) == OK
    assert main(["pack", f"{root}/again", "back"]) == OK
    assert capsys.readouterr().out.count(f"{len(store.outcomes())} rows") == 3
    pd.testing.assert_frame_equal(load("back"), load("made"))
    assert (here / "back" / "_runs" / "a.json").read_bytes() == b"{}"


@pytest.fixture
def far(root):
    """A results directory with nothing in it."""
    store = Store(root)
    with store.lock():
        pass
    return store


def test_a_path_of_it(root):
    assert path_of(str(root)) == root == pickle.loads(pickle.dumps(root)) == root.absolute()
    assert str(root / "rows" / "a.parquet") == f"{root}/rows/a.parquet"
    assert (root / "rows" / "a.parquet").parent.name == "rows"
    assert not root.exists()
    assert not root.is_dir()
    assert create(root / "a", b"1")
    assert create(root / "a", b"1"), "its own, whose reply was lost"
    assert not create(root / "a", b"2")
    assert (root / "a").read_bytes() == b"1"
    write_whole(root / "a", b"3")
    write_whole(root / "below" / ".a.x", b"")
    write_whole(root / "below" / "b.x", b"")
    assert identities(root, "") == {"a": "eccbc87e4b5ce2fe28308fd9f2a7baf3"}
    assert list(identities(root / "below", ".x")) == ["b.x"]
    assert sorted(p.name for p in root.glob("below/*.x")) == [".a.x", "b.x"]
    (root / "a").unlink()
    (root / "a").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (root / "a").read_bytes()


class Refusing:
    """A server that answers the next requests to make an object so, and lets all others pass."""

    def __init__(self, app):
        self.app, self.answers = app, []

    def __call__(self, environ, start):
        if not (self.answers and "HTTP_IF_NONE_MATCH" in environ):
            return self.app(environ, start)
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        status, code = self.answers.pop(0)
        start(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode()]


@pytest.fixture
def refusing(server, monkeypatch):
    found = Refusing(server.app)
    monkeypatch.setattr(server, "app", found)
    monkeypatch.setattr(remote, "AGAIN", 0.01)
    return found


def test_what_servers_answer_where_an_object_is_or_is_being_made(root, refusing):
    there, busy = ("412 No", "PreconditionFailed"), ("409 No", "ConditionalRequestConflict")
    write_whole(root / "a", b"1")
    refusing.answers = [there, there, there]
    assert not create(root / "a", b"2"), "told without the header's name"
    assert create(root / "a", b"1"), "its own, whose reply was lost"
    assert not create(root / "gone", b"1"), "deleted meanwhile"
    refusing.answers = [busy, busy]
    assert create(root / "b", b"1")
    refusing.answers = [busy, there]
    assert not create(root / "a", b"2")
    refusing.answers = [busy] * 9
    with pytest.raises(StoreIOError, match="told so"):
        create(root / "c", b"1")
    refusing.answers = [("403 No", "AccessDenied")]
    with pytest.raises(StoreIOError, match="told so"):
        create(root / "c", b"1")
    assert sorted(p.name for p in root.glob("*")) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://key:secret@bucket/x", "credentials come from the environment"),
        ("s3://bucket:80/x", "credentials come from the environment"),
        ("ftp://host/x", "not under 'ftp://'"),
        ("file:///x", "not under 'file://'"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("gs://bucket/x", "gs:// needs gcsfs: pip install 'tas-bench[gcs]'"),
    ],
)
def test_urls_that_cannot_be_used(text, said, capsys, monkeypatch):
    monkeypatch.setitem(remote.PACKAGES, "gs", "gcsfs_that_nobody_has")
    said = said.replace("gcsfs:", "gcsfs_that_nobody_has:")
    with pytest.raises(InputError, match=r".") as caught:
        path_of(text)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert main(["report", text]) == BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_committed_reads_back(far):
    curve = [{"epoch": e, "loss": 1 / e} for e in (1, 2)]
    point = {"epoch": 1, "tau": 1.0, "widths": [8], "depths": [1], "entropies": [0.5], "discrepancies": [0.5]}
    outcome = Outcome(curve=curve, trajectory=[point], weights={"w": torch.arange(5.0)})
    assert far.commit(bare_row("a", seed=1), outcome)
    assert not far.commit(bare_row("a", seed=2), outcome)
    assert far.commit(bare_row("b", status="failed"))
    assert far.commit(bare_row("b", seed=7)), "a failed row gives way"
    write_uses(far.path, "p", [dict.fromkeys(USES.names, "p") | {"seed": 3, "job_id": "a"}], [])
    assert load(far.path).seed.tolist() == [1, 7]
    assert tas_bench.load(str(far.path), table="curves").loss.tolist() == [1, 0.5]
    assert len(load(far.path, table="trajectories")) == len(load(far.path, table="uses")) == 1
    assert far.outcome("a", needs_weights=True) is not None
    assert far.outcome("b", needs_weights=True) is None
    far.claim_data({"digits": "abc"})
    with pytest.raises(InputError, match="data fingerprint of digits"):
        far.claim_data({"digits": "other"})
    assert {f.path for f in check(far.path).findings if f.damage} == {far.path / "_sweep.json"}, "there is none"


WRITER = """
import sys
from tas_bench.files import path_of
from tas_bench.schema import ROWS
from tas_bench.store import Store
store, me = Store(path_of(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    row = dict.fromkeys(ROWS.names) | {"job_id": f"job{i:06}", "status": "ok", "seed": i, "sweep": me}
    if store.commit(row):
        print(i, flush=True)
"""


def test_two_writers_and_one_winner_each(far):
    command = [sys.executable, "-c", WRITER, str(far.path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = {me: subprocess.Popen([*command, me], **pipes) for me in ("left", "right")}
    assert [p.stdout.readline() for p in writers.values()] == ["ready\n"] * 2
    for process in writers.values():
        process.stdin.write("go\n")
        process.stdin.flush()
    won = {me: list(map(int, p.communicate(timeout=200)[0].split())) for me, p in writers.items()}
    assert sorted(won["left"] + won["right"]) == list(range(20))
    assert load(far.path).groupby("sweep").seed.apply(list).to_dict() == {me: w for me, w in won.items() if w}


def test_the_lock(far, monkeypatch):
    monkeypatch.setattr(locks, "RENEW", 0.05)
    path = far.path / "_lock"
    with far.lock() as lock:
        assert lock.held()
        with (
            pytest.raises(InputError, match=r"is in use by .*:\d+ \(sign of life \d s ago\)$"),
            Store(far.path).lock(),
        ):
            pass
        mark = json.loads(path.read_bytes())
        assert far.holder().token == mark["token"]
    assert far.holder() is None
    write_whole(path, json.dumps(mark | {"pid": 2**22 + 1}).encode())
    with far.lock() as lock:
        assert lock.taken_over
        assert lock.held()
        assert {p.name for p in far.path.glob("_lock*")} == {"_lock", f"_lock.alive.{lock.token}"}
        write_whole(path, json.dumps(mark | {"host": "elsewhere"}).encode())
        assert not lock.held()
    with pytest.raises(InputError, match="in use by elsewhere"), far.lock(break_stale=True):
        pass
    write_whole(far.path / f"_lock.alive.{mark['token']}", b"")
    with pytest.raises(InputError, match="in use by elsewhere"), far.lock(break_stale=True):
        pass
    (far.path / f"_lock.alive.{mark['token']}").unlink()
    monkeypatch.setattr(locks, "now", lambda root: locks.stamp(path) + 100)
    with pytest.raises(InputError, match=r"without a sign of life for 100 s; .*--break-lock"), far.lock():
        pass
    with far.lock(break_stale=True) as lock:
        assert lock.held()
    assert not list(far.path.glob("_lock*"))


def test_all_rows_in_one_object(far):
    for i in range(3):
        far.commit(bare_row(f"job{i}", seed=i))
    with far.lock():
        far.compact()
    assert (far.path / NAME).exists()
    far.row_path("job0").unlink()
    write_whole(far.row_path("job1"), row_bytes(bare_row("job1", seed=5)))
    far.commit(bare_row("new", seed=9))
    through = load(far.path)
    assert through.seed.tolist() == [5, 2, 9]
    (far.path / NAME).unlink()
    pd.testing.assert_frame_equal(through, load(far.path))


def test_damage_is_found_and_put_aside(far, capsys):
    far.commit(bare_row("a"), Outcome(weights={"w": torch.ones(9)}))
    far.commit(bare_row("b"))
    data = far.row_path("a").read_bytes()
    write_whole(far.row_path("a"), data[:500] + b"\0" * 20 + data[520:])
    write_whole(weights_path(far.path, "a"), weights_path(far.path, "a").read_bytes()[:-1])
    with pytest.raises(StoreDamagedError, match=rf"{far.row_path('a')} is damaged"):
        load(far.path)
    assert main(["check", str(far.path)]) == DAMAGED
    assert capsys.readouterr().out.count(": is damaged (") == 2
    assert [bool(f.done) for f in repair(far.path).findings if f.damage] == [True, True]
    assert (far.path / "_damaged" / "rows" / "a.parquet").exists()
    assert load(far.path).job_id.tolist() == ["b"]
    assert main(["check", str(far.path)]) == OK


def test_what_a_run_asks_of_it_before_it_starts(root, capsys):
    sweep = with_settings(demo.SWEEP, {"backbones": "tiny", "methods": "ratio"})
    assert list(check_run(sweep, root, None, Resources())) == ["digits"]
    assert not list(root.glob("*")), "the probe is gone"
    settings = ["--set", "backbones=tiny", "--set", "methods=ratio", "--results", str(root)]
    assert main(["doctor", "demo", *settings]) == OK
    assert f"{root} can be written" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"nobucket/x is not writable: .*bucket does not exist"):
        check_run(sweep, path_of("s3://nobucket/x"), None, Resources())


def test_how_it_stands(far, capsys):
    assert main(["status", str(far.path)]) == OK
    assert f"{far.path}: nobody runs it now" in capsys.readouterr().out


def test_a_job_and_its_failure(far):
    context, labels = Context(results=far.path), Labels("s", "m", None)
    assert execute(Stub(seed=1), labels, context)["status"] == "ok"
    assert execute(Stub(seed=2, fault="raise"), labels, context)["status"] == "failed"
    assert {found.status for found in far.outcomes().values()} == {"ok", "failed"}
    assert sorted(load(far.path).status) == ["failed", "ok"]
    assert b"told to fail" in (far.path / "_log" / f"{job_id(Stub(seed=2, fault='raise'))}.txt").read_bytes()


class StoppedError(Exception):
    pass


def test_a_training_stops_and_goes_on_and_its_student_learns_from_it(far, tmp_path):
    small = problem(epochs=3)
    small = dataclasses.replace(small, data=dataclasses.replace(small.data, train_subset=100))
    teacher = teacher_job(small, seed=0)

    def tick(done, _):
        if done == 3:
            raise StoppedError

    context = Context(results=far.path, checkpoint_seconds=0)
    with pytest.raises(StoppedError):
        train(teacher, dataclasses.replace(context, tick=tick))
    path = checkpoint_path(far.path, job_id(teacher))
    assert previous(path).exists()
    write_whole(path, path.read_bytes()[:-100])
    epochs = []
    labels = Labels("s", "m", None)
    row = execute(teacher, labels, dataclasses.replace(context, tick=lambda done, _: epochs.append(done)))
    assert (row["status"], epochs) == ("ok", [2, 3])
    assert "damaged" in row["warning"]
    assert not list((far.path / "_checkpoints").glob("*.pt"))
    uncut = train(teacher, Context(results=tmp_path))
    student = final_job(small, small.backbone.full, 0, KD())
    assert student.teacher == teacher
    assert execute(student, labels, context)["status"] == "ok"
    assert row["test_accuracy"] == uncut.test_accuracy
    assert check(far.path).damaged == 0


def test_a_checkpoint_that_cannot_be_read_is_no_damaged_one(far, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    def made(results):
        parts = {"network": torch.nn.Linear(2, 2)}
        return Checkpoint(
            Context(results=results, checkpoint_seconds=0), "key", parts, torch.Generator(), "float32"
        )

    made(far.path).save(told=1)
    away = remote.Remote(str(far.path), use_listings_cache=False, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StoreIOError, match="Could not connect"):
        made(away).restore()
    late = made(away)
    late.save(told=2)
    assert "could not be kept" in late.warning
    assert made(far.path).restore() == {"told": 1}


# ---------------------------------------------------------------- a store that does not answer

AWAY = """
import os, sys
os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
os.environ["AWS_MAX_ATTEMPTS"] = "1"
from tas_bench.cli import main
sys.exit(main(sys.argv[1:]))
"""


RUN = pytest.param(["run", "demo", "--results"], marks=pytest.mark.slow)


@pytest.mark.parametrize("command", [["report"], ["check", "--repair"], RUN])
def test_a_store_that_does_not_answer_is_one_line(server, command):
    done = subprocess.run(
        [sys.executable, "-c", AWAY, *command, "s3://bucket/x"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (BAD_INPUT, IO_FAULT), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Could not connect" in done.stderr
    assert "s3://bucket/x" in done.stderr


def test_a_bucket_that_is_not_there(server):
    store = Store(path_of("s3://nobucket/x"))
    with (
        pytest.raises(InputError, match=r"s3://nobucket/x is not writable: .*bucket does not exist"),
        store.lock(),
    ):
        pass
    with pytest.raises(InputError, match="holds no results"):
        load("s3://nobucket/x")
    with pytest.raises(StoreIOError, match=r"s3://nobucket/x/rows/a\.parquet.*bucket does not exist"):
        store.commit(bare_row("a"))
    with pytest.raises(StoreIOError, match=r"s3://nobucket/x/_uses/p\.parquet: .*bucket does not exist"):
        write_uses(store.path, "p", [], [])
