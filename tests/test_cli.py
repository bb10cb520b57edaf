"""The command: refusals of one line, what it prints, and faults."""

import importlib.metadata
import io
import json
import os
import re
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import DEMO, FULL

from sweeps import demo
from tas_bench import cli
from tas_bench.cli import main
from tas_bench.errors import DAMAGED, INTERNAL, IO_FAULT, OK
from tas_bench.schema import ROWS
from tas_bench.settings import with_settings
from tas_bench.store import Store
from tas_bench.text import own_version

# ---------------------------------------------------------------- bad input


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "arguments are required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["run"], "arguments are required: SWEEP"),
        (["run", "tabel1"], "unknown sweep 'tabel1'; did you mean 'table1'?"),
        (["list", "dem"], "unknown sweep 'dem'; did you mean 'demo'?"),
        ([*DEMO, "--resul", "x"], "unrecognized arguments: --resul"),
        ([*DEMO, "more"], "unrecognized arguments: more"),
        ([*DEMO, "--cpus-per-job", "many"], "--cpus-per-job takes a number or KIND=number, not 'many'"),
        ([*DEMO, "--cpus-per-job", "-1"], "cpus per job is -1.0"),
        ([*DEMO, "--cpus-per-job", "5000"], "a job asks for 5000 CPUs, this machine offers"),
        ([*DEMO, "--gpus-per-job", "1"], "a job asks for a GPU, this machine has none"),
        ([*DEMO, "--address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
        ([*DEMO, "--address", "nowhere"], "give HOST:PORT of a Ray cluster, or auto"),
        ([*DEMO, "--download"], "--download needs --data DIR"),
        ([*DEMO, "--train-subset", "few"], "train_subset must be a whole number or none, not 'few'"),
        ([*DEMO, "--train-subset", "3"], "train_subset is 3; for digits here it may be 20 to 1438"),
    ],
)
def test_bad_arguments(refused, argv, said):
    assert said in refused(*argv)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("backbones=resnet23", "unknown backbone 'resnet23'; did you mean 'resnet"),
        ("datasets=cifar-100", "unknown dataset 'cifar-100'; did you mean 'cifar100'?"),
        ("methods=ratio,tass", "unknown method 'tass'; did you mean 'tas'?"),
        ("transfers=scrach", "unknown transfer 'scrach'; did you mean 'scratch'?"),
        ("cost=macs_search", "cost is 'macs_search', a search's proxy"),
        ("keep=0.001", "this space reaches 0.058 M to 2.533 M: change keep"),
        ("keep=3", "this space reaches 0.058 M to 2.533 M: change keep"),
        ("t=0", "although the space spans them: widen t"),
        ("t=2", "t is 2.0; it must be in [0, 1]"),
        ("lambda_cost=-1", "tas.lambda_cost is -1.0"),
        ("samples=0", "tas.samples is 0"),
        ("samples=99", "tas.samples (|I|) is 99; resnet20 has 8 candidates"),
        ("lamda_cost=1", "unknown setting 'lamda_cost'; did you mean 'lambda_cost'?"),
        ("epochs=1.5", "recipe.epochs must be a whole number, not '1.5'"),
        ("keep=much", "keep must be a number, not 'much'"),
        ("exact_expectation=maybe", "tas.exact_expectation must be true or false, not 'maybe'"),
        ("seeds=0,0", "seeds are 0, 0; give at least one, each once"),
        ("tas=releasd", "unknown preset of tas 'releasd'; did you mean 'released'?"),
        ("proxy_epochs=2", "could be random_search.proxy_epochs or cma_es.proxy_epochs"),
        ("keep", "--set takes key=value, not 'keep'"),
        ("=1", "--set takes key=value, not '=1'"),
    ],
)
def test_bad_settings(refused, setting, said):
    assert said in refused(*DEMO, "--set", setting)


def test_a_holdout_without_every_class(refused):
    assert "holdout is 0.001" in refused(*DEMO, "--set", "holdout=0.001")
    assert "holdout is 0.001" in refused("train", "tiny", "--set", "holdout=0.001")


def test_a_setting_twice(refused):
    assert "--set t is given twice" in refused(*DEMO, "--set", "t=0.1", "--set", "t=0.2")


def test_a_method_that_cannot_meet_the_budget(refused):
    assert "ratio: no single keep-ratio" in refused(*DEMO, "--set", "backbones=tiny", "--set", "t=0.001")


def with_first(width):
    return json.dumps({**FULL, "widths": [width, *FULL["widths"][1:]]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({**FULL, "widths": FULL["widths"][1:]}), "resnet20 has 19 widths, the size has 18"),
        (json.dumps({**FULL, "depths": [3, 3]}), "depths"),
        (json.dumps({**FULL, "depths": [0, 3, 3]}), "depths[0] is 0, not a positive integer"),
        (json.dumps({**FULL, "depths": [3, 4, 3]}), "resnet20 keeps 1 to 3 blocks"),
        (with_first(0), "widths[0] is 0, not a positive integer"),
        (with_first(-4), "widths[0] is -4, not a positive integer"),
        (with_first(1.5), "widths[0] is 1.5, not a positive integer"),
        (with_first(True), "widths[0] is True, not a positive integer"),
        (with_first("16"), "widths[0] is '16', not a positive integer"),
        (with_first(10**30), "widths are integers from 1 to"),
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must hold"),
        ('{"widths": 3, "depths": [3]}', "'widths' must be a list"),
        (None, "No such file"),
    ],
)
def test_bad_sizes(refused, here, text, said):
    if text is not None:
        (here / "size.json").write_text(text)
    assert said in refused("cost", "resnet20", "--classes", "10", "--size", "size.json")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["resnet31", "--classes", "10"], "unknown backbone 'resnet31'; did you mean 'resnet"),
        (["resnet20"], "arguments are required: --classes"),
        (["resnet20", "--classes", "0"], "--classes is 0; it must be from 1 to 1,000,000"),
        (["resnet20", "--classes", "10", "--cost", "macs_search"], "a search's proxy"),
        (["resnet20", "--classes", "10", "--cost", "latncy"], "unknown cost 'latncy'; did you mean 'latency'?"),
        (["resnet20", "--classes", "ten"], "--classes: invalid int value"),
    ],
)
def test_bad_costs(refused, argv, said):
    assert said in refused("cost", *argv)


# ---------------------------------------------------------------- data that is not there


def write_data(folder, column, classes, n):
    """Two parquet files of the Hugging Face layout, with images nobody can decode."""
    folder.mkdir()
    for part in ("train", "test"):
        rows = {"img": [{"bytes": b"no image", "path": None}] * n, column: [i % classes for i in range(n)]}
        pq.write_table(pa.table(rows), folder / f"{part}-00000-of-00001.parquet")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "cifar100 needs its files: name their folder with --data DIR"),
        (["--data", "missing"], "no folder 'missing'"),
        (["--data", "empty"], "'empty' is empty"),
        (["--data", "file"], "'file' is a file"),
        (["--data", ""], "'' is no path"),
        (["--data", "other"], "'other' holds cifar10, not cifar100"),
        (["--data", "broken"], "cifar100"),
        (["--data", "cut"], "cut/cifar100/train-00000-of-00001.parquet"),
    ],
)
def test_bad_data(refused, here, data, said):
    (here / "empty").mkdir()
    (here / "file").touch()
    for folder in ("other", "cut", "broken"):
        (here / folder).mkdir()
    write_data(here / "other" / "cifar10", "label", 10, 40)
    write_data(here / "broken" / "cifar100", "fine_label", 100, 200)
    write_data(here / "cut" / "cifar100", "fine_label", 100, 200)
    for path in (here / "cut").rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-100])
    assert said in refused("run", "table1", "--results", "out", *data)


# ---------------------------------------------------------------- results directories


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "a\x1b[31mb", "\udcff", "\u202egnp.exe"])
def test_names_that_are_no_paths(refused, name):
    for argv in (["run", "demo", "--results", name], ["report", name]):
        assert "is no path" in refused(*argv)


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "/proc/nowhere"])
def test_a_results_directory_that_cannot_be_written(refused, here, name):
    (here / "file").write_text("in the way")
    assert f"results directory {name} is not writable" in refused("run", "demo", "--results", name)


def finished(sweep, results, **changed):
    """A results directory of a sweep with one row in it."""
    store = Store(results)
    with store.lock():
        store.claim(sweep.manifest() | changed)
        row = dict.fromkeys(ROWS.names) | {"job_id": "a", "status": "ok", "attempts": 1}
        store.commit(row)


def test_a_results_directory_of_another_sweep_or_setting(refused, here):
    finished(demo.SWEEP, here / "out", name="other")
    assert "holds sweep 'other', not 'demo'" in refused(*DEMO)
    finished(demo.SWEEP, here / "mine")
    argv = ["run", "demo", "--results", "mine", "--set", "tas.lambda_cost=4"]
    assert "was made with tas.lambda_cost = 2.0, now it is 4.0" in refused(*argv)
    Store(here / "mine").claim_data({"digits": "of old"})
    assert "was made with data fingerprint of digits = of old, now it is " in refused(*argv[:-2])


def test_a_results_directory_in_use(refused, here):
    finished(demo.SWEEP, here / "out")
    with Store(here / "out").lock():
        assert "out is in use by" in refused(*DEMO)


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_nothing_to_report(refused, here, name):
    (here / "empty").mkdir()
    (here / "file").touch()
    assert f"{name} holds no results" in refused("report", name)


def test_a_started_directory_without_rows_has_a_report_that_says_so(here, capsys):
    with Store(here / "out").lock():
        Store(here / "out").claim(demo.SWEEP.manifest())
    assert main(["report", "out"]) == OK
    assert capsys.readouterr().err == ""
    assert "no job has ended yet" in (here / "out" / "_report" / "report.html").read_text()


def test_a_damaged_row_is_code_4(refused, here):
    finished(demo.SWEEP, here / "out")
    (here / "out" / "rows" / "a.parquet").write_bytes(b"PAR1")
    assert "out/rows/a.parquet is damaged" in refused("status", "out", code=DAMAGED)


# ---------------------------------------------------------------- what it prints


def test_cost_figures(here, capsys):
    assert main(["cost", "resnet32", "--classes", "100", "--json"]) == OK
    assert json.loads(capsys.readouterr().out) == {
        "macs": 69_130_596, "macs_search": 69_130_496, "params": 472_564,
        "unpruned_macs": 69_130_596, "ratio": 1.0,
    }  # fmt: skip
    size = {"widths": [12] * 11 + [25] * 10 + [50] * 10, "depths": [5, 5, 5]}
    (here / "size.json").write_text(json.dumps(size))
    assert main(["cost", "resnet32", "--classes", "100", "--size", "size.json", "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["macs", "macs_search", "params", "unpruned_macs", "ratio"]
    assert found["macs"] == 41_095_916
    assert found["ratio"] == pytest.approx(41_095_916 / 69_130_596)
    assert main(["cost", "resnet32", "--classes", "100"]) == OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(found)
    assert "69,130,596" in lines[0]


def test_cost_is_on_the_images_the_backbone_was_made_for(capsys):
    assert main(["cost", "resnet50", "--classes", "1000"]) == OK
    assert "4,089,185,256" in capsys.readouterr().out.splitlines()[0]


def test_list_names_everything_there_is(capsys):
    assert main(["list"]) == OK
    lines = capsys.readouterr().out.splitlines()
    headings = [line for line in lines if not line.startswith(" ")]
    assert headings == ["sweeps", "methods", "transfers", "backbones", "datasets", "costs"]
    names = {line.split()[0] for line in lines if line.startswith(" ")}
    assert {"demo", "table1", "tas", "ratio", "kd", "resnet164", "digits", "macs"} <= names
    about = [line for line in lines if line.startswith(" ")]
    assert all(re.match(r"  \S+ {2,}\S", line) for line in about)


def test_list_of_a_sweep_shows_what_set_takes(capsys):
    assert main(["list", "demo"]) == OK
    *lines, tas, init, kd = capsys.readouterr().out.splitlines()
    assert (tas, kd) == ("presets: --set tas=paper|released", "presets: --set kd=released|paper")
    assert init == "presets: --set init=leading|leading-identity|l1|l1-identity"
    settings = [line.removeprefix("--set ").partition("=") for line in lines]
    assert with_settings(demo.SWEEP, {key: value for key, _, value in settings}) == demo.SWEEP


@pytest.mark.parametrize(
    "command", ["", "run", "doctor", "report", "list", "cost", "train", "export", "pack", "unpack"]
)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text
    assert any(line.startswith(f"  tas-bench {command}") for line in text.split("example")[1].splitlines())


# ---------------------------------------------------------------- faults


def test_an_internal_fault_is_one_line():
    code = "from tas_bench import cli\ndef show(args): 1 / 0\ncli.list.show = show\nexit(cli.main(['list']))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == INTERNAL
    assert found.stderr.count("\n") == 1
    assert "internal fault, please report it: ZeroDivisionError at <string>:2" in found.stderr


def test_a_fault_of_the_file_system_is_one_line(refused, monkeypatch):
    def fail(args):
        raise OSError(28, "No space", "/x")

    monkeypatch.setattr(cli.run, "settled", fail)
    assert "/x: No space" in refused(*DEMO, code=IO_FAULT)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_anything_runs_is_one_line(refused, monkeypatch, signum):
    before = signal.getsignal(signum)
    monkeypatch.setattr(cli.run, "settled", lambda args: os.kill(os.getpid(), signum))
    assert refused(*DEMO, code=128 + signum) == "interrupted"
    assert signal.getsignal(signum) is before


def test_a_closed_pipe_is_no_fault(monkeypatch, capsys):
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["list"]) == IO_FAULT
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("argv", [["--version"], ["--help"]])
def test_output_that_cannot_be_written_is_one_line(monkeypatch, argv):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tas_bench", *argv]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (IO_FAULT, "tas-bench: error: I/O: No space left on device\n")


def test_output_that_is_closed_is_no_fault():
    done = subprocess.run(
        f"{sys.executable} -m tas_bench --version >&-", shell=True, stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, done.stderr) == (OK, "")


def test_signs_that_an_encoding_has_not_are_replaced(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["list"]) == OK
    print("71.2 ± 0.3", flush=True)
    assert out.buffer.getvalue().endswith(b"71.2 ? 0.3\n")


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == OK
    assert re.fullmatch(r"tas-bench \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_clone_that_pip_does_not_know_has_no_version(monkeypatch):
    monkeypatch.setattr(importlib.metadata.Distribution, "discover", lambda **_: iter(()))
    assert own_version() == "not installed"
