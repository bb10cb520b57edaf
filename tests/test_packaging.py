"""The wheel: three packages and the quoted figures, usable from any directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_works_from_any_directory(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
        assert {name for name in top if not name.endswith(".dist-info")} == {"tas_bench", "baselines", "sweeps"}
        for data in (
            "published/table1.csv",
            "published/table4.csv",
            "page/page.html",
            "page/page.js",
            "page/page.css",
        ):
            assert f"tas_bench/report/{data}" in archive.namelist()
        archive.extractall(tmp_path / "site")
    code = "import tas_bench; print(tas_bench.__file__); from tas_bench.cli import main; main(['list'])"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert "table1" in done.stdout
    assert "random_search" in done.stdout
