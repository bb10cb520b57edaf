"""CIFAR ResNets (He et al. 2016, section 4.2), with the candidate depths of the released TAS search.

Basic blocks for depths 20 to 110, bottleneck blocks for 164. Shortcuts that change shape are an average
pooling and a 1 x 1 convolution, as in the released deployment code.
"""

from tas_bench.backbones.backbone import Backbone, BlockConv, Stage

BASIC = (BlockConv(3, strided=True), BlockConv(3))
BOTTLENECK = (BlockConv(1), BlockConv(3, strided=True), BlockConv(1, expansion=4))


def candidate_depths(blocks: int) -> tuple[int, ...]:
    """Every depth up to 3, else the odd ones and the full depth."""
    return tuple(range(1, blocks + 1)) if blocks <= 3 else tuple(sorted({*range(1, blocks, 2), blocks}))


def cifar_resnet(name: str, blocks: int, block: tuple[BlockConv, ...]) -> Backbone:
    """Three stages of `blocks` blocks of 16, 32 and 64 channels."""
    depths = candidate_depths(blocks)
    stages = tuple(Stage(width, stride, depths) for width, stride in ((16, 1), (32, 2), (64, 2)))
    return Backbone(name, 16, block, stages, mismatch_norm=block is BASIC)


RESNET20 = cifar_resnet("resnet20", 3, BASIC)
RESNET32 = cifar_resnet("resnet32", 5, BASIC)
RESNET44 = cifar_resnet("resnet44", 7, BASIC)
RESNET56 = cifar_resnet("resnet56", 9, BASIC)
RESNET110 = cifar_resnet("resnet110", 18, BASIC)
RESNET164 = cifar_resnet("resnet164", 18, BOTTLENECK)
