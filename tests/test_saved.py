"""Networks' files: what they say, what is refused, and a full disk."""

import json
import re

import pytest
import torch
from helpers import full_disk
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tas_bench.backbones.backbone import ImageShape
from tas_bench.backbones.tiny import TINY
from tas_bench.errors import InputError, StoreIOError
from tas_bench.network import Network
from tas_bench.saved import MARK, TOLD, check_out, metadata_of, read_network, write_network


@pytest.fixture(scope="module")
def network_file(tmp_path_factory):
    """A network's file, written without any training."""
    folder = tmp_path_factory.mktemp("file")
    network = Network(TINY, TINY.full, 10, ImageShape(1, 8))
    about = {
        MARK: "1", "backbone": "tiny", "classes": "10", "channels": "1", "side": "8",
        "widths": json.dumps(TINY.full.widths), "depths": "[2, 2]",
    }  # fmt: skip
    write_network(folder / "tiny.safetensors", network.state_dict(), about)
    assert list(folder.iterdir()) == [folder / "tiny.safetensors"]
    read, found = read_network(folder / "tiny.safetensors")
    assert found == about
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(read(x), network.eval()(x), rtol=0, atol=0)
    return folder / "tiny.safetensors"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({MARK: None}, f"is no network of tas_bench: its metadata has no {MARK}"),
        ({MARK: "2"}, "has format 2, not 1; upgrade tas_bench"),
        ({"backbone": "tinny"}, "unknown backbone 'tinny'; did you mean 'tiny'?"),
        ({"backbone": None}, "(no 'backbone')"),
        ({"classes": "0"}, "classes is 0"),
        ({"classes": "ten"}, "invalid literal"),
        ({"classes": "9" * 5000}, "no network can be built from"),
        ({"side": "1000000"}, "side is 1000000"),
        ({"widths": "[1, 2"}, "no network can be built from"),
        ({"widths": "[" * 100_000}, "no network can be built from"),
        ({"widths": "[1, 2]"}, "tiny has 9 widths, the size has 2"),
        ({"widths": '"wide"'}, "its size: 'widths' must be a list"),
        ({"depths": "[2, 3]"}, "tiny keeps 1 to 2 blocks there"),
        ({"depths": "[2, 1]"}, "stages.1.1.convs.0.0.weight is [16, 16, 3, 3] float32, not to be there"),
        ({"classes": "11"}, "classifier.bias is [10] float32, not [11] float32"),
    ],
)
def test_metadata_that_no_network_fits(network_file, tmp_path, changed, said):
    with safe_open(network_file, framework="pt") as file:
        about = file.metadata() | changed
    path = tmp_path / "net.safetensors"
    save_file(load_file(network_file), path, metadata={k: v for k, v in about.items() if v is not None})
    with pytest.raises(InputError) as refused:
        read_network(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 500 + len(str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("stem.0.weight"), "stem.0.weight is missing, not [8, 1, 3, 3] float32"),
        (lambda state: state.update(more=torch.zeros(2)), "more is [2] float32, not to be there"),
        (
            lambda state: state.update({"classifier.bias": torch.zeros(10).half()}),
            "classifier.bias is [10] float16",
        ),
    ],
)
def test_tensors_that_do_not_fit(network_file, tmp_path, change, said):
    with safe_open(network_file, framework="pt") as file:
        about = file.metadata()
    state = load_file(network_file)
    change(state)
    save_file(state, tmp_path / "net.safetensors", metadata=about)
    with pytest.raises(InputError, match=re.escape(said)):
        read_network(tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", ["missing", "folder", "text", "empty", "cut"])
def test_files_that_are_no_networks(network_file, refused, here, name):
    (here / "folder").mkdir()
    (here / "text").write_text("x" * 100)
    (here / "empty").touch()
    (here / "cut").write_bytes(network_file.read_bytes()[:-100])
    said = {"missing": "no file 'missing'; `tas-bench train` writes one", "folder": "folder is no network's file"}
    assert said.get(name, f"'{name}' is no whole safetensors file (") in refused("export", name)


def test_metadata_tells_of_the_training_what_a_reader_should_know():
    row = dict.fromkeys(TOLD) | {"dataset": "digits", "micro_batch": 64, "warning": "out of memory", "seed": 0}
    about = metadata_of(row, "abc")
    assert (about["micro_batch"], about["warning"], about["data_fingerprint"]) == ("64", "out of memory", "abc")
    assert "test_accuracy" not in about, "what was not measured is not told"


def test_a_file_of_another_job_is_refused_where_it_is_asked_for(network_file, tmp_path):
    with safe_open(network_file, framework="pt") as file:
        about = file.metadata() | {"job_id": "mine"}
    path = tmp_path / "net.safetensors"
    write_network(path, load_file(network_file), about)
    check_out(path)
    check_out(path, "mine")
    with pytest.raises(InputError, match="holds the network of another training; give --out"):
        check_out(path, "other")


def test_a_full_disk_leaves_the_file_as_it_was(network_file):
    network, about = read_network(network_file)
    before = network_file.read_bytes()
    with full_disk(), pytest.raises(StoreIOError, match=r"cannot write .*tiny\.safetensors: File too large$"):
        write_network(network_file, network.state_dict(), about)
    assert network_file.read_bytes() == before
    assert list(network_file.parent.iterdir()) == [network_file]
