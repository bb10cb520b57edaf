"""Exported networks compute what the network computes, alone, whatever the size."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from helpers import full_disk
from torch import nn

from tas_bench import export as exporting
from tas_bench import files
from tas_bench.backbones import find_backbone
from tas_bench.backbones.backbone import ImageShape
from tas_bench.backbones.tiny import TINY
from tas_bench.cli import main
from tas_bench.errors import INTERNAL, IO_FAULT, OK, MismatchError
from tas_bench.export import ABOUT, TOLERANCE, difference, export
from tas_bench.network import ConvNorm, Network, Shortcut
from tas_bench.saved import MARK, write_network
from tas_bench.space import Size

ABOUT_IT = {"backbone": "as it is", "mean": "[0.5]"}
ODD = {
    "tiny": Size((8, 7, 5, 6, 5, 12, 11, 13, 10), (2, 1)),
    "resnet20": Size((5, *(3, 9, 16, 7, 11, 5), *(13, 31, 1, 17, 32, 8), *(63, 7, 21, 5, 2, 1)), (1, 1, 1)),
}
CASES = [
    ("resnet20", ImageShape(3, 32)),
    pytest.param("resnet20 unpruned", ImageShape(1, 8), marks=pytest.mark.slow),
    pytest.param("resnet164", ImageShape(3, 32), marks=pytest.mark.slow),
    ("resnet18", ImageShape(3, 33)),
    ("mobilenet_v1", ImageShape(3, 64)),
    pytest.param("mobilenet_v2", ImageShape(3, 64), marks=pytest.mark.slow),
]


def odd_network(name, image, classes=10):
    """A network of unequal widths and few blocks, as if it were trained: no batch norm is neutral."""
    backbone = find_backbone(name.split()[0])
    rng = np.random.default_rng(0)
    drawn = Size(
        tuple(int(rng.integers(5, max(6, min(40, c.width)) + 1)) for c in backbone.convs),
        tuple(min(2, stage.blocks) for stage in backbone.stages),
    )
    size = backbone.full if name.endswith("unpruned") else ODD.get(name, drawn)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(backbone, size, classes, image)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.momentum = 1.0
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(0, 1, generator=generator)
    with torch.no_grad():
        network(torch.randn(16, image.channels, image.side, image.side, generator=generator))
    return network


def images(batch, image):
    """Noise; always the same, so that it is known to tell logits apart."""
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, image.channels, image.side, image.side, generator=generator)


@pytest.mark.parametrize(("name", "image"), CASES, ids=lambda value: str(value).split("(")[0])
def test_a_program_computes_what_the_network_does(tmp_path, name, image):
    network = odd_network(name, image)
    shortcuts = [m for m in network.modules() if isinstance(m, Shortcut)]
    assert shortcuts or name == "mobilenet_v1", "widths differ, so 1 x 1 convolutions join them"
    assert network.training
    worst = export(network, image, ABOUT_IT, "torch", tmp_path / "net.pt2")
    assert worst <= TOLERANCE
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]

    kept = {ABOUT: ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=kept).module()
    assert json.loads(kept[ABOUT]) == ABOUT_IT
    network.eval().requires_grad_(False)
    for batch in (1, 2, 3, 16):
        x = images(batch, image)
        logits = network(x)
        greatest = float(logits.abs().max())
        assert greatest > 0
        assert batch == 1 or logits.std(dim=0).max() > 0.01 * greatest, "what comes out depends on what goes in"
        torch.testing.assert_close(program(x), logits, rtol=0, atol=1e-4 * greatest)


@pytest.mark.parametrize(("name", "image"), [CASES[0], CASES[2]], ids=lambda v: str(v).split("(")[0])
def test_onnx_computes_what_the_network_does(tmp_path, name, image):
    for package in exporting.ONNX_PACKAGES:
        pytest.importorskip(package)
    import onnx
    import onnxruntime

    network = odd_network(name, image)
    assert export(network, image, ABOUT_IT, "onnx", tmp_path / "net.onnx") <= TOLERANCE
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"], "weights are inside"
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model)
    assert ABOUT_IT.items() <= {prop.key: prop.value for prop in model.metadata_props}.items()
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        x = images(batch, image)
        [logits] = session.run(None, {"images": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), network.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "image"), CASES, ids=lambda value: str(value).split("(")[0])
def test_the_network_is_plain_modules(name, image):
    """No mask, no candidate, no supernet code: torch's modules and the three containers of `network`."""
    network = odd_network(name, image)
    for module in network.modules():
        assert type(module).__module__.split(".")[:2] in (["torch", "nn"], ["tas_bench", "network"])
    weights = [n for n in network.state_dict() if n.rsplit(".", 1)[1] == "weight"]
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    assert len(weights) == len(layers), "no tensor but those of convolutions, norms and the classifier"
    if name in ODD:
        kept = [conv[0].out_channels for conv in network.modules() if isinstance(conv, ConvNorm)]
        assert kept[0] == ODD[name].widths[0]


# ---------------------------------------------------------------- the command


@pytest.fixture
def saved(here):
    """A working directory with a network's file in it."""
    network = odd_network("tiny", ImageShape(1, 8))
    about = {
        MARK: "1", "backbone": "tiny", "classes": "10", "channels": "1", "side": "8", "mean": "[0.3]",
        "std": "[0.4]", "widths": json.dumps(ODD["tiny"].widths), "depths": json.dumps(ODD["tiny"].depths),
    }  # fmt: skip
    write_network(here / "net.safetensors", network.state_dict(), about)
    return network.eval()


@pytest.fixture
def at_once(saved, monkeypatch):
    """Nothing is exported: whether a file is written is all that counts."""
    monkeypatch.setattr(exporting, "_make_torch", lambda *_: bytes(5000))
    monkeypatch.setattr(exporting, "_load_torch", lambda _data: saved)


@pytest.mark.usefixtures("here")
def test_an_export_runs_without_tas_bench(saved, capfd):
    """And tells where it lies, how far it is off and what it takes, and nothing else, whatever else would talk."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert main(["export", "net.safetensors"]) == OK
    out, err = capfd.readouterr()
    assert (err, told) == ("", [])
    first, second = out.splitlines()
    assert first.startswith("net.pt2 written; its logits differ from the network's by at most ")
    assert first.endswith(" of the greatest")
    assert second == "input: float32 (batch, 1, 8, 8), pixels in [0, 1] less [0.3], divided by [0.4]"

    x = images(4, ImageShape(1, 8))
    torch.save(x, "x.pt")
    code = """
import sys, torch
logits = torch.export.load('net.pt2').module()(torch.load('x.pt'))
assert not [name for name in sys.modules if name.split('.')[0] == 'tas_bench']
torch.save(logits.detach(), 'logits.pt')
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={})
    torch.testing.assert_close(torch.load("logits.pt"), saved(x), rtol=1e-4, atol=1e-4)


def test_onnx_without_its_packages_says_how_to_get_them(saved, refused, monkeypatch):
    real = exporting.importlib.util.find_spec
    monkeypatch.setattr(
        exporting.importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else real(name)
    )
    said = refused("export", "net.safetensors", "--to", "onnx")
    assert said.endswith("missing: python -m pip install onnx onnxruntime onnxscript")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "arguments are required: FILE"),
        (["missing.safetensors"], "no file 'missing.safetensors'; `tas-bench train` writes one"),
        (["net.safetensors", "--to", "xml"], "--to: invalid choice: 'xml'"),
        (["net.safetensors", "--out", "net.onnx"], "--to torch writes a file that ends in .pt2"),
        (["net.safetensors", "--out", "net.safetensors"], "--to torch writes a file that ends in .pt2"),
        (["net.safetensors", "--out", "no/net.pt2"], "no folder 'no' to write 'net.pt2' into"),
        (["net.safetensors", "--out", "folder.pt2"], "'folder.pt2' is a folder"),
        (["net.safetensors", "--to", "onnx"], "'net.onnx' is there already; give --out"),
        (["."], ". is no network's file"),
        (["/"], "/ is no network's file; results take --to csv"),
    ],
)
def test_bad_arguments(saved, refused, here, argv, said):
    (here / "folder.pt2").mkdir()
    (here / "net.onnx").write_text("the one before")
    assert said in refused("export", *argv)


@pytest.mark.parametrize("wrong", [0.0, torch.nan])
def test_an_export_that_differs_is_refused(saved, refused, here, monkeypatch, wrong):
    (here / "net.pt2").write_text("the one before")
    monkeypatch.setattr(exporting, "_make_torch", lambda *_: b"")
    monkeypatch.setattr(exporting, "_load_torch", lambda data: lambda x: torch.full((len(x), 10), wrong))
    said = refused("export", "net.safetensors", "--out", "net.pt2", code=INTERNAL)
    assert said.startswith("the torch export of this network computes something else: logits differ by ")
    assert "'net.pt2' is not written" in said


@pytest.mark.parametrize("kind", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_full_disk_leaves_the_file_as_it_was(saved, refused, here, kind):
    if kind == "onnx":
        for package in exporting.ONNX_PACKAGES:
            pytest.importorskip(package)
    out = f"net{exporting.SUFFIXES[kind]}"
    (here / out).write_text("the one before")
    with full_disk():
        said = refused("export", "net.safetensors", "--to", kind, "--out", out, code=IO_FAULT)
    assert said == f"cannot write {out}: File too large"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_behind(refused, monkeypatch, signum, code):
    def stop(*_):
        os.kill(os.getpid(), signum)
        raise AssertionError("went on")

    monkeypatch.setattr(files.os, "replace", stop)
    assert refused("export", "net.safetensors", code=code) == "interrupted"


def test_differences_are_seen():
    image = ImageShape(1, 8)
    network = Network(TINY, TINY.full, 10, image).eval()
    assert difference(network, network, image) == 0
    for batch in exporting.BATCHES:
        off = difference(network, lambda x, batch=batch: network(x) * (1 + 1e-3 * (len(x) == batch)), image)
        assert 2e-4 < off <= 1.01e-3, "logits of the other batch may be greater"
        lost = difference(network, lambda x, batch=batch: network(x) + (math.nan if len(x) == batch else 0), image)
        assert math.isnan(lost), "whichever batch has it"
    with torch.no_grad():
        network.classifier.weight.zero_()
    assert difference(network, network, image) == 0
    assert difference(network, lambda x: network(x) + 1e-6, image) > 1
    with pytest.raises(MismatchError, match="gives"):
        difference(network, lambda x: network(x)[:1], image)


def test_loggers_and_warnings_are_as_they_were(saved):
    logging.getLogger("torch.onnx").setLevel(logging.INFO)
    before = warnings.filters[:]
    assert main(["export", "net.safetensors"]) == OK
    assert warnings.filters == before
    assert logging.getLogger("torch.onnx").level == logging.INFO
    logging.getLogger("torch.onnx").setLevel(logging.NOTSET)
