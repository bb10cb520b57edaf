"""Checkpoints: whole or not at all, the one before as a fallback, and a full disk that stops nobody."""

import dataclasses

import pytest
import torch
from helpers import full_disk
from torch import nn

from tas_bench.checkpoint import Checkpoint, previous
from tas_bench.jobs import Context, checkpoint_path


@pytest.fixture
def context(tmp_path):
    return Context(results=tmp_path, checkpoint_seconds=0)


def made(context, value=0.0):
    """A checkpoint of a network whose weights are all that value."""
    network = nn.Linear(50, 50)
    nn.init.constant_(network.weight, value)
    return Checkpoint(context, "key", {"network": network}, torch.Generator().manual_seed(int(value)))


def weight(checkpoint):
    return checkpoint.parts["network"].weight[0, 0].item()


def test_what_was_saved_is_restored(context):
    assert made(context).restore() == {}
    saved = made(context, 3.0)
    saved.save(curve=[{"epoch": 1, "loss": 0.5}], spent=(1, 2))
    drawn = torch.rand(3, generator=saved.generator)
    other = made(context)
    assert other.restore() == {"curve": [{"epoch": 1, "loss": 0.5}], "spent": (1, 2)}
    assert weight(other) == 3.0
    assert torch.equal(torch.rand(3, generator=other.generator), drawn)
    assert other.warning is None


def test_no_sooner_than_asked(context):
    checkpoint = made(dataclasses.replace(context, checkpoint_seconds=1000))
    checkpoint.save(told=1)
    assert not checkpoint.path.exists()


@pytest.mark.parametrize("damage", ["cut short", "empty", "other bytes"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_says_so(context, damage):
    for value in (1.0, 2.0):
        made(context, value).save(told=value)
    path = checkpoint_path(context.results, "key")
    whole = path.read_bytes()
    path.write_bytes({"cut short": whole[: len(whole) // 2], "empty": b"", "other bytes": b"x" * 1000}[damage])
    found = made(context)
    assert found.restore() == {"told": 1.0}
    assert weight(found) == 1.0
    assert "damaged" in found.warning
    previous(path).write_bytes(b"")
    found = made(context)
    assert found.restore() == {}
    assert weight(found) == 0.0
    assert "damaged" in found.warning


def test_a_checkpoint_of_another_kind_of_device_is_left_alone(context):
    made(context, 1.0).save(told=1)
    path = checkpoint_path(context.results, "key")
    torch.save(torch.load(path, weights_only=True) | {"device": "cuda"}, path)
    found = made(context)
    assert (found.restore(), weight(found)) == ({}, 0.0)
    assert "made on cuda" in found.warning


def test_a_full_disk_keeps_the_last_good_one_and_the_job_goes_on(context):
    made(context, 1.0).save(told=1)
    late = made(context, 2.0)
    with full_disk():
        late.save(told=2)
    assert "could not be kept" in late.warning
    assert "\n" not in late.warning
    assert [p.name for p in late.path.parent.iterdir()] == ["key.pt"], "nothing half-written is left"
    found = made(context)
    assert (found.restore(), weight(found)) == ({"told": 1}, 1.0)
