"""Stratified choices that come out the same on every machine and with every version of NumPy."""

import numpy as np
from numpy.typing import NDArray


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Choose `count` rows at random, each class within one row of its exact share (largest remainders).

    The order is that of PCG64's raw stream, which NumPy keeps fixed, unlike its `permutation`.

    Args:
        labels: class of each row, (N,), integers from 0.
        count: how many rows, 0 to N.
        seed: decides which; not negative.

    Returns:
        The chosen rows, (count,), ascending.
    """
    order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    per_class = np.bincount(labels)
    quota, remainder = np.divmod(per_class * count, max(len(labels), 1))
    quota[np.argsort(-remainder, kind="stable")[: count - quota.sum()]] += 1
    by_class = order[np.argsort(labels[order], kind="stable")]
    class_start = np.cumsum(per_class) - per_class
    classes = labels[by_class]
    place = np.arange(len(labels)) - class_start[classes]  # among its class
    return np.sort(by_class[place < quota[classes]])
