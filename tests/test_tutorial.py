"""`docs/tutorial.md`: every command and snippet of it runs, in order, in a copy of the project."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tas_bench.cli import _parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)(?: file=(\S+))?\n(.*?)^```$", TEXT, re.S | re.M)
COMMANDS = [line for kind, _, text in BLOCKS if kind == "sh" for line in text.splitlines()]


def test_there_are_blocks_of_every_kind():
    assert len(BLOCKS) > 10
    assert len(re.findall(r"^```\w", TEXT, re.M)) == len(BLOCKS)
    for program in ("tas-bench run", "tas-bench report", "tas-bench tune", "ray start"):
        assert any(command.startswith(program) for command in COMMANDS)


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.startswith("tas-bench") and "cost narrow14" not in c]
)
def test_the_parser_knows_every_command(command):
    assert _parser().parse_args(shlex.split(command)[1:]).command


@pytest.mark.parametrize("number", [i for i, (kind, _, _) in enumerate(BLOCKS) if kind == "python"])
def test_every_snippet_compiles(number):
    compile(BLOCKS[number][2], f"block {number}", "exec")


@pytest.mark.slow
def test_all_of_it_runs(tmp_path):
    """In a copy, since it adds a method and a backbone. Nothing in it takes longer than it says."""
    for folder in ("tas_bench", "baselines", "sweeps"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shim = tmp_path / "bin" / "tas-bench"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m tas_bench "$@"\n')
    shim.chmod(0o755)
    path = os.pathsep.join([str(shim.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(tmp_path)}
    names: dict[str, object] = {}
    began = time.monotonic()
    try:
        for kind, file, text in BLOCKS:
            if file:
                (tmp_path / file).write_text(text)
            elif kind == "python":
                code = f"import os\nos.chdir({str(tmp_path)!r})\n{names.setdefault('before', '')}{text}"
                names["before"] = f"{names['before']}{text}"
                subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=tmp_path)
            else:
                for command in text.splitlines():
                    done = subprocess.run(
                        shlex.split(command), env=environment, cwd=tmp_path, capture_output=True, text=True
                    )
                    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    finally:
        subprocess.run(["ray", "stop"], env=environment, check=False, capture_output=True)
    print(f"{time.monotonic() - began:.0f} s")
    assert (tmp_path / "out" / "demo" / "_report" / "report.html").is_file()
