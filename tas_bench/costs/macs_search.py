"""Multiply-accumulates as the released TAS code counts them while it searches (rule S).

No bias, and after a depth cut the next stage still reads the width of the *dropped* last block. Budgets are
never stated in it; it exists for the `released` preset and for parity with the published figures.
"""

from typing import Any

from tas_bench.costs.layer import Cost, Layer


def macs_search_of_layer(layer: Layer, c_in: Any, c_out: Any) -> Any:
    """Weights x H W."""
    return layer.weights(c_in, c_out) * layer.positions


MACS_SEARCH = Cost("macs_search", macs_search_of_layer, by_index=True)
