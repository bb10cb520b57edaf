"""Whatever is thrown at settings, size files and results directories: success, or one line of a known error."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import FULL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps import demo
from tas_bench.backbones import find_backbone
from tas_bench.by_hand import job_of
from tas_bench.cli import main
from tas_bench.commands.shared import catalogue
from tas_bench.errors import INTERNAL, TasBenchError
from tas_bench.estimate import estimate
from tas_bench.jobs import Recipe
from tas_bench.reading import load
from tas_bench.replay import keep_uses, plans_of
from tas_bench.resources import Resources
from tas_bench.schema import ROWS, USES
from tas_bench.settings import preset_names, setting_names, with_settings
from tas_bench.space import read_size
from tas_bench.store import Store
from tas_bench.sweep import Sweep
from tas_bench.tables import read_table, row_bytes, table_bytes
from tas_bench.tas import Tas
from tas_bench.transfer.scratch import Scratch

SWEEP = Sweep(
    name="golden", title="Golden", datasets=("digits",), backbones=("tiny",), keep=0.6, t=0.1,
    methods=(Tas(search_epochs=2),), transfers=(Scratch(),), recipe=Recipe(epochs=2, batch=64),
    train_subset=100, seeds=(0,),
)  # fmt: skip
"""That of the golden stores."""

GOLDEN = Path(__file__).parent / "golden" / "store_v4"
FEW, MANY = 30, 10_000
SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def few(test):
    return settings(max_examples=FEW, suppress_health_check=SUPPRESSED)(test)


def many(test):
    return pytest.mark.slow(settings(max_examples=MANY // 3, suppress_health_check=SUPPRESSED)(test))


KNOWN_ERRORS = [kind for kind in TasBenchError.__subclasses__() if kind.exit_code != INTERNAL]


@contextlib.contextmanager
def one_line_at_most():
    """Nothing but success or a known error, which the command tells in one line."""
    with contextlib.suppress(*KNOWN_ERRORS):
        yield


def runs(*argv):
    """The command's exit code, after checking what it says."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    told = err.getvalue()
    assert code != INTERNAL, told
    if code and out.getvalue() == "":
        assert told.startswith("tas-bench: error: ")
        assert told.count("\n") == 1
        assert told.rstrip("\n").isprintable()
    return code


# ---------------------------------------------------------------- settings


KEYS = [
    *setting_names(demo.SWEEP),
    *(k.split(".")[-1] for k in setting_names(demo.SWEEP)),
    *preset_names(demo.SWEEP),
]
NAMES = [
    "tas",
    "kd",
    "ratio",
    "cma_es",
    "digits",
    "cifar10",
    "resnet20",
    "tiny",
    "macs",
    "params",
    "latency:x",
    "none",
]
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from(["1e999", "-0", "0x10", "1_000", "٣", "1e-400", "+1"])
)
VALUES = st.one_of(
    NUMBERS.map(str),
    st.sampled_from([*NAMES, "true", "False", "released", "paper", "l1", "W", "WD", "D", ""]),
    st.lists(st.one_of(st.sampled_from(NAMES), NUMBERS.map(str)), max_size=4).map(",".join),
    st.text(max_size=20),
)
OVERRIDES = st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=10)), VALUES, max_size=4)
KNOWN = {key: catalogue()[key] for key in ("methods", "transfers")}


def override(found):
    with one_line_at_most():
        sweep = with_settings(demo.SWEEP, found, KNOWN)
        assert "\n" not in sweep.heading
        assert sweep.jobs >= 0
        json.dumps(sweep.manifest(), allow_nan=False)
        setting_names(sweep)


test_settings = few(given(OVERRIDES)(override))
test_settings_at_length = many(given(OVERRIDES)(override))


# ---------------------------------------------------------------- size files


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(1, 64) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def replaced(value, place, new):
    """The value with a new one at some place inside it."""
    if not isinstance(value, dict | list) or not value or not place:
        return new
    key = list(value)[place[0] % len(value)] if isinstance(value, dict) else place[0] % len(value)
    copy = value.copy()
    copy[key] = replaced(value[key], place[1:], new)
    return copy


PLACES = st.lists(st.integers(0, 40), max_size=4)
WIDTHS = st.lists(st.integers(1, 70), min_size=18, max_size=20)
SIZES = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda *a: json.dumps(replaced(FULL, *a)).encode("utf-8", "surrogatepass"), PLACES, JSON),
    st.builds(lambda w, d: json.dumps({"widths": w, "depths": d}).encode(), WIDTHS, st.lists(st.integers(0, 4))),
    JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
)


def size_file(tmp_path, data):
    path = tmp_path / "size.json"
    path.write_bytes(data)
    runs("cost", "resnet20", "--classes", "10", "--size", str(path))
    with one_line_at_most():
        size = read_size(path)
        find_backbone("resnet20").check(size)
        job_of("resnet20", size, "kd", "digits", 0, {}).describe()


@few
@given(data=SIZES)
def test_size_files(tmp_path, data):
    size_file(tmp_path, data)


@many
@given(data=SIZES)
def test_size_files_at_length(tmp_path, data):
    size_file(tmp_path, data)


# ---------------------------------------------------------------- results directories


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A golden store, which every example damages and mends."""
    path = tmp_path_factory.mktemp("fuzz") / "store"
    shutil.copytree(GOLDEN, path)
    (path / "_data.json").write_text('{"digits": "x"}')
    for name in ("_weights", "_checkpoints", "_log"):
        (path / name).mkdir()
    return Store(path)


TEXT = st.one_of(
    st.text(max_size=12), st.sampled_from(["ok", "failed", "search", "final", "tas", "\x1b[31m", "=1", "<b>"])
)
ARROW = {
    "string": TEXT, "double": st.floats(), "int64": st.integers(-(2**63), 2**63 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "list<element: int32>": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=6),
}  # fmt: skip


@st.composite
def rows_of(draw, schema):
    """New values of some columns, of their types."""
    fields = draw(st.lists(st.sampled_from([f for f in schema if str(f.type) in ARROW]), min_size=1, max_size=3))
    return {f.name: draw(st.none() | ARROW[str(f.type)]) for f in fields}


def hurt_json(path, data):
    value = replaced(json.loads(path.read_text()), data.draw(PLACES), data.draw(JSON))
    path.write_bytes(json.dumps(value).encode("utf-8", "surrogatepass"))


def hurt_row(path, data):
    path.write_bytes(row_bytes(read_table(path, ROWS).to_pylist()[0] | data.draw(rows_of(ROWS))))


def hurt_uses(path, data):
    uses = [use | data.draw(rows_of(USES)) for use in read_table(path, USES).to_pylist()]
    path.write_bytes(table_bytes(pa.Table.from_pylist(uses, schema=USES)))


def hurt_bytes(path, data):
    path.write_bytes(data.draw(st.binary(max_size=300)))


def hurt_place(path, data):
    path.unlink()
    what = data.draw(st.sampled_from(["gone", "folder", "dangling", "loop"]))
    if what == "folder":
        path.mkdir()
    elif what != "gone":
        path.symlink_to(path if what == "loop" else path.with_name("nowhere"))


HURTS = {
    "_*.json": hurt_json, "rows/*.parquet": hurt_row, "_uses/*.parquet": hurt_uses, "*/*.parquet": hurt_bytes,
    "*/*": hurt_place, "*.json": hurt_bytes, "_data.json": hurt_place,
}  # fmt: skip


def start_of_run(store):
    """What a run does in a directory before its first job."""
    with store.lock():
        plans = plans_of(SWEEP, store)
        store.claim(SWEEP.manifest(), {"digits": "x"})
        keep_uses(plans, SWEEP, store)


READERS = {
    "report": lambda store: runs("report", str(store.path), "--no-figures"),
    "check": lambda store: runs("check", str(store.path)),
    "load": lambda store: [load(store.path, table=table) for table in ("rows", "curves", "trajectories", "uses")],
    "run": start_of_run,
    "estimate": lambda store: str(estimate(SWEEP, store.path, None, Resources(), calibrate=False)),
}


@contextlib.contextmanager
def mended(path):
    """Puts a directory back as it was."""
    copy = path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    try:
        yield
    finally:
        shutil.rmtree(path)
        copy.rename(path)


def damaged_store(store, data):
    pattern = data.draw(st.sampled_from(sorted(HURTS)))
    path = data.draw(st.sampled_from(sorted(p for p in store.path.glob(pattern) if p.is_file())))
    read = READERS[data.draw(st.sampled_from(sorted(READERS)))]
    with mended(store.path):
        HURTS[pattern](path, data)
        with one_line_at_most():
            read(store)


@few
@given(data=st.data())
def test_damaged_stores(store, data):
    damaged_store(store, data)


@many
@given(data=st.data())
def test_damaged_stores_at_length(store, data):
    damaged_store(store, data)
