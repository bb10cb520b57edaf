"""The sizes that were found, layer by layer, beside the unpruned network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tas_bench.backbones import all_backbones
from tas_bench.backbones.backbone import Backbone
from tas_bench.report.parts import Note, Panel, Part, Plot, Section, Series
from tas_bench.report.source import Source, key_of


def sizes(source: Source) -> list[Part]:
    """A plot per problem, a panel per method: channels kept by layer, mean over seeds."""
    parts: list[Part] = []
    backbones = all_backbones()
    for problem in source.problems:
        backbone, used = backbones.get(problem["backbone"]), source.of(problem)
        used = used[used["status"].eq("ok") & used["widths"].notna()]
        if backbone is None:
            continue
        panels = [panel for name in source.labels if (panel := _panel(source, used, name, backbone))]
        if panels:
            where, name = source.heading(problem), f"sizes-{key_of(problem)}"
            alt = "Channels kept in every convolution as bars, the unpruned network as a line above them."
            parts.append(Plot(name, f"Sizes found: {where}", alt, panels))
    if parts:
        parts.append(Note("Least and most: over seeds. Blocks that are dropped count as 0."))
    return parts


def _panel(source: Source, used: pd.DataFrame, method: str, backbone: Backbone) -> Panel | None:
    """The sizes of a method's final trainings, or of its search where there are none."""
    mine = used[used["method"] == method]
    for kind in ("final", "search"):
        found = mine[mine["kind"] == kind].drop_duplicates("seed")
        kept = [channels(row.widths, row.depths, backbone) for row in found.itertuples()]
        kept = [each for each in kept if each is not None]
        if kept:
            break
    else:
        return None
    layers = list(range(1, len(backbone.convs) + 1))
    stack = np.array(kept, dtype=float)
    full = [float(conv.width) for conv in backbone.convs]
    series = [
        Series("kept", layers, stack.mean(axis=0).tolist(), "bars", source.colour(method)),
        Series("unpruned", layers, full, "levels", None),
    ]
    if len(kept) > 1:
        ends = [*stack.min(axis=0).tolist(), *stack.max(axis=0).tolist()]
        series.append(Series("least and most", layers + layers, ends, "points", None, hollow=True))
    title = source.label(method) + (f" (mean of {len(kept)} seeds)" if len(kept) > 1 else "")
    return Panel(title, "Convolution", "Channels", series)


def channels(widths: Any, depths: Any, backbone: Backbone) -> list[int] | None:
    """Channels of every convolution, 0 where its block is dropped; None where the size is not of this backbone."""
    if len(widths) != len(backbone.convs) or depths is None or len(depths) != len(backbone.stages):
        return None
    return [
        int(width) if conv.stage is None or conv.block < depths[conv.stage] else 0
        for width, conv in zip(widths, backbone.convs, strict=True)
    ]


SECTION = Section("sizes", "Sizes found", 35, sizes)
