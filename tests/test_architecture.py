"""Imports point one way, heavy packages stay where they belong, and no file grows long."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ORDER = [
    "tas_bench.errors",
    "tas_bench.text",
    "tas_bench.remote",
    "tas_bench.files",
    "tas_bench.lock",
    "tas_bench.discover",
    "tas_bench.space",
    "tas_bench.costs",
    "tas_bench.backbones",
    "tas_bench.jobs",
    "tas_bench.counting",
    "tas_bench.neighbours",
    "tas_bench.budget",
    "tas_bench.bound",
    "tas_bench.expected",
    "tas_bench.fused",
    "tas_bench.layers",
    "tas_bench.network",
    "tas_bench.supernet",
    "tas_bench.data",
    "tas_bench.measure",
    "tas_bench.transfer",
    "tas_bench.schema",
    "tas_bench.digest",
    "tas_bench.tables",
    "tas_bench.checkpoint",
    "tas_bench.loop",
    "tas_bench.train",
    "tas_bench.rung",
    "tas_bench.pruned",
    "tas_bench.subnetwork",
    "tas_bench.oneshot",
    "tas_bench.fitness",
    "tas_bench.search",
    "tas_bench.tas",
    "tas_bench.manifest",
    "tas_bench.uses",
    "tas_bench.snapshot",
    "tas_bench.reading",
    "tas_bench.store",
    "tas_bench.checkup",
    "tas_bench.repair",
    "tas_bench.variant",
    "tas_bench.plans",
    "tas_bench.sweep",
    "tas_bench.settings",
    "tas_bench.attempts",
    "tas_bench.usage",
    "tas_bench.worker",
    "tas_bench.progress",
    "tas_bench.by_hand",
    "tas_bench.saved",
    "tas_bench.export",
    "tas_bench.latency",
    "tas_bench.replay",
    "tas_bench.track",
    "tas_bench.signals",
    "tas_bench.resources",
    "tas_bench.dispatch",
    "tas_bench.pace",
    "tas_bench.estimate",
    "tas_bench.preflight",
    "tas_bench.runner",
    "tas_bench.report",
    "tas_bench.exchange",
    "tas_bench.packed",
    "tas_bench.tune",
    "tas_bench.status",
    "tas_bench.stub",
    "tas_bench.testing",
    "tas_bench.commands",
    "tas_bench.cli",
    "baselines",
    "sweeps",
]
"""A module imports from its own entry or an earlier one, and nothing from the root `tas_bench`."""

EXEMPT = {"tas_bench", "tas_bench.__main__"}
RAY_ALLOWED = "tas_bench.runner."
TORCH_FREE = ["errors", "discover", "space", "costs", "backbones"]
LONGEST_FILE = 350

ROOT = Path(__file__).parents[1]


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    module_name(p): p for root in ("tas_bench", "baselines", "sweeps") for p in sorted((ROOT / root).rglob("*.py"))
}


def imports(source):
    """Every module the source imports, wherever it does: at the top, for type checking, inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in FILES else node.module for name in names)


def rank(module):
    """Place of the module's entry in ORDER."""
    found = [i for i, entry in enumerate(ORDER) if module == entry or module.startswith(f"{entry}.")]
    assert len(found) == 1, f"{module} belongs to {len(found)} entries of ORDER"
    return found[0]


def upward(module, source):
    """What the module imports from later entries, or from the root."""
    ours = [name for name in imports(source) if name.split(".")[0] in ("tas_bench", "baselines", "sweeps")]
    return [name for name in ours if name in EXEMPT or rank(name) > rank(module)]


def test_the_page_tells_the_same_order():
    rooms = re.findall(r"^\| (`.*?) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    told = [name.rstrip("/") for cell in rooms for name in re.findall(r"`(.*?)`", cell)]
    assert told == [entry.removeprefix("tas_bench.") for entry in ORDER]


@pytest.mark.parametrize("module", sorted(FILES.keys() - EXEMPT))
def test_imports_point_one_way(module):
    assert upward(module, FILES[module].read_text()) == []


@pytest.mark.parametrize("module", FILES)
def test_ray_is_imported_by_the_runner_only(module):
    found = {name.split(".")[0] for name in imports(FILES[module].read_text())}
    assert "ray" not in found or module.startswith(RAY_ALLOWED)


@pytest.mark.parametrize("module", FILES)
def test_files_are_short(module):
    lines = FILES[module].read_text().count("\n")
    assert lines <= LONGEST_FILE


def test_sizes_and_costs_do_without_torch():
    modules = [name for name in FILES for free in TORCH_FREE if f"{name}.".startswith(f"tas_bench.{free}.")]
    assert len(modules) > len(TORCH_FREE)
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT).returncode == 0


UPWARD = {
    "plain": "import tas_bench.network",
    "from": "from tas_bench.network import Network",
    "module": "from tas_bench import network",
    "root": "from tas_bench import load",
    "package": "import sweeps",
    "inside": "def f():\n    from tas_bench.cli import main",
    "type checking": "if TYPE_CHECKING:\n    from tas_bench.network import Network",
}


@pytest.mark.parametrize("source", UPWARD.values(), ids=UPWARD)
def test_upward_imports_are_seen(source):
    assert len(upward("tas_bench.space", source)) == 1


def test_downward_imports_are_allowed_and_names_match_whole():
    assert upward("tas_bench.network", "import torch\nfrom tas_bench import space\nimport tas_bench.network") == []
    for stranger in ("tas_bench.spaces", "tas_bench.new", "sweeps2"):
        with pytest.raises(AssertionError, match="belongs to 0 entries"):
            rank(stranger)
