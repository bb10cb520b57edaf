"""One thread, since small tensors gain nothing from more; few examples of Hypothesis; fixtures that are shared."""

import gc
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from helpers import one_by_one, sets, write_folder
from hypothesis import settings
from small_cifar import write_parquet, write_pickles
from xdist.scheduler import LoadFileScheduling

from tas_bench.cli import main
from tas_bench.errors import BAD_INPUT, OK
from tas_bench.layers import interpolation_matrix
from tas_bench.runner import supervisor
from tas_bench.store import Store

settings.register_profile("shared-machine", deadline=None, max_examples=40)
settings.load_profile("shared-machine")

STARTS_RAY = tuple(f"tests/test_{name}.py" for name in ("chaos", "real_runs", "runner", "supervisor"))
"""A Ray wants a core for itself: `make test` never runs two of these files at once."""


class FileByFile(LoadFileScheduling):
    """A file's tests stay in one process, as do those of all files in `STARTS_RAY`."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return "ray" if file in STARTS_RAY else file


def pytest_xdist_make_scheduler(config, log):
    return FileByFile(config, log)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def frozen():
    """What is there stays, as in a worker: a job that looks for garbage finds its own alone."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    """Else libraries take what is frozen for leaks when the process ends."""
    gc.unfreeze()


@pytest.fixture
def no_gpu(monkeypatch):
    """As on a machine without one."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def parquet(tmp_path):
    """A small CIFAR-10 as parquet."""
    return write_parquet(tmp_path)


@pytest.fixture
def pickled(tmp_path, monkeypatch):
    """The same as torchvision's pickles."""
    return write_pickles(tmp_path / "torch", monkeypatch)


@pytest.fixture
def float64():
    """Matrices are cached in the default type: forget those of the other one, before and after."""
    interpolation_matrix.cache_clear()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    interpolation_matrix.cache_clear()


@pytest.fixture(scope="session")
def image_folders(tmp_path_factory):
    """The data folder of a small imagenette; not to be written to."""
    root = tmp_path_factory.mktemp("data")
    write_folder(root / "imagenette")
    return root


@pytest.fixture
def own_folders(image_folders, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(image_folders, tmp_path / "data")
    return tmp_path / "data"


def tree(folder):
    """Every file below, with what is in it."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(Path(folder).rglob("*"))}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_ray(here, monkeypatch):
    """An empty working directory, where a run's jobs go one after another in this process, without Ray."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(supervisor, "run_jobs", one_by_one)
    yield here
    torch.set_num_threads(threads)


@pytest.fixture
def refused(here, capsys):
    """Runs a command that must be refused: code 2, one line, nothing written. Returns the line."""

    def check(*argv, code=BAD_INPUT):
        before = tree(here)
        assert main(argv) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("tas-bench: error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert tree(here) == before
        return err.removeprefix("tas-bench: error: ").rstrip("\n")

    return check


@pytest.fixture
def own():
    """A folder for temporary files, near the root as Ray's sockets want it."""
    found = tempfile.mkdtemp(prefix="t", dir="/tmp")
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def scripts(monkeypatch):
    """The scripts in `results/` can be imported."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "results"))


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The three replications on digits, packed, and their RESULTS.md."""
    from results_page import ROOT, SHORT, Page

    root = tmp_path_factory.mktemp("results")
    for name in ("RESULTS.md.jinja", "pilots"):
        (root / name).symlink_to(ROOT / "results" / name)
    common = ["datasets=digits", "backbones=tiny", "train_subset=300", "epochs=2", "batch=64"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "run_jobs", one_by_one)
        patch.syspath_prepend(str(ROOT / "results"))
        import page

        for name, own in SHORT.items():
            run = ["run", name, "--smoke", "--quiet", "--results", str(root / "runs" / name)]
            assert main([*run, *sets(*common, *own)]) == OK
            assert main(["pack", str(root / "runs" / name), str(root / name)]) == OK
        return Page(root, page.results_page(root))


@pytest.fixture(params=["committed", pytest.param("small", marks=pytest.mark.slow)])
def page(request):
    """RESULTS.md with its rows, as committed and of short runs."""
    from results_page import ROOT, Page

    if request.param == "small":
        return request.getfixturevalue("small")
    return Page(ROOT / "results", (ROOT / "RESULTS.md").read_text(encoding="utf-8"))


@pytest.fixture
def store(tmp_path):
    """A results directory with nothing in it."""
    found = Store(tmp_path / "results")
    with found.lock():
        pass
    return found


@pytest.fixture
def own_store(tmp_path):
    """A copy of a small sweep's results that a test may damage."""
    return Path(shutil.copytree(Path(__file__).parent / "golden" / "store_v3", tmp_path / "golden"))


def pytest_terminal_summary(terminalreporter):
    """What `make chaos` counted."""
    for report in terminalreporter.getreports("passed"):
        for name, told in report.user_properties:
            if name == "chaos" and report.when == "call":
                terminalreporter.write_line(told)
