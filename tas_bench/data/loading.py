"""Batches of either kind of images; those of files come through torch's DataLoader.

Worker processes decode and augment; normalisation is done where the network is, on a quarter of the bytes. What
an epoch draws (an order and a seed for each image) comes from the caller's generator before its first batch: so
batches depend neither on the workers nor on how far ahead they are.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from threading import Thread
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from tas_bench.data.batches import Batches, check_passes
from tas_bench.data.folders import normalisation, view
from tas_bench.data.images import AnyImages, DatasetInfo, ImageFiles
from tas_bench.errors import InputError

MOST_WORKERS = 16
"""Processes that decode for one part of a data set, at most: each keeps batches in shared memory."""


class Passes(Protocol):
    """Passes over a data set, one per `iter`, as `Batches` says."""

    def __len__(self) -> int:
        """Batches of a pass."""
        ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (B, C, H, W), channels_last, and labels (B,)."""
        ...


def batches_of(
    data: AnyImages,
    info: DatasetInfo,
    batch: int,
    *,
    augment: bool,
    generator: torch.Generator | None = None,
    cpus: float = 1,
) -> Passes:
    """Passes over images in memory or in files; for the arguments see `Batches`.

    Args:
        cpus: CPU cores of the job, for decoding files.
    """
    if not isinstance(data, ImageFiles):
        return Batches(data, info, batch, augment=augment, generator=generator)
    workers = workers_of(cpus, data.device)
    return FileBatches(data, info, batch, augment=augment, generator=generator, workers=workers)


def workers_of(cpus: float, device: str | torch.device) -> int:
    """Worker processes for passes of a job: one per core, up to `MOST_WORKERS`.

    On a single core and without a GPU it has none: a worker and the network would only take turns.
    """
    return min(int(cpus), MOST_WORKERS) if cpus >= 2 else int(torch.device(device).type == "cuda")


class FileBatches:
    """Passes over image files, like those of `Batches`."""

    def __init__(
        self,
        data: ImageFiles,
        info: DatasetInfo,
        batch: int,
        *,
        augment: bool,
        generator: torch.Generator | None = None,
        workers: int = 0,
    ) -> None:
        """Prepare the passes; workers start with the first and stay for all.

        Args:
            data: the files, and the device their batches go to.
            info: how to change and normalise them.
            batch: images in a batch.
            augment: whether this is training.
            generator: source of all randomness, on any device; needed to augment, else unused.
            workers: processes that decode; 0 decodes in this one.

        Raises:
            ValueError: no images, `batch` below 1, or no generator to augment with.
        """
        check_passes(len(data), batch, augment, generator)
        self._device = torch.device(data.device)
        self._normalised = normalisation(info, self._device)
        self._order = _Order(len(data), batch, generator if augment else None)
        self._loader: DataLoader[Any] = DataLoader(
            _Views(data, info, augment),
            batch_sampler=self._order,
            collate_fn=_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context=_forkserver() if workers else None,
            worker_init_fn=_end_with_parent,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # it draws a seed that nothing uses: not from everyone's generator
        )

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._order.draw()
        for found in self._loader:
            if isinstance(found, str):
                raise InputError(found)
            x, y = (t.to(self._device, non_blocking=True) for t in found)
            yield self._normalised(x.contiguous(memory_format=torch.channels_last)), y


class _Order:
    """The batches of a pass, each a list of (index, seed): what DataLoader calls a batch sampler."""

    def __init__(self, count: int, batch: int, generator: torch.Generator | None) -> None:
        self._batch, self._generator = batch, generator
        self._rows_N2 = torch.arange(count)[:, None].repeat(1, 2)  # without a generator: in order, seeds unused

    def draw(self) -> None:
        """A new order and new seeds."""
        if self._generator is not None:
            N, device = len(self._rows_N2), self._generator.device
            order_N = torch.randperm(N, generator=self._generator, device=device)
            seeds_N = torch.randint(2**32, (N,), generator=self._generator, device=device)
            self._rows_N2 = torch.stack([order_N, seeds_N], dim=1).cpu()

    def __len__(self) -> int:
        return -(-len(self._rows_N2) // self._batch)

    def __iter__(self) -> Iterator[list[list[int]]]:
        rows_N2 = self._rows_N2
        for start in range(0, len(rows_N2), self._batch):
            yield rows_N2[start : start + self._batch].tolist()


class _Views(Dataset[Any]):
    """Images by (index, seed), with their labels."""

    def __init__(self, files: ImageFiles, info: DatasetInfo, augment: bool) -> None:
        self._files, self._info, self._augment = files, info, augment

    def __getitem__(self, row: Sequence[int]) -> tuple[Tensor, Tensor] | str:
        """One image, uint8 (C, H, W), and its label; or what is wrong, since a worker cannot raise one line."""
        index, seed = row
        try:
            with torch.random.fork_rng(devices=[]):  # torchvision draws from the default generator alone
                torch.default_generator.manual_seed(seed)
                return view(self._files.path(index), self._info, augment=self._augment), self._files.labels[index]
        except InputError as error:
            return str(error)


def _collate(items: list[Any]) -> Any:
    return next((item for item in items if isinstance(item, str)), None) or default_collate(items)


def _forkserver() -> Any:
    """Workers are forked from a clean process: this one has threads, whose locks a fork would copy.

    It has torch, the slow import, and nothing of ours: it may not know where this copy of the code lies.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    return context


def _end_with_parent(_worker: int) -> None:
    """End this worker when the job's process is gone, even killed: torch sees only to workers forked from it."""
    parent = multiprocessing.parent_process()
    assert parent

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
