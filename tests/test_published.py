"""The papers' own figures: every file quoted and sourced, and values typed a second time from the print."""

from importlib.resources import files

import pandas as pd
import pytest

from tas_bench.backbones import all_backbones
from tas_bench.report.table1 import published

NAMES = sorted(path.name.removesuffix(".csv") for path in (files("tas_bench.report") / "published").iterdir())
TYPED = [
    ("table1", {"method": "random_search", "transfer": "init"}, {"accuracy": 69.14, "macs": 42.9e6, "row": 5}),
    ("table1", {"method": "tas", "transfer": "kd"}, {"accuracy": 72.41, "macs": 42.5e6, "row": 9}),
    ("table2", {"samples": 1}, {"search_hours": 2.83, "memory_gb": 1.5, "accuracy": 89.85, "macs": 23.59e6}),
    ("table2", {"samples": 8}, {"search_hours": 10.64, "train_hours": 0.81, "accuracy": 92.65}),
    ("table3", {"method": "tas-wd", "backbone": "resnet20", "dataset": "cifar100"},
     {"accuracy": 68.9, "accuracy_drop": -0.21}),
    ("table3", {"method": "tas-w", "backbone": "resnet32", "dataset": "cifar100"},
     {"accuracy": 71.74, "pruned": 45.0}),
    ("table3", {"method": "pfec", "backbone": "resnet110", "dataset": "cifar10"},
     {"accuracy": 93.3, "macs": 1.55e8}),
    ("table3", {"method": "lccl", "backbone": "resnet164", "dataset": "cifar10"},
     {"macs": 1.79e8, "pruned": 27.4}),
    ("table4", {"method": "cp"}, {"top5": 90.8, "macs": 2.04e9, "pruned": 50.0}),
    ("table4", {"method": "tas-wd", "backbone": "resnet50"},
     {"accuracy": 76.2, "top5_drop": 0.48, "macs": 2.31e9}),
    ("author_response", {"method": "fpgm", "transfer": "kd"}, {"accuracy": 68.5}),
    ("gate_decorator", {"method": "Ours", "backbone": "resnet56"}, {"accuracy": 93.41, "macs_reduction": 60}),
    ("autoprune", {"method": "AutoSlim", "macs": 207_000_000}, {"top1_error": 27.0}),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_quoted_with_its_source_and_row(name):
    found = published(name)
    assert (found["status"] == "quoted").all()
    assert found["source"].str.contains("NeurIPS 2019").all()
    assert found["row"].is_monotonic_increasing
    assert set(found.get("backbone", pd.Series(dtype=str))) - {"mobilenet", "mobilenet_v1", "mobilenet_v2"} <= set(
        all_backbones()
    )


@pytest.mark.parametrize(("name", "where", "typed"), TYPED, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(TYPED)])
def test_figures_are_those_in_print(name, where, typed):
    found = published(name)
    for column, value in where.items():
        found = found[found[column] == value]
    [row] = found.to_dict("records")
    assert {key: row[key] for key in typed} == typed


def test_every_printed_row_is_there():
    counts = {name: published(name)["row"].nunique() for name in NAMES}
    assert counts == {
        "author_response": 4, "author_response_table1": 5, "autoprune": 12, "gate_decorator": 9,
        "search_cost": 4, "table1": 9, "table2": 5, "table3": 25, "table4": 10,
    }  # fmt: skip
    assert published("table3").groupby("dataset").size().to_dict() == {"cifar10": 25, "cifar100": 22}


def test_the_author_response_prints_table_2_again():
    columns = published("table2").columns.drop("source").tolist()
    pd.testing.assert_frame_equal(published("table2")[columns], published("author_response_table1")[columns])
