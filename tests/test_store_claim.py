"""Whose directory it is: the sweep and the data that a results directory remembers."""

import json

import pytest
from helpers import bare_row

from tas_bench.errors import InputError, StoreDamagedError


def manifest(name="mine", seeds=(0, 1), methods=("tas",), transfers=("scratch",), **fixed):
    basics = {"keep": 0.6, "t": 0.05, "train_subset": None}
    return {
        "name": name, "title": "A title", **basics,
        "problems": [{"dataset": "digits", "backbone": "tiny", "keep": 0.6}],
        "seeds": list(seeds),
        "methods": [{"name": m, "label": m.upper()} for m in methods],
        "transfers": list(transfers),
        "fixed": basics | {f"{m}.setting": 1 for m in methods} | fixed,
    }  # fmt: skip


@pytest.fixture
def claimed(store):
    """A directory with a row in it, of a sweep of one method."""
    store.claim(manifest())
    store.commit(bare_row("a"))
    return store


def test_a_claim_is_remembered(claimed):
    assert claimed.manifest() == manifest()
    claimed.claim(manifest())
    assert claimed.manifest() == manifest()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (manifest(name="other"), "holds sweep 'mine', not 'other'"),
        (manifest(**{"tas.setting": 2}), "was made with tas.setting = 1, now it is 2"),
        (manifest(keep=0.5), "was made with keep = 0.6, now it is 0.5"),
        (manifest(train_subset=100), "was made with train_subset = None, now it is 100"),
        (manifest(teacher_epochs=9), "was made with teacher_epochs = None, now it is 9"),
    ],
)
def test_another_sweep_or_setting_is_refused(claimed, wanted, said):
    with pytest.raises(InputError) as caught:
        claimed.claim(wanted)
    assert said in str(caught.value)
    assert str(claimed.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert claimed.manifest() == manifest(), "a refused claim changes nothing"


def test_a_claim_without_rows_binds_nobody(store):
    store.claim(manifest(name="mistyped"))
    store.claim(manifest())
    assert store.manifest() == manifest()


def test_more_is_welcome_and_stays(claimed):
    claimed.claim(manifest(seeds=(2, 0), methods=("ratio", "tas"), transfers=("kd", "scratch")))
    claimed.claim(manifest(seeds=(1,), methods=("ratio",), transfers=("init",)))
    found = claimed.manifest()
    assert found["seeds"] == [0, 1, 2]
    assert [m["name"] for m in found["methods"]] == ["tas", "ratio"]
    assert found["transfers"] == ["scratch", "kd", "init"]
    assert found["fixed"] == manifest(methods=("tas", "ratio"))["fixed"]
    with pytest.raises(InputError, match=r"tas\.setting = 1"):
        claimed.claim(manifest(**{"tas.setting": 2}))


def test_a_label_may_change(claimed):
    renamed = manifest() | {"methods": [{"name": "tas", "label": "TAS, ours"}]}
    claimed.claim(renamed)
    assert claimed.manifest()["methods"] == renamed["methods"]


def test_rows_without_a_manifest_are_refused(claimed):
    (claimed.path / "_sweep.json").unlink()
    with pytest.raises(InputError, match=r"no _sweep\.json"):
        claimed.claim(manifest())


def test_data_are_remembered_once_something_is_made_of_them(store):
    store.claim_data({"digits": "mistyped"})
    store.claim_data({"digits": "abc"})
    assert store.data() == {"digits": "abc"}
    (store.path / "_checkpoints" / "a.pt").touch()  # a training began
    for made in ("checkpoint", "row"):
        with pytest.raises(InputError, match="data fingerprint of digits = abc, now it is def") as caught:
            store.claim_data({"cifar10": "new", "digits": "def"})
        assert "\n" not in str(caught.value), made
        store.commit(bare_row("a"))
    assert store.data() == {"digits": "abc"}, "a refused claim changes nothing"
    store.claim_data({"cifar10": "new", "digits": "abc"})
    assert store.data() == {"digits": "abc", "cifar10": "new"}


def test_fingerprints_of_a_directory_made_before_are_minded(claimed):
    """They stood in `_sweep.json`, and what trained by hand wrote none."""
    earlier = manifest(**{"data fingerprint of digits": "abc"})
    (claimed.path / "_sweep.json").write_text(json.dumps(earlier))
    other = {"digits": "def"}
    for claim in (lambda: claimed.claim(manifest(seeds=(7,)), other), lambda: claimed.claim_data(other)):
        with pytest.raises(InputError, match="data fingerprint of digits = abc, now it is def"):
            claim()
    assert claimed.manifest() == earlier
    assert not (claimed.path / "_data.json").exists()
    claimed.claim(manifest(), {"digits": "abc", "cifar10": "new"})
    assert claimed.data() == {"digits": "abc", "cifar10": "new"}


def test_a_directory_that_says_nothing_of_its_data_takes_the_first_it_meets(claimed):
    claimed.claim_data({"digits": "abc"})
    with pytest.raises(InputError, match="made with data fingerprint"):
        claimed.claim_data({"digits": "def"})


@pytest.mark.parametrize("text", ["", "[]", "null"])
def test_a_damaged_data_file_is_named(claimed, text):
    (claimed.path / "_data.json").write_text(text)
    with pytest.raises(StoreDamagedError, match=r"_data\.json cannot be read"):
        claimed.claim_data({})


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"name": "mine"}', "\x00", "null"])
def test_a_damaged_manifest_is_named(claimed, text):
    (claimed.path / "_sweep.json").write_text(text)
    for action in (claimed.manifest, lambda: claimed.claim(manifest())):
        with pytest.raises(StoreDamagedError, match=r"_sweep\.json cannot be read") as caught:
            action()
        assert "\n" not in str(caught.value)


def test_a_manifest_is_json(claimed):
    found = json.loads((claimed.path / "_sweep.json").read_text())
    assert found.pop("content_sha256")
    assert found == manifest()
