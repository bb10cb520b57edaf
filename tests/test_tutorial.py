"""`docs/tutorial.md`: every command and snippet of it runs, in order, in a copy of the project."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tas_bench.cli import _parser
from tas_bench.reading import load

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)(?: file=(\S+))?\n(.*?)^```$", TEXT, re.S | re.M)
COMMANDS = [line for kind, _, text in BLOCKS if kind == "sh" for line in text.splitlines()]


def test_there_are_blocks_of_every_kind():
    assert len(BLOCKS) > 10
    assert len(re.findall(r"^```\w", TEXT, re.M)) == len(BLOCKS)
    for program in ("tas-bench run", "tas-bench report", "tas-bench tune", "ray start"):
        assert any(command.startswith(program) for command in COMMANDS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("tas-bench")])
def test_the_parser_knows_every_command(command):
    assert _parser().parse_args(shlex.split(command)[1:]).command


@pytest.mark.parametrize("number", [i for i, (kind, _, _) in enumerate(BLOCKS) if kind == "python"])
def test_every_snippet_compiles(number):
    compile(BLOCKS[number][2], f"block {number}", "exec")


@pytest.fixture
def own():
    """A folder for Ray, near the root as its sockets want it."""
    found = tempfile.mkdtemp(prefix="t", dir="/tmp")
    yield found
    stop_ray(found)
    shutil.rmtree(found, ignore_errors=True)


def stop_ray(folder):
    """In place of `ray stop`, which ends every Ray of this machine's user, other tests' too."""
    for how, seconds in (("-TERM", 5), ("-KILL", 1)):  # its control store does not hear the first
        if subprocess.run(["pkill", how, "-f", f"{folder}/ray"], check=False).returncode == 0:
            time.sleep(seconds)


@pytest.mark.slow
def test_all_of_it_runs(tmp_path, own):
    """In a copy, since it adds a method and a backbone."""
    for folder in ("tas_bench", "baselines", "sweeps"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shim = tmp_path / "bin" / "tas-bench"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m tas_bench "$@"\n')
    shim.chmod(0o755)
    path = os.pathsep.join([str(shim.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(tmp_path), "RAY_TMPDIR": own}
    before = ""
    for kind, file, text in BLOCKS:
        if file:
            (tmp_path / file).write_text(text)
        elif kind == "python":
            before += text
            done = subprocess.run(
                [sys.executable, "-c", before], env=environment, cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{text}\n{done.stderr}"
        else:
            for command in text.splitlines():
                if command == "ray stop":
                    stop_ray(own)
                    continue
                done = subprocess.run(
                    shlex.split(command), env=environment, cwd=tmp_path, capture_output=True, text=True
                )
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "out" / "demo" / "_report" / "report.html").is_file()
    kinds = [set(load(tmp_path / "out" / name)["kind"]) for name in ("two_step", "narrow")]
    assert kinds == [{"supernet", "score", "search", "final"}, {"candidate", "final"}]
    assert set(load(tmp_path / "out" / "demo")["seed"]) == {0, 1}, "of this machine alone, and of the cluster"
