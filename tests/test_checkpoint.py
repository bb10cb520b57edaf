"""Checkpoints: whole or not at all, the one before as a fallback, and a full disk that stops nobody."""

import dataclasses
import io
import shutil
import zipfile

import pytest
import torch
from helpers import full_disk, problem, unreadable
from torch import nn

from tas_bench.checkpoint import Checkpoint, previous
from tas_bench.errors import StoreIOError
from tas_bench.jobs import Context, checkpoint_path, job_id
from tas_bench.train import teacher_job, train


@pytest.fixture
def context(tmp_path):
    return Context(results=tmp_path, checkpoint_seconds=0)


def made(context, value=0.0, precision="float32"):
    """A checkpoint of a network whose weights are all that value."""
    network = nn.Linear(50, 50)
    nn.init.constant_(network.weight, value)
    return Checkpoint(context, "key", {"network": network}, torch.Generator().manual_seed(int(value)), precision)


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


def test_nor_is_one_of_another_precision_gone_on_with(context):
    made(context, 1.0, "bfloat16").save(told=1)
    found = made(context)
    assert (found.restore(), weight(found)) == ({}, 0.0)
    assert found.warning == "its checkpoint was made in bfloat16, here it is float32: it started again"
    path = checkpoint_path(context.results, "key")
    state = torch.load(path, weights_only=True)
    del state["precision"]  # as before it was told
    torch.save(state, path)
    assert made(context).restore() == {"told": 1}


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


def test_only_its_owner_may_read_it(context):
    made(context, 1.0).save(told=1)
    assert checkpoint_path(context.results, "key").stat().st_mode & 0o777 == 0o600


def test_a_file_system_that_fails_for_a_moment_is_no_damage(context):
    for value in (1.0, 2.0):
        made(context, value).save(told=value)
    path = checkpoint_path(context.results, "key")
    path.rename(path.with_suffix(".kept"))
    unreadable(path)
    with pytest.raises(StoreIOError, match=rf"cannot read {path}: Input/output error"):
        made(context).restore()
    path.with_suffix(".kept").rename(path)
    assert made(context).restore() == {"told": 2.0}
    assert previous(path).exists()


def test_memory_that_runs_out_is_no_damage(context, monkeypatch):
    made(context, 1.0).save(told=1)
    monkeypatch.setattr(torch, "load", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        made(context).restore()
    assert checkpoint_path(context.results, "key").exists()


# ---------------------------------------------------------------- a training goes on from the good one


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A training of three epochs that stopped after the second, and the weights it would have ended with."""
    folder = tmp_path_factory.mktemp("stopped")
    small = problem(epochs=3)
    job = teacher_job(dataclasses.replace(small, data=dataclasses.replace(small.data, train_subset=100)), seed=0)

    def tick(done, _):
        if done == 3:
            raise StoppedError

    (folder / "whole").mkdir()
    context = Context(results=folder / "whole", checkpoint_seconds=0, tick=tick)
    with pytest.raises(StoppedError):
        train(job, context)
    uncut = train(job, Context(results=folder / "uncut"))
    path = checkpoint_path(context.results, job_id(job))
    assert path.exists()
    assert previous(path).exists()
    return job, folder / "whole", uncut


def flipped(share, record=None):
    """One bit, at that share of the file, or of the largest or the first of the records in it."""

    def hurt(data):
        start, size = 0, len(data)
        if record is not None:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                info = max(archive.infolist(), key=lambda i: i.file_size if record == "largest" else 0)
            start, size = info.header_offset + 100, info.file_size
        at = start + int(share * size)
        return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]

    return hurt


CORRUPTIONS = {
    "nothing in it": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "without its end": lambda data: data[:-1],
    "zeroes": lambda data: b"\0" * len(data),
    "a hole": lambda data: data[:3000] + b"\0" * 4096 + data[7096:],
    "something else": lambda data: b"x" * 1000,
    "a bit of its pickle": flipped(0.5, "first"),
    "a bit of a weight": flipped(0.5, "largest"),
    "a bit of another": flipped(0.25, "largest"),
    "its first bit": flipped(0),
    "a bit of its directory": flipped(0.999),
}


@pytest.mark.parametrize("both", [False, True], ids=["the last", "both"])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_damaged_checkpoint_changes_no_weight(stopped, tmp_path, corruption, both):
    job, kept, uncut = stopped
    shutil.copytree(kept, tmp_path / "results")
    path, epochs = checkpoint_path(tmp_path / "results", job_id(job)), []
    for file in (path, previous(path)) if both else (path,):
        file.write_bytes(CORRUPTIONS[corruption](file.read_bytes()))
    again = train(job, Context(results=tmp_path / "results", tick=lambda done, _: epochs.append(done)))
    assert epochs == ([1, 2, 3] if both else [2, 3])
    assert "damaged" in again.warning
    assert again.curve == uncut.curve
    assert all(torch.equal(again.weights[name], value) for name, value in uncut.weights.items())
