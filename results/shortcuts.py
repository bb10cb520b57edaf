"""How Init went beside what it cannot take from the teacher."""

from __future__ import annotations

from typing import Any

import pandas as pd
from figures import markdown, rank_correlation

from tas_bench.backbones import find_backbone
from tas_bench.costs.layer import Cost
from tas_bench.report.source import Source
from tas_bench.space import Size

REPAIRS = Cost("repairs", lambda layer, _c_in, _c_out: layer.repairs_mismatch)
"""Pointwise convolutions in the place of an identity of the unpruned network."""


def by_shortcuts(source: Source) -> str:
    """What Init came to, size by size, those with the fewest such convolutions first, as Markdown."""
    modes = [mode for mode in source.manifest["transfers"] if mode.startswith("init")]
    curves = source.curves.reindex(columns=["job_id", "epoch", "train_loss"])
    begun = curves[curves["epoch"] == 1].set_index("job_id")["train_loss"]
    finals = source.finals.assign(loss=source.finals["job_id"].map(begun)).sort_values(["method", "seed"])
    lines, found = [], pd.DataFrame(columns=modes, dtype=float)
    for (method, seed), mine in finals.groupby(["method", "seed"]):
        trained = {row.transfer: row for row in mine.itertuples()}
        if (scratch := trained.get("scratch")) is None or not set(modes) & set(trained):
            continue
        inits = [trained.get(mode) for mode in modes]
        losses = [f"{one.loss:.2f}" if one and pd.notna(one.loss) else "" for one in (scratch, *inits)]
        gains = [None if one is None else one.accuracy - scratch.accuracy for one in inits]
        told = ["" if gain is None else f"{gain:+z.2f}" for gain in gains]
        found.loc[len(found)] = pd.Series(gains, modes, dtype=float)
        lines.append((repairs(scratch), [source.label(method), str(seed)], [*losses, *told]))
    begins = [f"First loss, {mode}" for mode in ("scratch", *modes)]
    ends = [f"{mode} less scratch, points" for mode in modes]
    header = ["Size of", "Seed", "Pointwise convolutions", *begins, *ends]
    cells = [[*whose, str(count), *told] for count, whose, told in sorted(lines, key=lambda line: line[0])]
    table = markdown([header, ["---"] * len(header), *cells])
    counts = pd.Series([count for count, *_ in lines])
    return "\n".join([table, "", *(above(mode, found[mode], counts) for mode in modes if found[mode].count())])


def above(mode: str, gains: pd.Series, counts: pd.Series) -> str:
    """In how many sizes a mode is above scratch, and how that goes with such convolutions; a sentence."""
    told = f"- {mode} is above scratch in {(gains > 0).sum()} of {gains.count()} sizes"
    rank = rank_correlation(gains, counts)
    also = f"; rank correlation (Spearman) of the gain with such convolutions: {rank}" if rank else ""
    return f"{told}{also}."


def repairs(row: Any) -> int:
    """How many a row's size has."""
    backbone = find_backbone(row.backbone)
    return REPAIRS.of(backbone.layers(10), Size(tuple(row.widths), tuple(row.depths)))
