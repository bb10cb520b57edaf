"""One search step against one plain training step, ResNet-32, 100 classes: seconds and bytes kept for backward.

Forward, backward and optimiser step, interleaved, same precision and memory layout for all. The rival is the
candidate-by-candidate form: one convolution at full width, then a slice, a batch norm, an adaptive pooling over
channels and a product for each sampled candidate, as the paper describes it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tas_bench import measure
from tas_bench.backbones import find_backbone
from tas_bench.backbones.backbone import CIFAR
from tas_bench.jobs import Recipe
from tas_bench.layers import ElasticConv
from tas_bench.loop import sgd
from tas_bench.network import Network
from tas_bench.search import SearchSettings
from tas_bench.supernet import Architecture, Supernet

BATCH, CLASSES, ROUNDS = 256, 100, 7
BACKBONE = find_backbone("resnet32")
Forward = Callable[[Tensor], Tensor]


class CandidateConv(ElasticConv):
    """The rival: every sampled candidate on its own."""

    def forward(self, x: Tensor, picks: Sequence[int], weights_I: Tensor) -> Tensor:
        """As `ElasticConv.forward`."""
        widest = max(self.candidates[j] for j in picks)
        full = F.conv2d(x, self.weight[:, : x.shape[1]], stride=self.stride, padding=self.weight.shape[-1] // 2)
        total: Tensor | float = 0.0
        for w, j in zip(weights_I.unbind(), picks, strict=True):
            c = self.candidates[j]
            normed = F.batch_norm(full[:, :c], None, None, self.gamma[j, :c], self.beta[j, :c], training=True)
            total = total + w * F.adaptive_avg_pool3d(normed, (widest, *normed.shape[2:]))
        assert isinstance(total, Tensor)
        return total


def plain() -> tuple[nn.Module, Forward]:
    """The unpruned network."""
    network = Network(BACKBONE, BACKBONE.full, CLASSES).to(memory_format=torch.channels_last)
    return network, network


def supernet(samples: int, form: type[ElasticConv] = ElasticConv) -> tuple[nn.Module, Forward]:
    """A supernet that draws anew in every step."""
    space = BACKBONE.space()
    net = Supernet(BACKBONE, space, CLASSES, CIFAR).to(memory_format=torch.channels_last)
    for module in net.modules():
        if isinstance(module, ElasticConv):
            module.__class__ = form
    architecture = Architecture(space)

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            sample = architecture.sample(SearchSettings(samples=samples), 1.0)
        return net(x, sample)

    return net, forward


def main() -> None:
    """Print medians and their ratios to the plain step's, all forms in turn."""
    torch.manual_seed(0)
    print(f"{measure.device_name('cpu')}, {torch.get_num_threads()} threads, batch {BATCH}")
    x = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(CLASSES, (BATCH,))
    forms = {"plain": plain()} | {f"|I| = {n}": supernet(n) for n in (1, 2, 8)}
    forms["|I| = 2, by candidate"] = supernet(2, CandidateConv)
    for dtype in dict.fromkeys(("float32", measure.precision("cpu", CIFAR))):
        seconds = dict(zip(forms, interleaved(list(forms.values()), x, y, dtype), strict=True))
        kept = {
            name: statistics.median(kept_bytes(*form, x, y, dtype) for _ in range(5))
            for name, form in forms.items()
        }
        for name in forms:
            times, bytes_ = seconds[name] / seconds["plain"], kept[name] / kept["plain"]
            print(f"{dtype:9} {name:21} {seconds[name]:.3f} s = {times:.2f} x plain   kept {bytes_:.2f} x plain")
        growth = [found["|I| = 8"] / found["|I| = 2"] for found in (seconds, kept)]
        print(f"{dtype:9} |I| = 8 over |I| = 2   {growth[0]:.2f} x the time, {growth[1]:.2f} x the bytes")


def interleaved(forms: Sequence[tuple[nn.Module, Forward]], x: Tensor, y: Tensor, dtype: str) -> list[float]:
    """Median seconds of a training step of each, in turn."""
    optimizers = [sgd(net.parameters(), Recipe()) for net, _ in forms]
    seconds: list[list[float]] = [[] for _ in forms]
    for _ in range(ROUNDS + 1):
        for (_, forward), optimizer, measured in zip(forms, optimizers, seconds, strict=True):
            start = time.perf_counter()
            optimizer.zero_grad()
            loss(forward, x, y, dtype).backward()
            optimizer.step()
            measured.append(time.perf_counter() - start)
    return [statistics.median(measured[1:]) for measured in seconds]


def loss(forward: Forward, x: Tensor, y: Tensor, dtype: str) -> Tensor:
    """Cross-entropy of one batch."""
    with measure.autocast("cpu", dtype):
        logits = forward(x).float()
    return F.cross_entropy(logits, y)


def kept_bytes(network: nn.Module, forward: Forward, x: Tensor, y: Tensor, dtype: str) -> int:
    """Bytes kept for backward, each storage once, the parameters' own left out."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    storages: dict[int, int] = {}
    alive = []  # or an address may be given to another tensor

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor.detach())  # not the tensor itself, which would keep its own graph for good
        return alive[-1]

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(forward, x, y, dtype)
    return sum(storages.values())


if __name__ == "__main__":
    main()
