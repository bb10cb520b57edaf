"""Costs of a network, one metric per file. A new file with a `Cost` in it is found by itself."""

from __future__ import annotations

from tas_bench.costs.latency import LATENCY, find_latency
from tas_bench.costs.layer import Cost, noun
from tas_bench.discover import instances
from tas_bench.errors import InputError, unknown


def all_costs() -> dict[str, Cost]:
    """Every cost of this package, by name."""
    return instances(__name__, Cost)


def find_cost(name: str) -> Cost:
    """The cost of that name, "latency:KEY" among them.

    Raises:
        InputError: there is none; the near miss is suggested.
    """
    if noun(name) == LATENCY:
        return find_latency(name)
    found = all_costs()
    if name not in found:
        raise unknown("cost", name, {*found, LATENCY})
    return found[name]


def find_budget(name: str) -> Cost:
    """The cost of that name, for a budget to be counted in.

    Raises:
        InputError: there is none, or it is not one of the deployed network.
    """
    cost = find_cost(name)
    if cost.by_index:
        raise InputError(f"cost is '{name}', a search's proxy; a budget is in a deployed cost, such as macs")
    return cost
