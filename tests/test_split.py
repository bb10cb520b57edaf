"""Stratified subsets and halves: near exact, uniform, and the same for ever."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tas_bench.data import Images, halves, load_train
from tas_bench.data.split import stratified
from tas_bench.jobs import DataSpec

label_lists = st.lists(st.integers(0, 6), max_size=150)


def within_one_of_exact(part, whole):
    counts, of = np.bincount(part, minlength=7), np.bincount(whole, minlength=7)
    return bool((np.abs(counts - of * len(part) / max(len(whole), 1)) < 1).all())


@given(labels=label_lists, seed=st.integers(0, 2**70), data=st.data())
def test_stratified(labels, seed, data):
    labels = np.array(labels, dtype=np.int64)
    count = data.draw(st.integers(0, len(labels)))
    rows = stratified(labels, count, seed)
    assert len(rows) == count
    assert (np.diff(rows) > 0).all()
    assert within_one_of_exact(labels[rows], labels)
    np.testing.assert_array_equal(rows, stratified(labels, count, seed))


def test_stratified_never_changes():
    """Rows of published runs rest on these numbers."""
    assert stratified(np.arange(30) % 4, 9, seed=111).tolist() == [0, 1, 5, 10, 12, 19, 26, 27, 28]


def test_stratified_choice_is_uniform():
    labels = np.arange(12) % 2
    times = np.bincount(np.concatenate([stratified(labels, 4, seed) for seed in range(600)]))
    assert (np.abs(times - 200) < 60).all()  # 5 sigma


@given(labels=label_lists, seed=st.integers(0, 2**31))
def test_halves(labels, seed):
    labels = torch.tensor(labels, dtype=torch.int64)
    serial = torch.arange(len(labels)).view(-1, 1, 1, 1)
    first, second = halves(Images(serial, labels), DataSpec(split_seed=seed))
    assert len(second) - len(first) in (0, 1)
    assert (
        sorted([*first.images.flatten().tolist(), *second.images.flatten().tolist()]) == serial.flatten().tolist()
    )
    for half in (first, second):
        assert torch.equal(half.labels, labels[half.images.flatten()])
        assert within_one_of_exact(half.labels, labels)
    assert all(k in first.labels and k in second.labels for k in range(7) if (labels == k).sum() > 1)


def test_split_seed_decides_the_halves():
    train = load_train(DataSpec(name="digits"), None)
    one, same, other = (halves(train, DataSpec(split_seed=s))[0].images for s in (111, 111, 112))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
