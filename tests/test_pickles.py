"""CIFAR in torchvision's layout: sums before anything is opened, and the download."""

import hashlib
import pickle
import sys
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from helpers import line
from small_cifar import CIFAR10, SPEC, write_pickles

from tas_bench.data import (
    check_data,
    download,
    load_test,
    pickles,
)


@pytest.fixture
def server(tmp_path):
    """A web server of the files in `tmp_path`."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as httpd:
        thread = Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


class Bomb:
    """A pickle that leaves a trace when it is opened."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_pickle_with_a_wrong_sum_is_not_opened(pickled, tmp_path, name):
    (pickled / name).write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    message = line(check_data, SPEC, pickled)
    assert f"{name}' is damaged (wrong MD5); fetch https://" in message
    assert message == line(load_test, SPEC, pickled)
    assert not (tmp_path / "trace").exists()


def test_pickle_missing(pickled):
    (pickled / "data_batch_1").unlink()
    assert "lacks the file data_batch_1; fetch https://" in line(check_data, SPEC, pickled.parent)


def test_without_torchvision(pickled, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    message = line(check_data, SPEC, pickled)
    assert message.startswith("torchvision cannot be imported (")
    assert message.endswith("or use the parquet files")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchvision's tarfile.extractall, from Python 3.12
def test_download_fetches_once(tmp_path, monkeypatch, server):
    source = write_pickles(tmp_path / "source", monkeypatch)
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, source.name)
    loader = pickles._loader(CIFAR10)
    monkeypatch.setattr(loader, "url", f"{server}/{archive.name}")
    monkeypatch.setattr(loader, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    root = tmp_path / "new" / "data"
    download("cifar10", root)
    check_data(SPEC, root)
    monkeypatch.setattr(loader, "url", "http://127.0.0.1:9/gone")
    download("cifar10", root)  # all there
    (root / source.name / "test_batch").write_bytes(b"")
    (root / "cifar-10-python.tar.gz").unlink()
    message = line(download, "cifar10", root)
    assert message.startswith(
        "cannot download cifar10 (<urlopen error [Errno 111] Connection refused>); fetch http"
    )


def test_download_leaves_what_is_there(parquet, tmp_path, monkeypatch):
    monkeypatch.setattr(pickles._loader(CIFAR10), "url", "http://127.0.0.1:9/gone")
    download("digits", tmp_path)
    download("cifar10", parquet)
    download("cifar10", parquet.parent)
    assert "unknown dataset" in line(download, "mnist", tmp_path)
    (tmp_path / "file").touch()
    assert "cannot download cifar10 (" in line(download, "cifar10", tmp_path / "file")
