"""A network small enough to train in a test."""

from tas_bench.backbones.backbone import Backbone, Stage
from tas_bench.backbones.cifar_resnet import BASIC

TINY = Backbone("tiny", 8, BASIC, (Stage(8, 1, (1, 2)), Stage(16, 2, (1, 2))), mismatch_norm=True)
