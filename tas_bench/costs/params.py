"""Trainable parameters of the deployed network."""

from typing import Any

from tas_bench.costs.layer import Cost, Layer


def params_of_layer(layer: Layer, c_in: Any, c_out: Any) -> Any:
    """The weights, a scale and a shift per channel for a batch norm, and the bias."""
    return layer.weights(c_in, c_out) + (2 * layer.norm + layer.bias) * c_out


PARAMS = Cost("params", params_of_layer)
