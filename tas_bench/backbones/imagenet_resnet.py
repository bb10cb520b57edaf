"""ImageNet ResNets (He et al. 2016, Table 1), with the candidate depths of the released TAS search.

A bottleneck's stride is on its 3 x 3. Shortcuts that change shape are an average pooling and a 1 x 1
convolution, and a batch norm follows every one of them, as in the released deployment code.
"""

from tas_bench.backbones.backbone import Backbone, BlockConv, ImageShape, Stage
from tas_bench.backbones.cifar_resnet import BASIC, BOTTLENECK

IMAGENET = ImageShape(3, 224)


def imagenet_resnet(name: str, blocks: tuple[int, ...], block: tuple[BlockConv, ...]) -> Backbone:
    """Four stages of 64, 128, 256 and 512 channels, behind a 7 x 7 stem of stride 2 and a max pooling.

    Candidate depths: int(blocks x j / m) for j from 1 to m, the fewest blocks of any stage.
    """
    least = min(blocks)
    stages = tuple(
        Stage(64 * 2**s, stride=1 if s == 0 else 2, depths=tuple(n * j // least for j in range(1, least + 1)))
        for s, n in enumerate(blocks)
    )
    return Backbone(
        name, 64, block, stages, mismatch_norm=True, stride_norm=True,
        stem_kernel=7, stem_stride=2, stem_pool=True, image=IMAGENET,
    )  # fmt: skip


RESNET18 = imagenet_resnet("resnet18", (2, 2, 2, 2), BASIC)
RESNET34 = imagenet_resnet("resnet34", (3, 4, 6, 3), BASIC)
RESNET50 = imagenet_resnet("resnet50", (3, 4, 6, 3), BOTTLENECK)
