"""Advice on made-up trials with a known answer, and the tables it stands in."""

import numpy as np
import pandas as pd
import pytest
from helpers import problem as some_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_bench.jobs import Outcome
from tas_bench.report.cells import cells_of
from tas_bench.report.drawn import drawn
from tas_bench.report.stats import wilson
from tas_bench.tas import Tas
from tas_bench.tune.advice import advise, ranked
from tas_bench.tune.figure import figure
from tas_bench.tune.space import axes_of
from tas_bench.tune.trials import Run, Trial

PROBLEM = some_problem(epochs=2)
AXES = axes_of(["lambda_cost=0.5/1/2/4", "t=0.05/0.1"])


def trial(number, lambda_cost, t, hits, accuracy=0.9, gap=0.01, status="ok"):
    """A trial of searches that hit or missed, all of the same accuracy and gap."""
    job = Tas(search_epochs=2).job(PROBLEM, 0)
    runs = [
        Run(
            job,
            Outcome(
                status=status, size=PROBLEM.backbone.full, derived="argmax" if hit else "in-band", epochs=2,
                argmax_macs=round(PROBLEM.budget * (1 + gap)),
            ),
            Outcome(size=PROBLEM.backbone.full, val_accuracy=accuracy),
        )
        for hit in hits
    ]  # fmt: skip
    return Trial(number, {"lambda_cost": lambda_cost, "t": t}, runs, ("accuracy", "gap"))


def grid(hits, accuracy=lambda lambda_cost, t: 0.9):
    pairs = [(lam, t) for lam in (0.5, 1.0, 2.0, 4.0) for t in (0.05, 0.1)]
    return [trial(i, lam, t, hits(lam, t), accuracy(lam, t)) for i, (lam, t) in enumerate(pairs)]


def test_the_reliable_pairs_come_first_and_of_those_the_most_accurate():
    trials = grid(lambda lam, t: [lam >= 2] * 3, lambda lam, t: 0.95 if lam < 2 else 0.9 - lam / 100)
    assert [p["lambda_cost"] for p in ranked(trials, AXES)][:2] == [4.0, 4.0]  # 2 has misses near by
    trials = grid(lambda lam, t: [True] * 3, lambda lam, t: 0.9 - lam / 100 - t)
    assert ranked(trials, AXES)[0] == {"lambda_cost": 0.5, "t": 0.05}


def test_a_lucky_draw_among_misses_is_not_recommended():
    trials = grid(lambda lam, t: [(lam, t) == (0.5, 0.05) or lam == 4])
    assert ranked(trials, AXES)[0]["lambda_cost"] == 4


def test_equals_are_told_apart_by_their_gap_then_by_their_number():
    trials = [trial(0, 1.0, 0.05, [1], gap=0.04), trial(1, 1.0, 0.1, [1], gap=-0.01)]
    trials = [trials[0], trials[1], trial(2, 2.0, 0.05, [1], gap=-0.04)]
    same = axes_of(["lambda_cost=1/2", "t=0.05/0.1"])
    assert ranked([trials[0], trials[1]], same)[0] == trials[1].params
    assert ranked([trials[0]] * 2, same) == [trials[0].params]


@settings(max_examples=4)
@given(st.permutations(range(8)))
def test_the_order_of_trials_does_not_matter(order):
    trials = grid(lambda lam, t: [lam >= 1, lam >= 2, t > 0.05], lambda lam, t: 0.9 - 0.01 * lam)
    assert ranked([trials[i] for i in order], AXES) == ranked(trials, AXES)


def test_what_fresh_seeds_say_decides():
    trials = grid(lambda lam, t: [True] * 2, lambda lam, t: 0.9 - lam / 100 - t)
    good, bad = trial(8, 1.0, 0.05, [1, 1, 1]), trial(8, 0.5, 0.05, [0, 1, 0])
    advice = advise(trials, [bad, good], AXES)
    assert advice.params == good.params
    assert (advice.hits, advice.n) == (3, 3)
    assert advice.passed_over == (bad,)
    first, second = advice.lines
    assert first == "recommended: lambda_cost = 1, t = 0.05 (accuracy 90.00%, |F - R| / R 1.0%)"
    assert second.startswith(
        "how sure: the argmax lay in the band on 3 of 3 fresh seeds, the best of 2 settings tried on them (95 %"
    )
    assert second.endswith("44% to 100%): not settled")
    assert "the best of" not in advise(trials, [good], AXES).lines[1]


def test_without_fresh_seeds_the_advice_says_so():
    advice = advise(grid(lambda lam, t: [True] * 2), [], AXES)
    assert "2 of 2 seeds it was chosen by" in advice.lines[1]


def test_many_hits_are_sure_and_none_is_no_good():
    sure = advise([trial(0, 1.0, 0.05, [1])], [trial(1, 1.0, 0.05, [1] * 10)], AXES)
    assert sure.lines[1].endswith(": sure")
    none = advise([trial(0, 1.0, 0.05, [0])], [trial(1, 1.0, 0.05, [0] * 3)], AXES)
    assert none.lines[1].endswith(": no good")
    assert advise([trial(0, 1.0, 0.05, [0], status="failed")], [], AXES) is None


def test_a_diverged_search_is_a_miss_and_one_that_ran_out_of_memory_is_none():
    diverged, oom = trial(0, 1.0, 0.05, [0], status="diverged"), trial(0, 1.0, 0.05, [0], status="oom")
    assert (len(diverged.judged), len(oom.judged)) == (1, 0)


# ---------------------------------------------------------------- tables


def searches(lambdas, ts, **changed):
    n = len(lambdas)
    return pd.DataFrame(
        {
            "trial": range(n), "state": "COMPLETE", "fresh": False, "lambda_cost": lambdas, "t": ts,
            "status": "ok", "hit": True, "stopped": False, "gap": 0.02, "oscillation": 0.1, "inside": 0.5,
            "accuracy": 0.9, "search_macs": 1e9, "job_id": [*map(str, range(n))],
        }
        | changed
    )  # fmt: skip


def test_cells_count_hits_and_take_means():
    table = searches([1, 1, 1, 2], [0.05] * 4, hit=[True, False, True, True], gap=[0.1, -0.2, 0.4, 0.0])
    table.loc[3, "status"] = "oom"
    cells = cells_of(table)
    assert cells[["lambda_cost", "t", "n", "hits"]].to_numpy().tolist() == [["1", "0.05", 3, 2]]
    measures = cells[["gap", "gap_half_width", "distance", "inside"]].to_numpy()
    half_width = 4.302653 * 0.3 / np.sqrt(3)  # t(0.975, 2) s / sqrt(n)
    assert measures.tolist() == [pytest.approx([0.1, half_width, 0.7 / 3, 0.5])]
    assert cells[["hit_low", "hit_high"]].to_numpy().tolist() == [pytest.approx(wilson(2, 3))]


@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=40, unique=True),
    st.booleans(),
)
def test_many_values_go_into_bins_and_none_is_lost(values, log):
    cells = cells_of(searches(values, [0.05] * len(values)), ["lambda_cost"] if log else [])
    assert cells["n"].sum() == len(values)
    assert len(cells) <= max(8, 5)


def test_the_picture_can_be_drawn():
    table = searches([0.5, 1, 2, 4] * 2, [0.05] * 4 + [0.1] * 4, trial=list(range(8)))
    traces = pd.DataFrame(
        {"job_id": np.repeat(["0", "1", "2"], 3), "epoch": [1, 2, 3] * 3, "share": np.repeat([1.1, 1.3, 9.0], 3)}
        | {"lambda_cost": 1.0, "t": 0.05}
    )
    table.loc[2, "stopped"] = True
    plot = figure("tune", cells_of(table), table, traces, [0, 3])
    assert [panel.title for panel in plot.panels] == [
        "(F - R) / R of the argmax, mean", "argmax in the band", "oscillation of F_cost / R",
        "validation accuracy", "F_cost over epochs, mean over searches", "Trials",
    ]  # fmt: skip
    assert {word for words in plot.panels[1].words for word in words} == {"1 of 1"}
    assert [len(series.x) for series in plot.panels[-1].series] == [6, 2]
    assert plot.panels[-2].series[0].y == pytest.approx([1.2] * 3), "without the one that was given up"
    assert len(drawn(plot)["png"]) > 10_000
