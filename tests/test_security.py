"""What is data stays data: names, text in reports, pickles, archives, secrets, and who may read what."""

import ast
import csv
import dataclasses
import functools
import hashlib
import io
import os
import sys
import tarfile
import types

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import line, problem
from report_rows import SWEEP, Sweep, shown
from test_architecture import FILES, ROOT

from sweeps import demo
from tas_bench.checkup import check
from tas_bench.cli import main
from tas_bench.data import check_data, download
from tas_bench.data import pickles as pickles_module
from tas_bench.digest import sealed
from tas_bench.discover import classes, instances
from tas_bench.errors import OK, check_name
from tas_bench.files import private
from tas_bench.jobs import Context, DataSpec
from tas_bench.plans import NamedPlan
from tas_bench.reading import load
from tas_bench.report import drawn, render
from tas_bench.report.example import write_example
from tas_bench.schema import USES
from tas_bench.store import Store
from tas_bench.sweep import Sweep as RealSweep
from tas_bench.tables import row_bytes, table_bytes
from tas_bench.tas import Tas
from tas_bench.text import file_name
from tas_bench.train import teacher_job
from tas_bench.variant import Variant
from tas_bench.worker import Labels, execute

HOSTILE = [
    "", ".", "..", "../../x", "/etc/passwd", "a/b", "a\\b", "..\\x", "~/x", "x" * 65, "x" * 300, "a\nb", "a\r\nb",
    "a\0b", "a\tb", " ", "a b", "a ", "\x1b[31mred", "\x1b]8;;http://x\x07", "<script>alert(1)</script>", "a&b",
    "tаs", "ｔａｓ", "ta\u200bs", "\u202egnp", "=1+1", "$(reboot)", "a;b", "'; drop table rows; --", "a|b", "%s",
    "*", "\udcff", "é", "²",
]  # fmt: skip
"""Traversal, absolute, empty, long, control characters, look-alikes, markup, formulas, shell."""

FORMULAS = ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")']


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_refused_wherever_a_name_is_taken(name):
    assert len(HOSTILE) >= 30
    message = line(check_name, "it", name)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 200
    line(dataclasses.replace, demo.SWEEP, name=name)
    line(Variant, name, "label", Tas())
    line(NamedPlan, name, "m", 0, problem(), iter(()))
    odd = dataclasses.make_dataclass("Odd", [], namespace={"name": name, "label": "x"}, frozen=True)
    for part in ("methods", "transfers"):
        line(dataclasses.replace, demo.SWEEP, **{part: (odd(),)})
    for part in ("datasets", "backbones"):
        line(dataclasses.replace, demo.SWEEP, **{part: (name,)})


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 64, "...", "-", "0"])
def test_other_names_are_taken(name):
    check_name("it", name)
    assert dataclasses.replace(demo.SWEEP, name=name).name == name


@pytest.mark.parametrize("name", ["../x", None, 3])
def test_a_plug_in_without_a_proper_name_is_one_line(tmp_path, monkeypatch, name):
    package = tmp_path / "plugins"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text(f"class Mine:\n    plan = 1\n    name = {name!r}\nONE = Mine()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if not k.startswith("plugins")})
    assert "plugins.mine.Mine is named" in line(classes, "plugins", has="plan")
    kind = vars(sys.modules["plugins.mine"])["Mine"]
    assert "a Mine of plugins.mine is named" in line(instances, "plugins", kind)


def test_a_plan_of_every_sweep_has_a_proper_name():
    sweep = RealSweep(
        name="x", title="x", methods=(Tas(),), transfers=(), datasets=("cifar10", "imagenette"),
        backbones=("resnet110", "mobilenet_v2"), seeds=(2**31 - 1,),
    )  # fmt: skip
    assert all(len(plan.name) < 64 for plan in sweep.plans())


# ---------------------------------------------------------------- text in reports


EVIL = "=<script>|\x1b[31m*x*\n# y$"


def hostile_report(out_dir):
    manifest = SWEEP | {"title": EVIL, "name": EVIL, "methods": [{"name": EVIL, "label": EVIL}]}
    sweep = Sweep().final(EVIL, 0, "kd", 0.7, warning=EVIL)
    sweep.final(EVIL, 1, "kd", None, status="failed", error=EVIL)
    sweep.add(EVIL, 0, "search", device_seconds=1.0, train_macs=5, argmax_macs=41_000_000, discrepancy=0.1)
    return shown(sweep, manifest, out_dir=out_dir, width=200)


def test_hostile_text_is_escaped_in_every_format(tmp_path):
    terminal = hostile_report(tmp_path)
    assert "\x1b" not in terminal
    assert "=<script>|" in terminal, "as it is, and no markup"
    markdown = (tmp_path / "table1.md").read_text()
    assert "<script>" not in markdown
    assert "\x1b" not in markdown
    assert "&lt;script&gt;\\|" in markdown
    assert not any(text.startswith("# y") for text in markdown.splitlines())
    text = (tmp_path / "table1.csv").read_text()
    assert "\x1b" not in text
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert any(cell.startswith("'=<script>") for cell in cells)
    assert not any(cell.startswith(("=", "+", "@")) for cell in cells)


@pytest.mark.parametrize("formula", FORMULAS, ids=ascii)
def test_formulas_are_no_formulas_and_numbers_stay_numbers(formula):
    import pandas as pd

    text = render.csv(pd.DataFrame({"text": [formula, "plain", None], "number": [-1.5, 2.0, None]}))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["text"].startswith("'")
    assert [row["text"] for row in rows[1:]] == ["plain", ""]
    assert [row["number"] for row in rows] == ["-1.5", "2.0", ""]


def test_names_of_files_do_no_harm_in_a_terminal(tmp_path):
    store = Store(tmp_path)
    with store.lock():
        (tmp_path / "rows" / "\x1b[31m\n.parquet").write_bytes(b"x")
    findings = [str(finding) for finding in check(tmp_path).findings]
    assert findings
    assert all(text.isprintable() for text in findings)


# ---------------------------------------------------------------- pickles and archives


@functools.cache
def all_calls():
    """Every call in the package, the baselines, the sweeps and benchmarks, with its module."""
    files = FILES | {p.name: p for p in (ROOT / "benchmarks").glob("*.py")}
    trees = {module: ast.parse(path.read_text()) for module, path in files.items()}
    return [(m, node) for m, found in trees.items() for node in ast.walk(found) if isinstance(node, ast.Call)]


def calls(name):
    """Those of a function whose dotted name ends so."""
    return [(module, call) for module, call in all_calls() if ast.unparse(call.func).endswith(name)]


def test_every_torch_load_reads_weights_only():
    found = list(calls("torch.load"))
    assert found
    for module, call in found:
        assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords), module


def test_no_pickle_is_read_but_ones_own():
    """CIFAR's are read by torchvision, behind `data/pickles.py`, which checks the published MD5 first."""
    for name in (
        "pickle.load",
        "Unpickler",
        "dill.load",
        "joblib.load",
        "cloudpickle.load",
        "yaml.load",
        "marshal.loads",
    ):
        assert list(calls(name)) == []
    for module, call in calls("pickle.loads"):
        assert ast.unparse(call.args[0]).startswith("pickle.dumps("), module
    for name in ("eval", "exec", "os.system"):
        assert [m for m, call in calls(name) if ast.unparse(call.func) == name] == []


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 0 if link else 1
    return info


ARCHIVES = {
    "traversal": [member("../escaped")],
    "deep": [member("cifar-10-batches-py/../../escaped")],
    "symlink": [member("link", tarfile.SYMTYPE, ".."), member("link/escaped")],
    "absolute link": [member("link", tarfile.SYMTYPE, "/tmp")],
    "hard link": [member("link", tarfile.LNKTYPE, "../secret")],
    "device": [member("device", tarfile.CHRTYPE, "x")],
}


@pytest.mark.parametrize("members", ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_reaches_nothing_outside_its_folder(tmp_path, monkeypatch, members):
    (tmp_path / "secret").write_text("s")
    root = tmp_path / "data" / "root"
    root.mkdir(parents=True)
    archive = root / "cifar-10-python.tar.gz"  # fetched already
    with tarfile.open(archive, "w:gz") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"x"))
    loader = pickles_module._loader(types.SimpleNamespace(files=_cifar10()))
    monkeypatch.setattr(loader, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    assert "cannot download cifar10 (" in line(download, "cifar10", root)
    assert {p.name for p in tmp_path.iterdir()} == {"secret", "data"}
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["root"]
    assert {p.name for p in root.iterdir()} <= {"cifar-10-python.tar.gz"}
    assert (tmp_path / "secret").stat().st_nlink == 1
    assert "extraction_filter" not in vars(tarfile.TarFile) or tarfile.TarFile.extraction_filter is None
    assert "holds no cifar10" in line(check_data, DataSpec(name="cifar10"), root)


def _cifar10():
    from tas_bench.data import dataset_info

    return dataset_info("cifar10").files


# ---------------------------------------------------------------- secrets


def test_no_secret_of_the_environment_is_in_what_a_job_leaves(tmp_path, monkeypatch):
    secret = "s3cr3t" * 5
    for name in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, secret)
    with Store(tmp_path).lock():
        for epochs in (1, 10**9):  # the second fails, with a traceback in the log
            job = dataclasses.replace(teacher_job(problem(epochs=1), 0), seed=epochs)
            if epochs > 1:
                job = dataclasses.replace(job, data=DataSpec(name="digits", train_subset=3))
            execute(job, Labels("s", "m", None), Context(results=tmp_path))
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.parent.name for p in files} >= {"rows", "_log", "_weights"}
    assert not [p for p in files if secret.encode() in p.read_bytes()]


def test_private_is_for_the_owner_alone_and_ends(tmp_path):
    before = os.umask(0o022)
    try:
        with private():
            (tmp_path / "mine").mkdir()
            (tmp_path / "mine" / "file").touch()
        (tmp_path / "others").touch()
    finally:
        os.umask(before)
    modes = [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("mine", "mine/file", "others")]
    assert modes == ["0o700", "0o600", "0o644"]


def test_names_in_a_strangers_results_lead_nowhere_else(tmp_path, monkeypatch):
    """Refused where a name is taken, they may yet stand in what others send."""
    monkeypatch.setattr(drawn, "FORMATS", ("svg",))
    results, sly = tmp_path / "a" / "b" / "results", "x/../../../../out"
    write_example(results, seeds=1, candidates=1, epochs=1)
    store = Store(results)
    manifest = store.manifest()
    manifest["problems"][0]["dataset"] = sly
    (results / "_sweep.json").write_bytes(sealed(manifest))
    for path in (results / "_uses").iterdir():
        uses = [use | {"dataset": sly} for use in pq.read_table(path).to_pylist()]
        path.write_bytes(table_bytes(pa.Table.from_pylist(uses, schema=USES)))
    row = store.row(load(results)["job_id"].iloc[0])
    (results / "rows" / f"{row['job_id']}.parquet").write_bytes(row_bytes(row | {"method": f"../{sly}"}))
    before = {path for path in tmp_path.rglob("*") if results not in path.parents}
    assert main(["report", str(results)]) == OK
    for form in ("latex", "tensorboard"):
        assert main(["export", str(results), "--to", form]) == OK
    assert {path for path in tmp_path.rglob("*") if results not in path.parents} == before
    assert list((results / "_report" / "tables").glob("accuracies-x_.._.._.._.._out-*.csv"))
    for folder in ("_report", "_exported/latex"):
        assert not [path for path in (results / folder).rglob("*") if "out" in path.parts]


@pytest.mark.parametrize(
    ("text", "name"),
    [("tas-s0", "tas-s0"), ("..", "_."), ("", "_"), (".x", "_x"), ("a/../b", "a_.._b"), ("x" * 999, "x" * 200)],
)
def test_file_names(text, name):
    assert file_name(text) == name
