"""`tas-bench train`: refusals of one line, real trainings on digits, stops, and the file that comes out."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import tree
from helpers import full_disk, write_folder
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tas_bench import by_hand, checkpoint, progress, saved
from tas_bench import data as data_module
from tas_bench import train as train_module
from tas_bench.backbones import find_backbone
from tas_bench.backbones.backbone import ImageShape
from tas_bench.backbones.tiny import TINY
from tas_bench.cli import main
from tas_bench.costs.macs import MACS
from tas_bench.costs.params import PARAMS
from tas_bench.data import batches_of, dataset_info, load_test
from tas_bench.digest import KEY
from tas_bench.errors import BAD_INPUT, FAILED_JOBS, IO_FAULT, OK
from tas_bench.jobs import DataSpec, Recipe
from tas_bench.network import Network
from tas_bench.reading import load
from tas_bench.saved import read_network
from tas_bench.space import Size
from tas_bench.train import accuracy

ROOT = Path(__file__).parents[1]
SIZE = {"widths": [8, 7, 5, 6, 5, 12, 11, 13, 10], "depths": [2, 1]}
SHORT = ["--set", "epochs=3", "--set", "batch=32", "--train-subset", "300"]
SMALL = ["train", "tiny", *SHORT, "--size", "size.json", "--results", "rows", "--out", "small.safetensors"]
KD20, KD8 = ([*(word.replace("epochs=3", f"epochs={n}") for word in SMALL), "--transfer", "kd"] for n in (20, 8))
MEASURED = ["job_id", "train_accuracy", "test_accuracy", "epochs", "images", "train_macs"]


@pytest.fixture(autouse=True)
def threads():
    """A training sets the number of threads of its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sized(here):
    """A working directory with a size file in it."""
    (here / "size.json").write_text(json.dumps(SIZE))
    return here


def started():
    """When each job's row was written."""
    return {p.stem: p.stat().st_mtime_ns for p in Path("rows/rows").glob("*.parquet")}


def contents(path):
    """Metadata and tensors of a file; safetensors orders them as it likes."""
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118


def student():
    """The row of the student that was trained."""
    return load("rows").set_index("kind").loc["final"]


# ---------------------------------------------------------------- bad input


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "arguments are required: BACKBONE"),
        (["tinny"], "unknown backbone 'tinny'; did you mean 'tiny'?"),
        (["tiny", "--transfer", "kt"], "unknown transfer 'kt'; did you mean 'kd'?"),
        (["tiny", "--dataset", "digit"], "unknown dataset 'digit'; did you mean 'digits'?"),
        (["tiny", "--size", "missing.json"], "cannot read size file missing.json"),
        (["tiny", "--size", "wrong.json"], "tiny has 9 widths, the size has 2"),
        (["tiny", "--set", "epochs=many"], "recipe.epochs must be a whole number, not 'many'"),
        (["tiny", "--set", "epochs=0"], "epochs is 0 and batch 256; they must be at least 1 and 2"),
        (["tiny", "--set", "batch=1"], "batch 1; they must be at least 1 and 2"),
        (["tiny", "--set", "lr=nan"], "recipe.lr must be a number, not 'nan'"),
        (["tiny", "--seed", "-1"], "seeds are -1"),
        (["tiny", "--seed", "x"], "--seed: invalid int value: 'x'"),
        (["tiny", "--train-subset", "3"], "train_subset is 3; for digits here it may be 20 to 1438"),
        (["tiny", "--set", "epochs=3", "--set", "epochs=2"], "--set epochs is given twice"),
        (["tiny", "--set", "epochs"], "--set takes key=value, not 'epochs'"),
        (["tiny", "--set", "keep=0.5"], "unknown setting 'keep'"),
        (["tiny", "--set", "seeds=1"], "unknown setting 'seeds'"),
        (["tiny", "--set", "kd.temperature=2"], "unknown setting 'kd.temperature'"),
        (["tiny", "--transfer", "kd", "--set", "kd=papr"], "unknown preset of kd 'papr'; did you mean 'paper'?"),
        (["tiny", "--transfer", "kd", "--set", "temperature=0"], "kd.temperature is 0.0; it must be positive"),
        (["tiny", "--cpus", "5000"], "a job asks for 5000 CPUs, this machine offers"),
        (["tiny", "--cpus", "0", "--gpus", "0"], "a job needs a share of a CPU or of a GPU"),
        (["tiny", "--gpus", "1"], "a job asks for a GPU, this machine has none"),
        (["tiny", "--dataset", "cifar10"], "cifar10 needs its files: name their folder with --data DIR"),
        (["tiny", "--dataset", "cifar10", "--data", "no"], "no folder 'no' to read cifar10 from"),
        (["tiny", "--download"], "--download needs --data DIR"),
        (["tiny", "--out", "net.pt"], "--out is 'net.pt'; a network's file ends in .safetensors"),
        (["tiny", "--out", "no/net.safetensors"], "no folder 'no' to write 'net.safetensors' into"),
        (["tiny", "--out", "folder.safetensors"], "'folder.safetensors' is a folder"),
        (["tiny", "--out", "other.safetensors"], "no whole safetensors file"),
        (["tiny", "--out", f"{'x' * 250}.safetensors"], "File name too long"),
        (["tiny", "--results", "wrong.json"], "results directory wrong.json is not writable"),
    ],
)
def test_bad_arguments(refused, here, argv, said):
    (here / "wrong.json").write_text('{"widths": [1, 2], "depths": [1]}')
    (here / "folder.safetensors").mkdir()
    (here / "other.safetensors").write_text("my only copy of something else")
    assert said in refused("train", *argv)


def test_a_folder_that_refuses_files_is_told_before_compute(refused, here):
    assert "cannot write '/proc/net.safetensors'" in refused("train", "tiny", "--out", "/proc/net.safetensors")


def test_a_strangers_network_is_left_alone(refused, here):
    save_file({"w": torch.zeros(1)}, here / "tiny.safetensors", metadata={"format": "pt"})
    assert "'tiny.safetensors' is no network of tas_bench" in refused("train", "tiny", *SHORT)


def test_nothing_is_downloaded_before_all_else_is_right(refused, here, monkeypatch):
    monkeypatch.setattr(data_module, "download", lambda *_: pytest.fail("it fetched"))
    asked = ["tiny", "--dataset", "cifar10", "--data", "data", "--download", "--cpus", "5000"]
    assert "a job asks for 5000 CPUs" in refused("train", *asked)


def test_help_tells_the_recipes_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in ("epochs", "batch", "lr"):
        assert re.search(rf" {name}=[\d.]+ \((?:default )?([\d.]+)\)", text)[1] == str(getattr(Recipe(), name))


# ---------------------------------------------------------------- real trainings


def readme_block():
    """The lines of the README that reload the file."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    [block] = [block for block in blocks if "read_network" in block]
    return block


def rebuilt(path):
    """The network of a file, from what its metadata say alone; and these."""
    about, _ = contents(path)
    size = Size(tuple(json.loads(about["widths"])), tuple(json.loads(about["depths"])))
    image = ImageShape(int(about["channels"]), int(about["side"]))
    network = Network(find_backbone(about["backbone"]), size, int(about["classes"]), image)
    network.load_state_dict(load_file(path))
    return network.eval(), about


def test_a_file_reloads_as_the_readme_says_and_tests_as_its_row_says(sized, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_EVERY", math.inf)  # on a slow machine a line would tell the time left
    assert main(KD20) == OK
    out, err = capsys.readouterr()
    told, where = out.splitlines()
    row = student()
    assert told.startswith(f"tiny, kd: {100 * row['test_accuracy']:.2f} % of the test images of digits right; ")
    layers = TINY.layers(10, ImageShape(1, 8))
    shares = [row[cost.name] / cost.of(layers, TINY.full) for cost in (MACS, PARAMS)]
    assert f"{row['macs'] / 1e6:.3f} M macs ({shares[0]:.1%} of the unpruned network's), " in told
    assert f"{row['params'] / 1e3:.3f} k params ({shares[1]:.1%} of the unpruned network's)" in told
    assert where.startswith("small.safetensors written; `tas-bench export small.safetensors`")
    assert err.splitlines() == [
        "training tiny on digits (unpruned, from scratch, 20 epochs, seed 0)",
        "training tiny on digits (kd, 20 epochs, seed 0)",
    ]

    found = {}
    exec(readme_block(), found)
    info = dataset_info("digits")
    test = batches_of(load_test(DataSpec(name="digits"), None), info, 100, augment=False)
    network, about = found["network"], found["about"]
    other, whole = rebuilt("small.safetensors")
    assert not network.training
    assert about == {name: text for name, text in whole.items() if name != KEY.decode()}
    for same in (network, other):
        assert accuracy(same, test, "float32") == row["test_accuracy"] == float(about["test_accuracy"])
    assert 0.2 < row["test_accuracy"] < 1, "it learnt something, so that another network would be told"
    assert (json.loads(about["mean"]), json.loads(about["std"])) == (list(info.mean), list(info.std))
    assert saved.image_of(about) == info.image
    assert json.loads(about["widths"])[:4] == SIZE["widths"][:4]
    for name in ("job", "job_id", "versions", "commit", "transfer", "backbone", "dataset"):
        assert about[name] == row[name]
    assert about["data_fingerprint"] == json.loads(Path("rows/_data.json").read_text())["digits"]
    for name in ("seed", "macs", "params", "train_subset", "micro_batch"):
        assert int(about[name]) == row[name]
    assert json.loads(about["job"])["recipe"]["epochs"] == 20
    assert Path("small.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    found = os.umask(0)
    os.umask(found)
    return found


def test_what_is_finished_is_not_trained_again(sized, capsys):
    assert main([*SMALL, "--transfer", "kd", "--quiet"]) == OK
    first, file = started(), contents("small.safetensors")
    assert len(first) == 2
    capsys.readouterr()

    Path("small.safetensors").unlink()
    assert main([*SMALL, "--transfer", "kd"]) == OK
    assert capsys.readouterr().err.count("found finished") == 2
    assert contents("small.safetensors") == file
    assert started() == first

    assert main([*SMALL, "--transfer", "init", "--quiet"]) == OK, "another file of ours may be overwritten"
    assert "unpruned, from scratch, 3 epochs, seed 0): found finished" in capsys.readouterr().err
    assert first.items() < started().items()
    assert set(load("rows")["kind"]) == {"teacher", "final"}
    assert read_network("small.safetensors")[1]["transfer"] == "init"

    key = load("rows").query("kind == 'final' and transfer == 'kd'")["job_id"].item()
    (Path("rows/_weights") / f"{key}.safetensors").unlink()  # as a sweep leaves it: the row stands
    assert main([*SMALL, "--transfer", "kd", "--quiet"]) == OK
    assert contents("small.safetensors") == file
    assert main(["train", "tiny", *SHORT, "--results", "rows"]) == OK
    assert "found finished" in capsys.readouterr().err, "the unpruned network from scratch is the teacher"
    assert read_network("tiny.safetensors")[1]["widths"] == json.dumps(TINY.full.widths)


def test_a_report_of_trainings_by_hand_says_what_they_are(sized, capsys):
    assert main([*SMALL, "--quiet"]) == OK
    assert capsys.readouterr().err == ""
    assert main(["report", "rows"]) == BAD_INPUT
    assert "rows holds rows of no sweep; read them with tas_bench.load('rows')" in capsys.readouterr().err


# ---------------------------------------------------------------- what goes wrong


def test_a_training_that_diverges_is_code_3(refused_after, capsys):
    line = refused_after(FAILED_JOBS, *SMALL, "--set", "lr=1e30")
    assert "tiny on digits (scratch, 3 epochs, seed 0) ended as diverged: the loss became" in line
    assert line.endswith("; it would again: take a lower rate than 1e+30 (--set lr=...)")
    assert student()["status"] == "diverged"


@pytest.fixture
def refused_after(sized, capsys):
    """Runs a command that begins and fails: one line of error at the end, and no file. Returns the line."""

    def check(code, *argv):
        assert main([*argv, "--quiet"]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert not list(Path().glob("*.safetensors")) + list(Path().glob(".*.tmp"))
        return err.rstrip("\n")

    return check


def test_a_failed_teacher_is_code_3_and_tried_again(refused_after, monkeypatch):
    real = train_module.train

    def fail(job, context):
        assert job.role == "teacher", "its student waits for it"
        raise ValueError("told to\nfail")

    monkeypatch.setattr(train_module, "train", fail)
    line = refused_after(FAILED_JOBS, *SMALL, "--transfer", "kd")
    assert "(unpruned, from scratch, 3 epochs, seed 0) ended as failed: ValueError: told to fail;" in line
    [log] = re.findall(r"; details in (\S+); the same command tries again$", line)
    assert "ValueError: told to" in Path(log).read_text()
    monkeypatch.setattr(train_module, "train", real)
    assert main([*SMALL, "--transfer", "kd", "--quiet"]) == OK
    assert load("rows").set_index("kind").loc["teacher", "attempts"] == 2


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_at_once(refused_after, monkeypatch, signum, code):
    def stop(job, labels, context):
        os.kill(os.getpid(), signum)
        time.sleep(5)
        raise AssertionError("went on")

    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(by_hand, "execute", stop)
    assert refused_after(code, *SMALL).startswith("stopped; the same command goes on from the last checkpoint (")
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_full_disk_is_code_5(refused_after):
    with full_disk():
        line = refused_after(IO_FAULT, *SMALL)
    assert re.search(r"cannot write rows/_\w+/\w+\.\w+: File too large$", line)
    assert not started()
    assert not list(Path("rows").rglob(".*.tmp"))


def test_a_standing_default_file_of_another_job_is_left_alone(sized, capsys):
    assert main(["train", "tiny", *SHORT, "--results", "rows", "--quiet"]) == OK
    before = Path("tiny.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["train", "tiny", *SHORT, "--results", "rows", "--seed", "1"]) == BAD_INPUT
    assert "'tiny.safetensors' holds the network of another training; give --out" in capsys.readouterr().err
    assert Path("tiny.safetensors").read_bytes() == before
    assert len(started()) == 1, "refused before compute"


# ---------------------------------------------------------------- one training, one data set


def test_other_data_of_the_same_name_is_refused(own_folders, here, capsys):
    """Whoever asks: a network would be told that was trained on other images."""
    other = here / "other"
    write_folder(other / "imagenette", train_per_class=5)
    asked = [
        "train", "tiny", "--dataset", "imagenette", "--set", "epochs=1", "--set", "batch=8", "--results", "rows",
        "--cpus", "1", "--quiet", "--out", "net.safetensors",
    ]  # fmt: skip
    assert main([*asked, "--data", str(own_folders)]) == OK
    before = tree(Path("rows"))
    capsys.readouterr()
    for command in (asked, [*asked, "--seed", "1"]):
        assert main([*command, "--data", str(other)]) == BAD_INPUT
        [line] = capsys.readouterr().err.splitlines()
        assert "rows was made with data fingerprint of imagenette = " in line
        assert tree(Path("rows")) == before


KILLER = """
import os, signal, sys
from tas_bench import checkpoint, cli
real, saves = checkpoint.Checkpoint.save, []
def save(self, **values):
    self.every = 0
    real(self, **values)
    saves.append(self)
    if len(saves) == 8 + 5:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoint.save = save
sys.exit(cli.main(sys.argv[1:]))
"""
"""Keeps a checkpoint of every epoch and is killed behind the student's fifth, its teacher being finished."""


def test_killed_it_goes_on_with_the_same_command(sized, monkeypatch):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLER, *KD8], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    teacher = started()
    assert len(teacher) == 1
    assert not Path("small.safetensors").exists()

    kept = []
    real = checkpoint.Checkpoint.restore

    def restore(self, *args):
        found = real(self, *args)
        kept.append(len(found["curve"]))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.Checkpoint, "restore", restore)
        assert main([*KD8, "--quiet"]) == OK
    assert teacher.items() < started().items(), "the teacher was not trained again"
    assert kept == [5], "the student went on from its checkpoint"
    assert student()["attempts"] == 2

    again = ["again" if word == "rows" else word.replace("small.s", "again.s") for word in KD8]
    assert main([*again, "--quiet"]) == OK
    one, other = (load(d).sort_values("job_id")[MEASURED].to_dict("records") for d in ("rows", "again"))
    assert one == other
    mine, uncut = load_file("small.safetensors"), load_file("again.safetensors")
    assert all(torch.equal(mine[name], uncut[name]) for name in {*mine, *uncut})
