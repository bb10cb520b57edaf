"""MobileNets of width 1 for ImageNet: V1 (Howard et al. 2017, Table 1), V2 (Sandler et al. 2018, Table 2).

A depthwise convolution has the channels of the one before it. V2's shortcuts are identities, in blocks of one
shape; where pruned widths differ, a 1 x 1 convolution with batch norm repairs them. V2's dropout is left out.
"""

from tas_bench.backbones.backbone import Backbone, BlockConv, Stage
from tas_bench.backbones.cifar_resnet import candidate_depths
from tas_bench.backbones.imagenet_resnet import IMAGENET

DEPTHWISE = BlockConv(3, strided=True, depthwise=True)
SEPARABLE = (DEPTHWISE, BlockConv(1))
INVERTED = (BlockConv(1, expansion=6, of_input=True), DEPTHWISE, BlockConv(1))

MOBILENET_V1 = Backbone(
    "mobilenet_v1", 32, SEPARABLE,
    stages=tuple(
        Stage(width, stride, candidate_depths(blocks))
        for width, stride, blocks in ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 6), (1024, 2, 2))
    ),
    mismatch_norm=True, stem_stride=2, image=IMAGENET, shortcuts="none",
)  # fmt: skip

MOBILENET_V2 = Backbone(
    "mobilenet_v2", 32, INVERTED,
    stages=(
        Stage(16, 1, (1,), block=SEPARABLE),
        Stage(24, 2, (1, 2)),
        Stage(32, 2, (1, 2, 3)),
        Stage(64, 2, (1, 2, 3, 4)),
        Stage(96, 1, (1, 2, 3)),
        Stage(160, 2, (1, 2, 3)),
        Stage(320, 1, (1,)),
    ),
    mismatch_norm=True, stem_stride=2, image=IMAGENET,
    shortcuts="identity", activation="relu6", linear_blocks=True, head_width=1280,
)  # fmt: skip
