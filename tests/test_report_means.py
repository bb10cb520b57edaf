"""What a mean is taken of: no seed under way, no search of a tuning, one set of trainings along a line."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from report_rows import example, parts

from tas_bench.report.parts import Note, Plot, Table
from tas_bench.report.sections.anytime import mean_of
from tas_bench.report.sections.learning import POINTS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return example(tmp_path_factory.mktemp("made"))


def test_anytime_means_by_hand():
    one = (np.array([1.0, 3.0]), np.array([10.0, 20.0]))
    other = (np.array([2.0, 4.0]), np.array([30.0, 50.0]))
    assert mean_of([one, other]) == ([2.0, 3.0, 4.0], [20.0, 25.0, 35.0])
    points = [(np.array([x]), np.array([y])) for x, y in ((1.0, 10.0), (5.0, 40.0))]
    assert mean_of(points) == ([3.0], [25.0])
    many = (np.arange(5000.0), np.arange(5000.0))
    assert len(mean_of([many])[0]) <= POINTS


LEFT = ("Device time / TAS", "Macs / TAS", "Seeds")
"""What depends on others than CMA-ES, or on how many seeds are asked for."""


def of_cma_es(source):
    """What the means over seeds say of CMA-ES: in tables, bars and curves."""
    told = []
    for name in ("search_cost", "anytime", "pareto"):
        for part in parts(source, name):
            if isinstance(part, Table):
                lines = [line for line in part.lines if line[0].text == "CMA-ES"]
                told += [
                    [c.text for c, name in zip(line, part.header, strict=True) if name not in LEFT]
                    for line in lines
                ]
            elif isinstance(part, Plot) and name == "search_cost":
                told += [
                    list(zip(s.x, s.y, strict=True))[list(s.x).index("CMA-ES")] for s in part.panels[0].series
                ]
            elif isinstance(part, Plot) and name == "anytime":
                told += [(s.x, s.y) for panel in part.panels for s in panel.series if s.name == "CMA-ES"]
    return told


def test_a_seed_under_way_bends_no_mean(made):
    two = of_cma_es(replace(made, manifest=made.manifest | {"seeds": [0, 1]}))
    assert len(two) >= 4
    assert two != of_cma_es(made)
    last = made.uses["method"].eq("cma_es") & made.uses["seed"].eq(2)
    searching = replace(made, uses=made.uses[~(last & made.uses["kind"].isin(["teacher", "final"]))])
    assert of_cma_es(searching) == two


def test_before_a_search_is_over_its_curve_is_there_and_says_so(made):
    mine = made.uses["method"].eq("cma_es")
    source = replace(made, uses=made.uses[~(mine & made.uses["kind"].isin(["teacher", "final"]))])
    [plot] = [part for part in parts(source, "anytime") if isinstance(part, Plot)]
    names = {series.name for panel in plot.panels for series in panel.series}
    assert {"CMA-ES, under way", "TAS"} <= names


def test_without_a_search_there_are_no_trajectories(made):
    none = replace(made, trajectories=made.trajectories.iloc[:0])
    assert [type(part) for part in parts(none, "trajectories")] == [Table]


def test_a_seed_without_all_finals_has_no_hypervolume_and_no_time_of_finals(made):
    def told(source):
        [cost, *_] = [part for part in parts(source, "search_cost") if isinstance(part, Table)]
        [area] = [part for part in parts(source, "pareto") if isinstance(part, Table)]
        lines = [next(line for line in table.lines if line[0].text == "TAS") for table in (cost, area)]
        return lines[0][cost.header.index("Finals: device time")].text, lines[1][2].text, lines[1][3].text

    two = told(replace(made, manifest=made.manifest | {"seeds": [0, 1]}))
    cut = replace(made, rows=made.rows[made.rows["job_id"] != "final-tas-2-kd-0"])
    assert told(cut) == two != told(made)
    assert two[2] == "2"


def test_several_precisions_are_told_on_the_page(made):
    rows = made.rows.assign(precision="float32")
    one = replace(made, rows=rows)
    rows = rows.assign(precision=rows["precision"].mask(rows["kind"].eq("teacher"), "bfloat16"))
    two = replace(made, rows=rows)
    told = [[p.text for p in parts(source, "accuracies") if isinstance(p, Note)] for source in (one, two)]
    assert [sum("trainings ran in bfloat16 and float32" in text for text in texts) for texts in told] == [0, 1]


def test_searches_of_a_tuning_are_not_pooled(made):
    tuned = replace(made, manifest=made.manifest | {"fixed": {"tas.over": ["t=0.05,0.1"]}})
    assert parts(made, "trajectories")
    assert parts(tuned, "trajectories") == []


def test_a_learning_curve_is_of_the_same_trainings_all_along(made):
    """Nine flat curves by successive halving: a rung's row has the epochs of the rungs before it, too."""
    curves = [
        {"job_id": f"{i}-{rung}", "epoch": epoch, "val_accuracy": 0.1 + 0.01 * i}
        for i in range(9)
        for rung in (1, 3, 9)[: 1 + (i > 5) + (i > 7)]
        for epoch in range(1, rung + 1)
    ]
    first = made.uses[made.uses["method"].eq("cma_es") & made.uses["kind"].eq("candidate")].head(1)
    keys = sorted({point["job_id"] for point in curves})
    uses = pd.concat([first.assign(job_id=key) for key in keys])
    source = replace(made, curves=pd.DataFrame(curves), uses=uses)
    [plot] = parts(source, "learning")
    [line] = plot.panels[0].series
    assert line.name == "CMA-ES (n = 1, the longest)"
    assert line.y == pytest.approx([18.0] * 9)
