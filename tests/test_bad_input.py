"""What nobody should ask for, over all commands: one line, the right code, nothing written, nothing computed.

More of them stand beside what they are about: `test_cli.py`, `test_train_command.py`, `test_export.py`.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers import DEMO, FULL
from test_security import HOSTILE

from sweeps import demo
from tas_bench.costs.latency import cache_folder
from tas_bench.errors import DAMAGED, IO_FAULT
from tas_bench.store import Store

GOLDEN = Path(__file__).parent / "golden" / "store_v4"

SETTINGS = {
    # sweeps
    "seeds=": "seeds must be whole numbers with commas between",
    "seeds=-1": "each must be from 0 to 2^31 - 1",
    "seeds=1e99": "seeds must be whole numbers",
    "seeds=99999999999999": "each must be from 0 to 2^31 - 1",
    "seeds=0,1,0": "give at least one, each once",
    "keep=nan": "keep must be a number",
    "keep=inf": "keep must be a number",
    "keep=0": "keep is 0.0; it must be a positive fraction",
    "keep=-0.5": "keep is -0.5",
    "t=nan": "t must be a number",
    "t=-0.1": "t is -0.1; it must be in [0, 1]",
    "train_subset=-5": "train_subset is -5",
    "train_subset=1e3": "train_subset must be a whole number or none",
    "train_subset=1000000": "train_subset is 1000000; for digits here it may be 20 to 1438",
    "datasets=": "a data set or backbone is named ''",
    "datasets=../../etc": "a data set or backbone is named",
    "datasets=digits,digits": "datasets are digits, digits",
    "backbones=": "a data set or backbone is named ''",
    "backbones=<script>": "a data set or backbone is named",
    "methods=": "unknown method ''",
    "methods=ratio,ratio": "methods are ratio, ratio",
    "methods=../tas": "unknown method '../tas'",
    "transfers=kd,kd": "transfers are kd, kd",
    "transfers=none,kd": "unknown transfer 'none'",
    "cost=": "unknown cost ''",
    "cost=flops": "unknown cost 'flops'",
    "cost=latency:": "latency is measured first",
    "cost=latency:../../x": "no latency table '../../x'",
    f"cost=latency:{'x' * 300}": "no latency table",
    "name=other": "unknown setting 'name'",
    # recipe
    "epochs=0": "epochs is 0",
    "epochs=-1": "epochs is -1",
    "batch=1": "batch 1; they must be at least 1 and 2",
    "lr=0": "lr must be positive",
    "lr=-1": "lr must be positive",
    "lr=nan": "recipe.lr must be a number",
    "lr=1e999": "recipe.lr must be a number",
    "lr=yes": "recipe.lr must be a number, not 'yes'",
    "momentum=1": "momentum in (0, 1)",
    "weight_decay=-1": "weight_decay not negative",
    "holdout=1": "holdout is 1.0; it must be in [0, 1)",
    # methods and transfers
    "search_epochs=0": "tas.search_epochs is 0",
    "draws=33": "a batch of 64 images is too small",
    "tau_end=0": "tas.tau_end is 0.0",
    "arch_beta1=1": "tas.arch_beta1 is 1.0",
    "selection=greedy": "tas.selection is 'greedy'; it must be gumbel or mixture",
    "trials=0": "random_search.trials is 0",
    "population=1": "cma_es.population is 1; it must be at least 2",
    "sigma=0": "cma_es.sigma is 0.0",
    "kd.temperature=0": "kd.temperature is 0.0",
    "soft_weight=2": "kd.soft_weight is 2.0",
    "init.channels=best": "init.channels is 'best'",
    "tas=": "unknown preset of tas ''",
    "ratio=paper": "ratio has no presets",
    "t.t=1": "unknown setting 't.t'",
    "=": "--set takes key=value",
}

COMMANDS = {
    # arguments
    "run demo --smoke=yes": "--smoke: ignored explicit argument 'yes'",
    "run demo --cpus-per-job nan": "cpus per job is nan",
    "run demo --cpus-per-job 0": "a job needs a share of a CPU or of a GPU",
    "run demo --cpus-per-job 1.5": "cpus per job is 1.5",
    "run demo --gpus-per-job -1": "gpus per job is -1.0",
    "run demo --gpus-per-job 1e9": "gpus per job is 1000000000.0",
    "run demo --gpus-per-job 2": "gpus per job is 2.0; a job trains on one GPU at most: give a share from 0 to 1",
    "run demo --gpus-per-job search=4": "gpus per search is 4.0; a job trains on one GPU",
    "run demo --address :6379": "give HOST:PORT of a Ray cluster, or auto",
    "run demo --address host:port": "give HOST:PORT of a Ray cluster, or auto",
    "run demo --address 127.0.0.1:99999999": "no Ray cluster answers",
    "run demo --train-subset 1.5": "train_subset must be a whole number",
    "run ../demo": "unknown sweep '../demo'",
    "run demo demo": "unrecognized arguments: demo",
    "list ../demo": "unknown sweep '../demo'",
    "list demo table1": "unrecognized arguments: table1",
    "doctor demo --train-subset x": "train_subset must be a whole number",
    "doctor demo --set x": "--set takes key=value",
    "doctor --gpus-per-job nan": "gpus per job is nan",
    "report": "arguments are required: DIR",
    "report nowhere": "nowhere holds no results",
    "report nowhere --json": "unrecognized arguments: --json",
    "export nowhere --to csv": "nowhere holds no results",
    "export .": ". is no network's file; results take --to csv, latex, optuna, tensorboard",
    "export s3://bucket/runs": "is no network's file",
    "export nowhere --to xlsx": "invalid choice: 'xlsx'",
    "pack nowhere out": "nowhere holds no results",
    "unpack nowhere out": "nowhere holds nothing packed",
    "check": "arguments are required: DIR",
    "check nowhere": "nowhere",
    "check nowhere --repair": "nowhere",
    "check file": "file",
    "cost resnet20 --classes 1e3": "--classes: invalid int value",
    "cost resnet20 --classes -5": "--classes is -5",
    "cost resnet20 --classes 99999999999999999999": "it must be from 1 to 1,000,000",
    "cost ../resnet20 --classes 10": "unknown backbone '../resnet20'",
    "cost resnet20 --classes 10 --size nowhere": "cannot read size file nowhere",
    "cost resnet20 --classes 10 --size .": "cannot read size file .",
    "cost resnet20 --classes 10 --size nan.json": "widths[0] is nan",
    "cost resnet20 --classes 10 --size huge.json": "widths",
    "cost resnet20 --classes 10 --size bytes.json": "is not JSON",
    "cost resnet20 --classes 10 --cost latency:nowhere": "no latency table 'nowhere'",
    "train nosuchnet": "unknown backbone",
    "train tiny --transfer none": "unknown transfer",
    "train tiny --dataset mnist": "unknown dataset",
    "train tiny --seed -1": "each must be from 0",
    "train tiny --seed 1.5": "--seed: invalid int value",
    "train tiny --cpus 0 --gpus 0": "a job needs a share",
    "train tiny --gpus 1": "a job asks for a GPU, this machine has none",
    "train resnet18 --train-subset 257": "257 images in batches of 256 leave one over",
    "train tiny --out x": "a network's file ends in .safetensors",
    "train tiny --out nowhere/x.safetensors": "no folder 'nowhere'",
    "train tiny --set methods=tas": "unknown setting 'methods'",
    "train tiny --set epochs=none": "recipe.epochs must be a whole number",
    "train tiny --set keep=0.5": "unknown setting 'keep'",
    "train tiny --size bytes.json": "is not JSON",
    "train tiny --dataset cifar10": "cifar10 needs its files",
    "train tiny --dataset cifar10 --data file": "'file' is a file",
    "export": "arguments are required: FILE",
    "export nowhere": "no file 'nowhere'",
    "export file": "is no whole safetensors file",
    "export file --to tflite": "invalid choice: 'tflite'",
    "export file --out x.txt": "--to torch writes a file that ends in .pt2",
}  # fmt: skip


@pytest.fixture
def furnished(here):
    """A working directory with files to stumble over."""
    (here / "file").write_text("text")
    (here / "bytes.json").write_bytes(b"\xff\xfe\x00{")
    (here / "nan.json").write_text(json.dumps({**FULL, "widths": [float("nan")] * 19}))
    (here / "huge.json").write_text(json.dumps({**FULL, "widths": [10**400] * 19}))
    return here


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings(refused, setting):
    assert SETTINGS[setting] in refused(*DEMO, "--set", setting)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands(refused, furnished, command):
    assert COMMANDS[command] in refused(*command.split())


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_of_everything_one_can_name(refused, name):
    refused("run", "--", name)
    refused("list", "--", name or "-")
    refused("cost", "--classes", "10", "--", name)
    refused("train", "--", name)
    refused("doctor", "--", name or "-")
    for key in ("datasets", "backbones", "methods", "transfers", "cost", "tas", "kd"):
        refused(*DEMO, "--set", f"{key}={name}")
    refused(*DEMO, "--set", f"{name}=1")


def test_a_size_with_a_key_twice_takes_none(refused, furnished):
    (furnished / "twice.json").write_text('{"widths": [1], "widths": [2], "depths": [1]}')
    refused("cost", "resnet20", "--classes", "10", "--size", "twice.json")


# ---------------------------------------------------------------- results directories


@pytest.fixture
def kept(here):
    """A results directory of the sweep demo with no rows in it."""
    with Store(here / "out").lock():
        Store(here / "out").claim(demo.SWEEP.manifest())
    return here / "out"


@pytest.mark.parametrize("name", ["rows", "_uses", "_curves"])
def test_a_file_where_a_folder_should_be(refused, kept, name):
    (kept / name).rmdir()
    (kept / name).write_text("in the way")
    assert "not writable" in refused(*DEMO)


MANIFESTS = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"name": 3}',
    "\xff",
    '{"name": NaN}',
    '{"a": ' * 100_000,
    '{"name": "demo"}',
]


@pytest.mark.parametrize("text", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_manifest_that_is_none(refused, here, text):
    shutil.copytree(GOLDEN, here / "out")
    (here / "out" / "_sweep.json").write_bytes(text.encode("latin1"))
    refused("report", "out", code=DAMAGED)


def test_a_read_only_file_system_is_an_io_fault(refused):
    if not os.access("/sys", os.F_OK):
        pytest.skip("no /sys")
    assert "is not writable" in refused("run", "demo", "--results", "/sys/kernel/nowhere", code=IO_FAULT)


def test_a_run_where_another_goes_on(refused, kept):
    with Store(kept).lock():
        assert "is in use by" in refused(*DEMO)


def test_a_latency_table_that_is_damaged(refused, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    cache_folder().mkdir(parents=True)
    (cache_folder() / "mine.parquet").write_bytes(b"PAR1")
    assert "is damaged" in refused(*DEMO, "--set", "cost=latency:mine", code=DAMAGED)
    assert "is damaged" in refused("cost", "tiny", "--classes", "10", "--cost", "latency:mine", code=DAMAGED)


def test_there_are_enough_of_them():
    assert len(SETTINGS) + len(COMMANDS) >= 60
    assert {command.split()[0] for command in COMMANDS} == {
        "run", "list", "doctor", "report", "check", "cost", "train", "export", "pack", "unpack",
    }  # fmt: skip
