"""Which of the teacher's channels a student keeps: its layers beside the teacher's, in forward order.

Input channels follow the selection of the layer before, through pooling, depthwise convolutions and depth cuts
(the input of a stage comes from the last block that the student has of the stage before).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tas_bench.network import Block, ConvNorm, Network, Shortcut


@dataclass(frozen=True)
class Match:
    """A layer of the student beside the teacher's.

    Attributes:
        theirs: None where the student repairs a width mismatch and the teacher has an identity.
        outputs: the teacher's channel in the place of each of the student's outputs, ascending; outputs beyond
            the teacher's width have none.
        inputs: the same of its inputs. A depthwise filter has the one.
    """

    mine: ConvNorm | nn.Linear
    theirs: ConvNorm | nn.Linear | None
    outputs: Tensor
    inputs: Tensor


def matches(student: Network, teacher: Network, by_norm: bool, shared: bool) -> Iterator[Match]:
    """Every layer of the student that can take something from the teacher.

    Args:
        by_norm: a width keeps the filters of the largest L1 norm, the first ones otherwise.
        shared: the convolutions of a residual stream go by the sum of their norms, otherwise each by its own.
    """
    norms = _norms(teacher, shared) if by_norm else {}

    def kept(mine: ConvNorm, theirs: ConvNorm) -> Tensor:
        """The teacher's channels that a convolution's outputs keep."""
        width = _conv(mine).out_channels
        return _strongest(norms[theirs], width) if by_norm else _leading(width, _conv(theirs).weight, dim=0)

    image = _leading(_conv(student.stem).in_channels, _conv(teacher.stem).weight, dim=1)
    now = kept(student.stem, teacher.stem)
    yield Match(student.stem, teacher.stem, now, image)
    for mine, theirs in zip(_blocks(student), _blocks(teacher, like=student), strict=True):
        block_input = now
        for conv, their_conv in zip(_convs(mine), _convs(theirs), strict=True):
            if _conv(their_conv).groups > 1:
                yield Match(conv, their_conv, now, now.new_zeros(1))
            else:
                before, now = now, kept(conv, their_conv)
                yield Match(conv, their_conv, now, before)
        if isinstance(mine.shortcut, Shortcut):
            yield Match(_joining(mine.shortcut), _projection(theirs), now, block_input)
    if isinstance(student.head, nn.Sequential):
        head, their_head = (cast("ConvNorm", cast("nn.Sequential", n.head)[0]) for n in (student, teacher))
        before, now = now, kept(head, their_head)
        yield Match(head, their_head, now, before)
    classes = _leading(student.classifier.out_features, teacher.classifier.weight, dim=0)
    yield Match(student.classifier, teacher.classifier, classes, now)


def _norms(teacher: Network, shared: bool) -> dict[ConvNorm, Tensor]:
    """L1 norms of every convolution's filters (Li et al. 2017, section 3.1), summed over its stream if `shared`.

    In float64, so that two devices rank alike.
    """
    found = {
        module: _conv(module).weight.double().abs().sum(dim=(1, 2, 3))
        for module in teacher.modules()
        if isinstance(module, ConvNorm)
    }
    for stream in _streams(teacher) if shared else ():
        total = torch.stack([found[conv] for conv in stream]).sum(dim=0)
        found |= dict.fromkeys(stream, total)
    return found


def _streams(teacher: Network) -> list[list[ConvNorm]]:
    """The convolutions whose outputs the teacher's shortcuts add up, stream by stream.

    A stream begins with the stem, or where a block has no identity, with the 1 x 1 convolution that it may have
    there. Blocks that the student drops count. Torch-Pruning groups layers alike (Fang et al. 2023, "DepGraph").
    """
    streams = [[teacher.stem]]
    for block in _blocks(teacher):
        if not isinstance(block.shortcut, nn.Identity):
            projection = _projection(block)
            streams.append([projection] if projection is not None else [])
        streams[-1] += [conv for conv in _convs(block) if _conv(conv).groups == 1][-1:]
    return streams


def _strongest(norms: Tensor, width: int) -> Tensor:
    """Places of the largest, ties to the lower, in ascending order."""
    return norms.argsort(descending=True, stable=True)[:width].sort().values


def _leading(width: int, weight: Tensor, dim: int) -> Tensor:
    """The first places, as many as both have."""
    return torch.arange(min(width, weight.shape[dim]), device=weight.device)


def _conv(module: ConvNorm) -> nn.Conv2d:
    return cast("nn.Conv2d", module[0])


def _convs(block: Block) -> list[ConvNorm]:
    return cast("list[ConvNorm]", list(block.convs))


def _joining(shortcut: Shortcut) -> ConvNorm:
    return cast("ConvNorm", shortcut[1])


def _projection(block: Block) -> ConvNorm | None:
    """The 1 x 1 convolution of the block's shortcut, if there is one."""
    return _joining(block.shortcut) if isinstance(block.shortcut, Shortcut) else None


def _blocks(network: Network, like: Network | None = None) -> list[Block]:
    """All blocks in forward order, of each stage the first as many as `like` has."""
    stages = cast("list[nn.Sequential]", list(network.stages))
    depths = [len(cast("nn.Sequential", stage)) for stage in (like or network).stages]
    return [
        cast("Block", block) for stage, depth in zip(stages, depths, strict=True) for block in list(stage)[:depth]
    ]
