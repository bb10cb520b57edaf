"""What a size costs, as `tas-bench cost` prints it."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from tas_bench.backbones.backbone import Backbone
from tas_bench.costs import all_costs, find_budget
from tas_bench.costs.latency import LATENCY
from tas_bench.costs.layer import Cost
from tas_bench.space import Size


def figures(backbone: Backbone, classes: int, size: Size, counted: str, console: Console) -> dict[str, Any]:
    """Costs of a size, and the share it has of the unpruned network's in what is `counted`.

    Args:
        counted: a deployed cost; "latency" measures those of the size's layers that this device's table lacks.
    """
    layers, costs = backbone.layers(classes), dict(all_costs())
    cost = _measured(backbone, classes, size, console) if counted == LATENCY else find_budget(counted)
    found: dict[str, Any] = {name: costs[name].of(layers, size) for name in ("macs", "macs_search", "params")}
    found |= {cost.noun: cost.of(layers, size), f"unpruned_{cost.noun}": cost.of(layers, backbone.full)}
    return found | {"ratio": found[cost.noun] / found[f"unpruned_{cost.noun}"]} | _where(cost)


def _measured(backbone: Backbone, classes: int, size: Size, console: Console) -> Cost:
    from tas_bench.latency import Bench, configs_of_sizes, measured

    wanted = configs_of_sizes(backbone.layers(classes), [size, backbone.full])
    return measured(wanted, Bench.at_hand(), console).cost


def _where(cost: Cost) -> dict[str, str]:
    """The table that a latency is from."""
    return {"table": cost.name.partition(":")[2]} if cost.noun == LATENCY else {}


def as_json(found: dict[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(found) + "\n"


def as_text(found: dict[str, Any], backbone: Backbone) -> str:
    """One line per figure."""
    counted = next(key for key in found if key.startswith("unpruned_")).removeprefix("unpruned_")
    notes = {
        "macs": "multiply-accumulates of the deployed network",
        "macs_search": "as the released search code counts them",
        "params": "trainable parameters",
        "latency": "nanoseconds per image, summed over layers",
        f"unpruned_{counted}": f"of the unpruned {backbone.name}",
        "ratio": f"{counted} / unpruned_{counted}",
    }
    width = max(map(len, found))
    lines = []
    for key, value in found.items():
        if key in notes:
            shown = f"{value:,.4f}" if key == "ratio" else f"{value:,}"
            lines.append(f"{key:{max(14, width + 1)}}{shown:>16}  {notes[key]}\n")
        else:
            lines.append(f"{key:{max(14, width + 1)}}{value}\n")
    return "".join(lines)
