"""Preflight and `tas-bench doctor`: every check finds what it is there to find, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import tree
from helpers import bare_row, line
from packaging.requirements import Requirement

from sweeps import demo
from tas_bench import preflight
from tas_bench.cli import main
from tas_bench.errors import BAD_INPUT, OK, InputError, StoreIOError
from tas_bench.estimate import disk_of
from tas_bench.preflight import check_room, check_run, check_writable, diagnose
from tas_bench.resources import Resources
from tas_bench.schema import USES
from tas_bench.settings import with_settings
from tas_bench.store import Store
from tas_bench.uses import write_uses

SWEEP = with_settings(demo.SWEEP, {"backbones": "tiny", "methods": "ratio"})


def found(sweep, results, **resources):
    """Status and text by check."""
    checks = list(diagnose(sweep, results, None, Resources(**resources)))
    assert all("\n" not in check.told for check in checks)
    return {check.name: (check.status, check.told) for check in checks}


def test_all_is_well_here_and_nothing_is_written(here):
    checks = found(SWEEP, here / "a" / "b")
    assert {status for status, _ in checks.values()} == {"ok"}, checks
    assert list(checks) == ["versions", "torchvision", "devices", "data", "budget", "results directory", "room"]
    prints = check_run(SWEEP, here / "a" / "b", None, Resources())
    assert list(prints) == ["digits"]
    assert checks["data"][1] == f"digits ({prints['digits']})"
    assert tree(here) == {}


def test_a_directory_of_other_data_or_another_sweep_or_that_is_held_is_told_before_a_run(here):
    store = Store(here / "out")
    with store.lock():
        store.claim(SWEEP.manifest(), {"digits": "others"})
        store.commit(bare_row("a"))
        other = replace(SWEEP, name="another")
        refusals = ((SWEEP, "fingerprint of digits = others"), (other, "holds sweep 'demo', not 'another'"))
        for sweep, said in refusals:
            assert said in line(check_run, sweep, store.path, None, Resources())
            status, told = found(sweep, store.path)["results directory"]
            assert (status, said in told) == ("failed", True)
        store.row_path("a").unlink()
        status, told = found(SWEEP, store.path)["results directory"]
        assert (status, "is held by" in told) == ("warning", True)
        store.commit(bare_row("a"))
    assert found(replace(SWEEP, cost="latency"), store.path)["results directory"][0] == "ok", (
        "it is measured first"
    )
    store.row_path("a").unlink()
    assert found(SWEEP, store.path)["results directory"][0] == "ok"


@pytest.mark.usefixtures("no_gpu")
def test_every_failure_is_told_and_the_first_ends_a_run(here):
    (here / "file").touch()
    sweep = with_settings(SWEEP, {"keep": "3", "datasets": "cifar10"})
    checks = found(sweep, here / "file" / "below", gpus=1.0)
    failed = {name for name, (status, _) in checks.items() if status == "failed"}
    assert failed == {"devices", "data", "budget", "results directory"}
    assert "cifar10 needs its files" in line(check_run, sweep, here, None, Resources())


@pytest.mark.parametrize(
    ("images", "holdout", "left"),
    [(400, 0, None), (401, 0, 201), (403, 0, 201), (404, 0, None), (416, 0.1, None), (390, 0.1, 351)],
)
def test_a_last_batch_of_one_image_is_refused_where_it_cannot_be_trained_on(here, images, holdout, left):
    wanted = {"backbones": "resnet18", "train_subset": str(images), "batch": "50", "holdout": str(holdout)}
    status, told = found(with_settings(SWEEP, wanted), here)["data"]
    assert status == ("failed" if left else "ok")
    if left:
        assert told.startswith(
            f"{left} images in batches of 50 leave one over, which resnet18 cannot normalise on"
        )
    assert found(with_settings(SWEEP, wanted | {"backbones": "tiny"}), here)["data"][0] == "ok"


def test_a_latency_is_not_known_before_the_run(here):
    status, told = found(with_settings(SWEEP, {"cost": "latency"}), here)["budget"]
    assert (status, "measures layers first" in told) == ("warning", True)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("torch>=99", "torch is "),
        ("ray[tune]<2", "ray is "),
        ("no-such-package>=1", "no-such-package is not installed; pip install 'no-such-package>=1'"),
    ],
)
def test_packages_out_of_range(wanted, said):
    message = line(preflight._check_version, Requirement(wanted))
    assert said in message
    assert "pip install" in message


def test_versions_out_of_range(monkeypatch):
    monkeypatch.setattr(preflight, "requires", lambda _: ["torch>=2.11", "ray<2", "nothing; extra == 'dev'"])
    assert "tas_bench needs <2" in line(preflight.check_versions)
    monkeypatch.setattr(preflight, "PACKAGE", "no-such-package")
    with pytest.raises(preflight.DoubtError, match="is not installed"):
        preflight.check_versions()


def test_a_python_that_is_not_supported(monkeypatch):
    monkeypatch.setattr(preflight.platform, "python_version", lambda: "3.99.0")
    assert "Python is 3.99.0; tas_bench needs" in line(preflight.check_versions)


def doctor_with(folder, *argv):
    """The command where `folder` comes before the installed packages."""
    command = [sys.executable, "-m", "tas_bench", "doctor", "--json", *argv]
    path = os.pathsep.join([str(folder), os.getcwd()])
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.stderr == ""
    return done.returncode, by_name(done.stdout)


def by_name(out):
    """The checks that `doctor --json` printed."""
    return {check["name"]: check for check in map(json.loads, out.splitlines())}


def test_a_torchvision_of_another_build(tmp_path):
    """Its import fails for want of an operator, as torchvision's does where torch is of another build."""
    fake = tmp_path / "torchvision"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code, checks = doctor_with(tmp_path)
    assert (code, checks["torchvision"]["status"]) == (BAD_INPUT, "failed")
    assert "torchvision::nms" in checks["torchvision"]["told"]
    assert "install the one that matches torch" in checks["torchvision"]["told"]
    assert checks["versions"]["status"] == "ok"


@pytest.mark.parametrize(("told", "needs"), [("0.28.0+cu130", "numpy"), ("0.28.0", "torch==1.0")])
def test_a_torchvision_that_imports_but_does_not_match(tmp_path, monkeypatch, capsys, told, needs):
    """The real one, under metadata that tells another build."""
    info = tmp_path / "torchvision-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: torchvision\nVersion: {told}\nRequires-Dist: {needs}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["doctor", "--json"]) == OK
    checks = by_name(capsys.readouterr().out)
    assert checks["torchvision"]["status"] == "warning"
    assert "install the one that matches" in checks["torchvision"]["told"]


# ---------------------------------------------------------------- the results directory


def test_a_directory_that_can_be_written_is_left_alone(here):
    (here / "there").mkdir()
    before = tree(here)
    for path in ("there", "new", "new/below/it", "there/below"):
        assert "can be written" in check_writable(here / path)
    assert tree(here) == before


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "y" * 300 + "/below", "/proc/nowhere"])
def test_a_directory_with_something_in_the_way(here, name):
    (here / "file").touch()
    with pytest.raises(InputError, match="is not writable: "):
        check_writable(here / name)


def test_a_file_system_that_takes_no_files():
    with pytest.raises(StoreIOError, match="is not writable"):
        check_writable(preflight.Path("/sys/kernel/nowhere"))


def test_what_is_not_installed_is_not_compared_and_runs(here, monkeypatch):
    monkeypatch.setattr(preflight, "PACKAGE", "no-such-package")
    check_run(SWEEP, here / "out", None, Resources())
    assert found(None, here)["versions"][0] == "warning"


def test_too_little_room(here):
    assert "MB free" in check_room(here / "new", 1)
    with pytest.raises(StoreIOError, match="MB are needed: make room"):
        check_room(here / "new", 10**18)


def test_a_run_without_room_is_refused_and_a_finished_one_is_not(here, monkeypatch):
    monkeypatch.setattr(preflight, "RAY_BYTES", 10**18)
    with pytest.raises(StoreIOError, match="make room"):
        check_run(SWEEP, here / "out", None, Resources())
    store = Store(here / "out")
    with store.lock():
        store.claim(SWEEP.manifest())
        for i in range(SWEEP.jobs):
            store.commit(bare_row(f"other{i}"))
    with pytest.raises(StoreIOError, match="make room"):
        check_run(SWEEP, here / "out", None, Resources())  # rows of another sweep
    plan = SWEEP.plans()[0].name
    use = dict.fromkeys(USES.names, "x") | {"plan": plan, "seed": 0, "kind": "candidate"}
    use |= {"dataset": "digits", "backbone": "tiny"}
    write_uses(
        store.path, plan, [use | {"job_id": f"other{i}", "backbone": "resnet20"} for i in range(SWEEP.jobs)], ()
    )
    with pytest.raises(StoreIOError, match="make room"):
        check_run(SWEEP, here / "out", None, Resources())  # of another backbone
    write_uses(store.path, plan, [use | {"job_id": f"own{i}"} for i in range(SWEEP.jobs)], ())
    for i in range(SWEEP.jobs):
        store.commit(bare_row(f"own{i}", status="failed" if i == 0 else "ok"))
    with pytest.raises(StoreIOError, match="make room"):
        check_run(SWEEP, here / "out", None, Resources())
    store.commit(bare_row("own0"))
    check_run(SWEEP, here / "out", None, Resources())


def test_on_a_cluster_of_unknown_size_checkpoints_are_left_out(here, monkeypatch):
    asked = []
    monkeypatch.setattr(preflight, "check_room", lambda folder, needed: asked.append(needed) or "")
    preflight.check_rooms(SWEEP, here / "out", Resources(address="auto"))
    preflight.check_rooms(SWEEP, here / "out", Resources(total_cpus=1))
    _, cluster, _, local = asked
    assert cluster == disk_of(SWEEP, SWEEP.jobs, 0)
    assert local == disk_of(SWEEP, SWEEP.jobs, 1) > cluster


# ---------------------------------------------------------------- the command


def test_doctor_prints_a_line_per_check(here, capsys):
    assert main(["doctor"]) == OK
    out, err = capsys.readouterr()
    assert [text.split()[0] for text in out.splitlines()] == ["ok"] * 3
    assert err == ""
    assert main(["doctor", "demo", "--smoke", "--set", "keep=3", "--results", "x"]) == BAD_INPUT
    lines = capsys.readouterr().out.splitlines()
    assert [text for text in lines if "failed" in text] == [text for text in lines if "change keep" in text]
    assert len(lines) == 7
    assert tree(here) == {}


def test_doctor_refuses_what_is_no_sweep(refused):
    assert "did you mean 'demo'" in refused("doctor", "deom")
    assert "unknown setting" in refused("doctor", "demo", "--set", "lamda=1")
    assert "cpus per job is -1.0" in refused("doctor", "--cpus-per-job", "-1")
