"""Latency: the look-up against walked networks; tables kept, reused, lost, damaged; what is measured, and when."""

import errno
import io
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from torch import nn

from baselines.ratio import Ratio, uniform_sizes
from tas_bench import files, latency, progress
from tas_bench.backbones.backbone import Backbone, ImageShape, Stage
from tas_bench.backbones.cifar_resnet import BASIC, RESNET20, RESNET164
from tas_bench.backbones.imagenet_resnet import RESNET18
from tas_bench.backbones.mobilenet import MOBILENET_V2
from tas_bench.backbones.tiny import TINY
from tas_bench.budget import Band
from tas_bench.costs import find_budget, find_cost
from tas_bench.costs.latency import Table, cache_folder, read_table, write_table
from tas_bench.discover import classes
from tas_bench.errors import InputError, StoreDamagedError, StoreIOError
from tas_bench.expected import ExpectedCost
from tas_bench.jobs import Context
from tas_bench.latency import BATCH, Bench, configs_of_sizes, configs_of_space, measured, settle
from tas_bench.network import Block, Network
from tas_bench.space import Size
from tas_bench.store import Store
from tas_bench.sweep import Sweep
from tas_bench.tas import Tas
from tas_bench.testing import check_method, some_sizes
from tas_bench.train import candidate_job
from tas_bench.transfer.scratch import Scratch
from tas_bench.worker import Labels, execute

METHODS = {Tas.name: Tas} | classes("baselines", has="plan")
del METHODS["torch_pruning_l1"]  # it refuses latency: see test_pruned

IMAGE = ImageShape(1, 8)
LAYERS = TINY.layers(10, IMAGE)
SWEEP = Sweep(
    name="mine", title="", datasets=("digits",), backbones=("tiny",), methods=(Ratio(),), transfers=(Scratch(),),
    cost="latency",
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


def words():
    """A console, and where its words go."""
    file = io.StringIO()
    return Console(file=file, width=200), file


def nanoseconds(c):
    """A made-up latency that every part of a layer adds to."""
    ns = 100 + 17 * c.kernel**2 * c.c_in + c.c_out * (7 * c.positions + 11 * c.norm + 29 * c.bias)
    ns += 5 * c.c_out * c.positions * (c.role == "join") + 3 * c.c_in * c.positions_in * (c.role == "classifier")
    ns += 13 * c.c_in * c.positions_in * (c.role == "shortcut" and c.stride > 1)
    return ns + 19 * c.c_out * c.positions * (c.role == "pooled")


@pytest.fixture
def made_up(monkeypatch):
    """No layer is run: its latency is made up. Holds the layers of every chain."""
    chains = []

    def seconds(self, chain):
        chains.append(chain)
        return [nanoseconds(entry) * BATCH[self.device] / 1e9 for entry in chain]

    monkeypatch.setattr(Bench, "seconds", seconds)
    return chains


@pytest.fixture
def calls(monkeypatch):
    """The layers that are run."""
    found = []
    call = Bench.call
    monkeypatch.setattr(Bench, "call", lambda self, entry: found.append(entry) or call(self, entry))
    monkeypatch.setattr(latency, "ROUNDS", 1)
    return found


def line(error, call, *args):
    """The one line of the error that a call raises."""
    with pytest.raises(error) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def measure_tiny(sizes=(TINY.full,)):
    return measured(configs_of_sizes(LAYERS, list(sizes)), Bench(), words()[0])


# ---------------------------------------------------------------- the look-up


def walked(network, image):
    """The sum of `nanoseconds` over a network's modules, from the shapes that pass through them."""
    total = 0

    def add(module, inputs, output):
        nonlocal total, last
        channels, places = output.shape[1], output[0, 0].numel()
        if isinstance(module, nn.Conv2d):
            total += 100 + 17 * module.kernel_size[0] ** 2 * module.in_channels + 7 * channels * places
        elif isinstance(module, nn.BatchNorm2d):
            total += 11 * channels
        elif isinstance(module, nn.AvgPool2d):
            total += 13 * inputs[0][0].numel()
        elif isinstance(module, nn.MaxPool2d):
            total += 19 * inputs[0][0].numel()
        elif isinstance(module, Block):
            total += 5 * channels * places
        elif module is network.classifier:
            total += 100 + (17 + 3 * last) * module.in_features + (7 + 29) * channels
        elif module is network.stages[-1]:
            last = places

    last = 0
    for module in network.modules():
        module.register_forward_hook(add)
    network(torch.empty(1, image.channels, image.side, image.side, device="meta"))
    return total


@pytest.mark.parametrize("backbone", [TINY, RESNET20, RESNET164, RESNET18], ids=lambda b: b.name)
def test_the_sum_is_that_over_the_networks_modules(backbone, made_up):
    image = replace(backbone.image, side=min(backbone.image.side, 64))
    layers, sizes = backbone.layers(10, image), some_sizes(backbone, np.random.default_rng(1))
    cost = measured(configs_of_sizes(layers, sizes), Bench(), words()[0]).cost
    for size in sizes:
        with torch.device("meta"):
            network = Network(backbone, size, 10, image).eval()
        assert cost.of(layers, size) == walked(network, image)


def test_integers_arrays_and_tensors_look_up_alike(made_up):
    cost = measured(configs_of_space(LAYERS, TINY.space()), Bench(), words()[0]).cost
    layer, rng = LAYERS[2], np.random.default_rng(0)
    rows = [TINY.space().widths[tap.convs[0]] for tap in (layer.source, layer.target)]
    c_in, c_out = (rng.choice(row, 20) for row in rows)
    single = [cost.of_layer(layer, int(i), int(o)) for i, o in zip(c_in, c_out, strict=True)]
    assert all(type(value) is int for value in single)
    assert single == [nanoseconds(latency.config(layer, i, o)) for i, o in zip(c_in, c_out, strict=True)]
    assert cost.of_layer(layer, c_in, c_out).tolist() == single
    assert cost.of_layer(layer, torch.tensor(c_in).double(), torch.tensor(c_out).double()).tolist() == single
    assert cost.of_layer(layer, c_in[:, None], c_out).shape == (20, 20)


def test_a_width_that_was_not_measured_is_one_line(made_up):
    table = measured(configs_of_space(LAYERS, TINY.space()), Bench(), words()[0])
    odd = replace(TINY.full, widths=(8, 1, *TINY.full.widths[2:]))
    text = line(InputError, table.cost.of, LAYERS, odd)
    assert f"latency table {table.key} has no entry for a layer of this size (conv, 3 x 3, 8 to 1 channels" in text
    for width in (9, 60_000):
        line(InputError, table.cost.of, LAYERS, replace(odd, widths=(8, width, *TINY.full.widths[2:])))
    line(InputError, table.cost.of, TINY.layers(11, IMAGE), TINY.full)
    line(InputError, table.cost.of, TINY.layers(10), TINY.full)
    dropped = Size((*TINY.full.widths[:3], 1, 1, *TINY.full.widths[5:]), (1, 2))
    assert table.cost.of(LAYERS, dropped) == table.cost.of(LAYERS, TINY.canonical(dropped)), "not looked up"


def test_the_expectation_is_the_sum_over_every_size(tmp_path):
    """At latencies without rhyme or reason."""
    backbone = Backbone("short", 8, BASIC, (Stage(8, 1, (1, 2)), Stage(8, 1, (1,))), True)
    space, layers, rng = backbone.space("WD", (0.3, 0.6, 1.0)), backbone.layers(7, IMAGE), np.random.default_rng(0)
    entries = {entry: int(rng.integers(1, 10**6)) for entry in sorted(configs_of_space(layers, space))}
    cost = Table(tmp_path / "t.parquet", {}, entries).cost
    indices = np.indices(tuple(map(len, space.rows))).reshape(len(space.rows), -1).T
    p = rng.dirichlet(np.ones(3), len(space.rows))
    p[-2:] = (0.3, 0.7, 0), (1, 0, 0)
    chances = np.prod([row[column] for row, column in zip(p, indices.T, strict=True)], axis=0)
    assert chances.sum() == pytest.approx(1)
    expected = ExpectedCost(layers, space, cost)(torch.from_numpy(p)).item()
    assert expected == pytest.approx(chances @ cost.many(layers, *space.values(indices)), rel=1e-9)


# ---------------------------------------------------------------- the table


def test_a_table_is_kept_and_only_what_it_lacks_is_measured(calls):
    first = measure_tiny()
    assert sorted(calls) == sorted(configs_of_sizes(LAYERS, [TINY.full]))
    assert all(value > 0 for value in first.entries.values())
    assert first.setting["threads"] == 1
    assert json.loads(pq.read_schema(first.path).metadata[b"setting"]) == first.setting
    calls.clear()
    assert (measure_tiny().entries, calls) == (first.entries, [])
    sizes = [TINY.full, Size((8, 4, *TINY.full.widths[2:]), (2, 2))]
    grown = measure_tiny(sizes)
    assert sorted(calls) == sorted(configs_of_sizes(LAYERS, sizes) - first.entries.keys())
    assert len(calls) == 2, "the two convolutions beside the changed width"
    assert (grown.key, {entry: grown.entries[entry] for entry in first.entries}) == (first.key, first.entries)
    assert find_cost(grown.cost.name).of(LAYERS, sizes[1]) == grown.cost.of(LAYERS, sizes[1])


def test_every_role_is_run_as_it_is_deployed():
    """Shapes say that each layer gives what the next one takes."""
    found_roles = set()
    for backbone in (TINY, RESNET18, MOBILENET_V2):
        layers = backbone.layers(10, ImageShape(3, 32))
        found_roles |= {layer.role for layer in layers}
        for layer in set(layers):
            entry = latency.config(layer, 6 if layer.depthwise else 4, 6)
            found = Bench().call(entry)()
            side = int(layer.positions**0.5) // (2 if layer.role == "pooled" else 1)
            assert found.shape == (BATCH["cpu"], 6, *([side, side] if layer.role != "classifier" else []))
            assert (found >= 0).all() == (layer.role in ("conv", "join", "pooled")), "ReLU"
    assert found_roles == {"conv", "join", "pooled", "shortcut", "classifier", "linear", "linear join"}


def test_a_lost_table_comes_back_under_another_name(made_up):
    first = measure_tiny()
    first.path.unlink()
    again = measure_tiny()
    assert again.entries == first.entries
    assert again.key != first.key
    assert f"no latency table '{first.key}' in" in line(InputError, find_budget, first.cost.name)


def test_another_setting_has_another_table(made_up):
    one, two = (measured(configs_of_sizes(LAYERS, [TINY.full]), Bench(threads=n), words()[0]) for n in (1, 2))
    assert one.path != two.path


@pytest.mark.parametrize(
    "name", ["latency:", "latency", "latency:no", "latency:../x", "latency:.lock", "latency:a/b"]
)
def test_a_name_without_a_table_is_one_line(name, made_up):
    path = measure_tiny().path
    path.rename(path.parent.parent / "x.parquet")
    line(InputError, find_budget, name)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "zeroes": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("no parquet"),
    "another table": lambda path: pq.write_table(pq.read_table(path).select(["kernel"]), path),
    "no setting": lambda path: pq.write_table(pq.read_table(path).replace_schema_metadata(None), path),
    "twice": lambda path: pq.write_table(pq.read_table(path).take([0, 0]), path),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_table_is_one_line(damage, made_up):
    table = measure_tiny()
    damage(table.path)
    for call in (measure_tiny, lambda: find_cost(table.cost.name)):
        text = line(StoreDamagedError, call)
        assert text.startswith(f"latency table {table.path} is damaged (")
        assert text.endswith("delete it and it is measured anew")


def test_a_table_reads_back_and_is_written_whole(made_up, monkeypatch):
    table = measure_tiny()
    assert read_table(table.path) == table

    def refused(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "replace", refused)
    with pytest.raises(StoreIOError, match="Input/output error"):
        write_table(replace(table, entries={}))
    assert read_table(table.path) == table
    assert sorted(path.name for path in table.path.parent.iterdir()) == [".lock", table.path.name]


# ---------------------------------------------------------------- what is measured, and when


def test_a_sweep_is_settled_to_a_table_of_all_its_methods_ask_for(made_up):
    settled = settle(SWEEP, Bench(), words()[0])
    assert settled.cost.startswith("latency:")
    assert replace(settled, cost="latency") == SWEEP
    problem = settled.problems[0]
    for size in (*uniform_sizes(problem), *Band.of(problem).sample(np.random.default_rng(0), 20)):
        assert problem.cost_of(size) > 0
    assert "40% of latency pruned" in settled.heading
    made_up.clear()
    assert settle(SWEEP, Bench(), words()[0]) == settled
    assert made_up == []
    in_macs = replace(SWEEP, cost="macs")
    assert settle(in_macs, Bench(), words()[0]) is in_macs


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_methods_keep_their_contract_under_a_budget_in_latency(method, made_up):
    check_method(method, settle(replace(SWEEP, methods=(method(),), t=0.1), Bench(), words()[0]).problems[0])


def test_a_worker_without_the_table_says_so(made_up, tmp_path):
    problem = settle(SWEEP, Bench(), words()[0]).problems[0]
    [search] = next(Tas(search_epochs=1).plan(problem, 0))
    candidate = candidate_job(problem, TINY.full, 0, epochs=1)
    store = Store(tmp_path / "out")
    for table in cache_folder().glob("*.parquet"):
        table.unlink()
    with store.lock():
        text = line(InputError, execute, search, Labels("mine", "tas", 1.0), Context(results=store.path))
        assert f"no latency table '{problem.cost.removeprefix('latency:')}'" in text
        row = execute(candidate, Labels("mine", "tas", 1.0, problem.cost, 7), Context(results=store.path))
    assert (row["status"], row["budget_cost"], row["cost"]) == ("ok", problem.cost, 7), "needs none"


def test_an_unsettled_sweep_says_so():
    assert "latency is measured first" in line(InputError, SWEEP.check_budget)


def test_measuring_is_told_and_ends_in_time(made_up, monkeypatch):
    for quiet in (False, True):
        console, file = words()
        made_up.clear()
        measured(configs_of_sizes(TINY.layers(10 + quiet, IMAGE), [TINY.full]), Bench(), console, quiet)
        assert ("measuring the latency of" in file.getvalue()) is not quiet
        assert len(made_up) == latency.ROUNDS
    monkeypatch.setattr(latency, "MOST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    made_up.clear()
    console, file = words()
    table = measured(configs_of_space(LAYERS, TINY.space()), Bench(threads=2), console)
    assert sorted(entry for chain in made_up for entry in chain) == sorted(configs_of_space(LAYERS, TINY.space()))
    assert table.entries.keys() >= configs_of_space(LAYERS, TINY.space())
    assert "left" in file.getvalue().splitlines()[-1]
