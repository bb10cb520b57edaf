"""How the differentiable searches of a sweep ended: one line per method, means over seeds (Figure 3, Table 2)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tas_bench.report.stats import mean_interval
from tas_bench.report.table1 import Manifest, tunings

MEASURES = ("argmax_share", "met", "discrepancy", "val_accuracy", "device_seconds", "train_macs", "peak_memory")
COLUMNS = {"method": "string", "name": "string", "n": "Int64"} | {
    f"{measure}_{part}": "Float64" for measure in MEASURES for part in ("mean", "half_width")
}
"""`argmax_share` is the argmax's macs as a fraction of R where R is in macs, `met` the share of argmaxes in the
band, `val_accuracy` the supernet's own in percent; half widths are of 95 % intervals."""


def searches(used: pd.DataFrame, sweep: Manifest) -> pd.DataFrame:
    """One line per method that searched, tunings aside, with `COLUMNS`; finished searches only.

    Args:
        used: what the sweep's plans on one problem asked for, with its rows (`Source.of`).
    """
    done = used[used["discrepancy"].notna() & (used["status"] == "ok")].copy()
    done["argmax_share"] = (done["argmax_macs"] / done["budget"]).where(done["budget_cost"] == "macs")
    done["met"] = (done["derived"] == "argmax").astype(float)
    done["val_accuracy"] = 100 * done["val_accuracy"]
    lines = []
    for method in sweep["methods"]:
        mine = done[done["method"] == method["name"]]
        if len(mine) and method["name"] not in tunings(sweep):
            lines.append({"method": method["name"], "name": method["label"], "n": len(mine)} | _means(mine))
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype(COLUMNS)


def _means(done: pd.DataFrame) -> dict[str, Any]:
    found = {measure: mean_interval(float(x) for x in done[measure].dropna()) for measure in MEASURES}
    means = {f"{measure}_mean": interval.mean for measure, interval in found.items()}
    return means | {f"{measure}_half_width": interval.half_width for measure, interval in found.items()}
