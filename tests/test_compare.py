"""Two results directories compared: differences and intervals by hand and by scipy, verdicts, the command."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from report_rows import SWEEP, Sweep, source_of
from scipy import stats

from tas_bench.cli import main
from tas_bench.errors import BAD_INPUT, OK
from tas_bench.report.compare import compare, search_costs, unlike, welch

CELL = ["cifar100", "resnet32", "tas", "kd"]


def source(sweep, **changed):
    return source_of(sweep, SWEEP | changed)


def finals(accuracies, method="tas"):
    sweep = Sweep()
    for seed, accuracy in accuracies.items():
        sweep.final(method, seed, "kd", accuracy / 100)
    return sweep


def cell(one, other):
    [line] = compare(source(finals(one)), source(finals(other))).to_dict("records")
    assert [line[name] for name in ("dataset", "backbone", "method", "transfer")] == CELL
    return line


def test_shared_seeds_are_compared_one_by_one():
    found = cell({0: 70.0, 1: 60.0, 2: 50.0}, {0: 71.0, 1: 62.0, 2: 53.0})
    assert (found["first"], found["second"]) == (pytest.approx(60), pytest.approx(62))
    interval = stats.ttest_1samp([1, 2, 3], 0).confidence_interval()
    assert found["difference"] == pytest.approx(2)
    assert found["half_width"] == pytest.approx((interval.high - interval.low) / 2)
    assert (found["how"], found["verdict"]) == ("paired", "within noise")


def test_other_seeds_by_their_means():
    one, other = {0: 70.0, 1: 71.0, 2: 69.0}, {3: 60.0, 4: 61.5, 5: 62.0, 6: 59.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SWEEP, "seeds", list(range(7)))
        found = cell(one, other)
    interval = stats.ttest_ind(list(other.values()), list(one.values()), equal_var=False).confidence_interval()
    assert found["half_width"] == pytest.approx((interval.high - interval.low) / 2)
    assert (found["how"], found["verdict"]) == ("Welch", "changed")


@example([0.0, 0.0], [0.0, 7e-108])  # whose square is nothing
@given(st.lists(st.floats(0, 100), min_size=2, max_size=6), st.lists(st.floats(0, 100), min_size=2, max_size=6))
def test_welchs_interval_is_scipys(one, other):
    found = welch(one, other)
    assert found.mean == pytest.approx(np.mean(other) - np.mean(one), abs=1e-9)
    if min(np.std(one), np.std(other)) > 1e-3:
        interval = stats.ttest_ind(other, one, equal_var=False).confidence_interval()
        assert found.half_width == pytest.approx((interval.high - interval.low) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({0: 70.0, 1: 60.0}, {0: 70.0, 1: 60.0}, "the same"),
        ({0: 70.0, 1: 60.0}, {0: 72.0, 1: 62.0}, "changed"),
        ({0: 70.0, 1: 60.0}, {0: 72.0, 1: 58.0}, "within noise"),
        ({0: 70.0}, {0: 72.0}, "one seed: not settled"),
        ({0: 70.0}, {}, "only in the first"),
        ({}, {0: 70.0}, "only in the second"),
    ],
)
def test_verdicts(one, other, said):
    assert cell(one, other)["verdict"] == said


def test_search_costs_as_ratios():
    def spent(seconds, macs):
        return source(
            Sweep()
            .add("tas", 0, "search", device_seconds=seconds, train_macs=macs)
            .add("tas", 0, "teacher", row=False)
            .add("cma_es", 0, "candidate", device_seconds=0.0, train_macs=0)
            .add("cma_es", 0, "teacher", row=False)
        )

    found = search_costs(spent(10.0, 100), spent(15.0, 50)).set_index("method")
    assert found.loc["tas", ["device_seconds_ratio", "train_macs_ratio"]].tolist() == [1.5, 0.5]
    assert pd.isna(found.loc["cma_es", "device_seconds_ratio"])


def test_what_else_is_unlike():
    one = finals({0: 70.0})
    other = Sweep().final("tas", 0, "kd", 0.7, device="a GPU")
    told = unlike(source(one, fixed={"t": 0.05, "kd.t": 1}), source(other, fixed={"t": 0.1, "kd.t": 1, "new": 2}))
    assert told == ["new: not there, then 2", "t: 0.05, then 0.1", "device: none, then a GPU"]
    assert unlike(source(one), source(one)) == []


def test_the_command(tmp_path, capsys, monkeypatch):
    found = {"a": source(finals({0: 70.0, 1: 60.0, 2: 90.0})), "b": source(finals({0: 72.0, 1: 62.0}))}
    monkeypatch.setattr("tas_bench.report.source.read_source", lambda path: found[path.name])
    assert main(["compare", "a", "b"]) == OK
    text = capsys.readouterr().out
    assert "TAS kd" in text
    assert "65.00 (n=2) 67.00 (n=2) +2.00 ± 0.00 paired changed" in " ".join(text.split())
    assert "1 of 1 cells changed beyond the noise of seeds" in text
    assert main(["compare", "a", "a"]) == OK
    assert "0 of 1 cells changed" in capsys.readouterr().out
    assert main(["compare", "a", "b", "--csv"]) == OK
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("dataset,backbone,method,transfer,first,first_n")
    assert err == ""
    found["b"] = replace(found["b"], damaged=("a row",))
    assert main(["compare", "a", "b", "--csv"]) == OK
    assert "left out: a row" in capsys.readouterr().err


def test_nothing_there_is_one_line(tmp_path, capsys):
    assert main(["compare", str(tmp_path / "x"), str(tmp_path / "y")]) == BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1
