"""Multiply-accumulates of the deployed network, for one image. The paper's "FLOPs" columns are MACs.

Rule I: channels follow the last kept block, and the classifier's bias counts one per class.
"""

from typing import Any

from tas_bench.costs.layer import Cost, Layer


def macs_of_layer(layer: Layer, c_in: Any, c_out: Any) -> Any:
    """Weights x H W, and C_out more for a bias."""
    return layer.weights(c_in, c_out) * layer.positions + layer.bias * c_out


MACS = Cost("macs", macs_of_layer)
