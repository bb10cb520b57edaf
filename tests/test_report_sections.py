"""Sections of the report by hand: verdicts, hypervolumes, anytime means, sizes, Tables 2 and 3, Figure 3."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from report_rows import example, parts

from tas_bench.backbones import find_backbone
from tas_bench.report.drawn import drawn
from tas_bench.report.example import write_example
from tas_bench.report.interactive import figure
from tas_bench.report.parts import Heat, Note, Panel, Plot, Series, Table, number
from tas_bench.report.sections import all_sections
from tas_bench.report.sections.comparisons import compared, compared_transfers, last_transfer
from tas_bench.report.sections.learning import POINTS, thin
from tas_bench.report.sections.sizes import channels
from tas_bench.report.source import read_source
from tas_bench.report.stats import Interval, front, hypervolume, is_settled, verdict
from tas_bench.schema import ROWS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return example(tmp_path_factory.mktemp("made"))


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Interval(0.8, 0.5, 3), "TAS > random by 0.80 ± 0.50, n = 3: not settled, fewer than 5 pairs"),
        (Interval(0.8, 0.5, 5), "TAS > random by 0.80 ± 0.50, n = 5: settled"),
        (Interval(-0.8, 0.5, 5), "random > TAS by 0.80 ± 0.50, n = 5: settled"),
        (Interval(0.8, 0.9, 9), "TAS > random by 0.80 ± 0.90, n = 9: not settled, the interval holds 0"),
        (Interval(-0.001, 0.5, 9), "TAS = random by 0.00 ± 0.50, n = 9: not settled, the interval holds 0"),
        (Interval(0.0, 0.0, 9), "TAS = random by 0.00 ± 0.00, n = 9: not settled, the interval holds 0"),
        (Interval(0.8, None, 1), "TAS > random by 0.80, n = 1: not settled, one pair tells nothing of the spread"),
        (Interval(None, None, 0), "TAS against random: no seed on which both have ended"),
    ],
)
def test_verdicts(difference, said):
    assert verdict("TAS", "random", difference) == said
    assert is_settled(difference) == said.endswith(": settled")


def test_pairs_are_of_the_same_seed_and_problem(made):
    finals = made.finals
    by = finals[finals["transfer"] == "kd"].set_index(["method", "seed"])["accuracy"]
    [pair] = [pair for pair in compared(made, "kd") if {pair.one, pair.other} == {"tas", "ratio"}]
    apart = [by["tas", seed] - by["ratio", seed] for seed in range(3)]
    assert pair.difference.mean == pytest.approx(np.mean(apart))
    assert pair.difference.half_width == pytest.approx(4.302653 * np.std(apart, ddof=1) / np.sqrt(3), rel=1e-5)
    assert len(compared(made, "kd")) == 6


@pytest.mark.parametrize(("reference", "told"), [("tas", 6), ("another", 21)])
def test_many_methods_are_told_against_the_reference_where_there_is_one(made, reference, told):
    known = [each for each in made.manifest["methods"] if each["name"] != "tas"]
    named = [*(f"rival{i}" for i in range(3)), reference]
    methods = [*known, *({"name": name, "label": name} for name in named)]
    pairs = compared(replace(made, manifest=made.manifest | {"methods": methods}), "kd")
    assert len(pairs) == told
    assert (reference == "tas") == all("tas" in (pair.one, pair.other) for pair in pairs)


def test_transfer_modes_are_paired_by_seed(made):
    finals = made.finals
    means = finals.groupby(["transfer", "seed"])["accuracy"].mean()
    pairs = {(pair.one, pair.other): pair.difference for pair in compared_transfers(made)}
    assert list(pairs) == [("kd", "init"), ("kd", "scratch"), ("init", "scratch")]
    for (one, other), found in pairs.items():
        apart = [means[one, seed] - means[other, seed] for seed in range(3)]
        assert (found.mean, found.n) == (pytest.approx(np.mean(apart)), 3)
    cut = made.rows[made.rows["job_id"] != "final-tas-2-kd-0"]
    part = type(made)(made.manifest, cut, made.uses, made.curves, made.trajectories, {})
    rivals = finals[finals["method"] != "tas"].groupby(["transfer", "seed"])["accuracy"].mean()
    assert compared_transfers(part)[1].difference.mean == pytest.approx((rivals["kd"] - rivals["scratch"]).mean())
    assert compared_transfers(part)[1].difference.n == 3
    assert set(compared_transfers(part)[1].over) == {"ratio", "random_search", "cma_es"}
    [*_, table, _] = parts(part, "comparisons")
    assert table.lines[1][0].text.endswith(" (of CMA-ES, Random Search, Pre-defined)")
    none = made.rows[~made.rows["job_id"].str.match("final-tas-.-kd")]
    part_of_three = replace(made, rows=none)
    assert compared_transfers(part_of_three)[1].over == compared_transfers(part)[1].over
    assert compared_transfers(part, ["ratio", "tas"])[1].difference.n == 2, "seeds that have both"
    assert compared_transfers(part)[2] == compared_transfers(made)[2], "what lacks kd alone counts for the others"


def test_verdicts_are_of_the_papers_last_mode(made):
    def told_of(*modes, called=None):
        uses = made.uses.replace({"transfer": called or {}})
        manifest = made.manifest | {"transfers": list(modes)}
        return last_transfer(replace(made, manifest=manifest, uses=uses))

    assert told_of("scratch", "init", "kd") == "kd"
    assert told_of("scratch", "kd", "other", called={"init": "other"}) == "kd"
    assert told_of("other", called={"init": "other"}) == "other"


def test_epochs_are_whole():
    epochs = [*range(1, 21)]
    for name, fractions in (("Epoch", False), ("Hours", True)):
        panel = Panel("p", name, "y", [Series("s", epochs, [1.0] * 20)])
        assert (b">2.5<" in drawn(Plot("p", "p", "p", [panel]))["svg"]) == fractions


POINT = st.tuples(st.integers(1, 20).map(float), st.integers(0, 20).map(float))


@given(st.lists(POINT, max_size=12))
def test_hypervolume_is_optunas(points):
    below = np.array([(cost, -gain) for cost, gain in points if cost <= 15]).reshape(-1, 2)
    expected = compute_hypervolume(below, np.array([15.0, 0.0])) / 15 if len(below) else 0.0
    assert hypervolume(points, 15.0) == pytest.approx(expected)
    kept = front(points)
    assert set(kept) <= set(points)
    for cost, gain in points:
        assert any(c <= cost and g >= gain for c, g in kept)


@given(st.integers(1, 2000))
def test_thinned_curves_keep_their_ends(count):
    kept = thin(count)
    assert len(kept) <= POINTS
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert (np.diff(kept) > 0).all()


def test_number_cells():
    assert number(71.234, "{:.2f}", 0.5, "(n = 3)").text == "71.23 ± 0.50 (n = 3)"
    assert number(-1.0, "{:+.2f}", 0.5).text == "-1.00 ± 0.50"
    assert number(float("nan")).text == ""
    assert number(None, "{}", 3.0).value is None


# ---------------------------------------------------------------- sections


def test_dropped_blocks_have_no_channels():
    backbone = find_backbone("resnet20")
    widths = list(range(1, len(backbone.convs) + 1))
    kept = channels(widths, [3, 1, 2], backbone)
    assert kept[:9] == widths[:9]
    assert kept[9:13] == [0, 0, 0, 0]
    assert kept[13:17] == widths[13:17]
    assert kept[17:] == [0, 0]
    assert channels(widths[1:], [3, 1, 2], backbone) is None


def test_search_cost_is_the_sum_of_what_was_asked_for(made):
    table = next(part for part in parts(made, "search_cost") if isinstance(part, Table))
    by = {line[0].text: dict(zip(table.header, line, strict=True)) for line in table.lines}
    rows = made.rows[(made.rows["kind"] == "candidate") & (made.rows["method"] == "cma_es")]
    assert by["CMA-ES"]["Search: device time"].value == pytest.approx(rows["device_seconds"].sum() / 3)
    assert by["CMA-ES"]["Jobs"].value == 2
    assert by["Pre-defined"]["Search: device time"].text == "0"
    assert by["TAS"]["Macs / TAS"].text == "x 1.00"
    assert by["CMA-ES"]["Quoted GPU-hours"].text == "over 1000"
    assert [by[name]["Quoted / TAS"].text for name in ("Random Search", "CMA-ES")] == ["x 5.22", "over x 261"]


def test_the_papers_points_are_drawn_beside_trainings_of_its_schedule_alone(made):
    def quoted(epochs):
        rows = made.rows.assign(epochs=epochs)
        source = type(made)(made.manifest, rows, made.uses, made.curves, made.trajectories, {})
        plot = next(part for part in parts(source, "pareto") if isinstance(part, Plot))
        return [series.name for series in plot.panels[0].series if "paper" in series.name]

    assert quoted(300) == ["paper, Table 1 (quoted)", "paper, Table 3 (quoted)"]
    assert quoted(30) == []


def test_accuracies_inside_a_supernet_look_otherwise(made):
    plot = next(part for part in parts(made, "anytime") if isinstance(part, Plot))
    looks = {series.name: (series.hollow, series.dashed) for series in plot.panels[0].series}
    assert looks == {"Random Search": (False, False), "CMA-ES": (False, False), "TAS": (True, True)}


def test_what_was_judged_by_images_it_was_trained_on_is_not_drawn(made):
    rows = made.rows.assign(kind=made.rows["kind"].replace("search", "pruning"))
    uses = made.uses.assign(kind=made.uses["kind"].replace("search", "pruning"))
    source = type(made)(made.manifest, rows, uses, made.curves, made.trajectories, {})
    plot = next(part for part in parts(source, "anytime") if isinstance(part, Plot))
    assert [series.name for series in plot.panels[0].series] == ["Random Search", "CMA-ES"]


def test_table_3_beside_ours(made):
    table = next(part for part in parts(made, "rivals") if isinstance(part, Table))
    assert [line[0].text for line in table.lines] == ["LCCL", "SFP", "FPGM", "TAS (D)", "TAS (W)", "TAS"]
    ours = made.finals.query("method == 'tas' and transfer == 'kd'")["accuracy"].mean()
    line = dict(zip(table.header, table.lines[-1], strict=True))
    assert line["Accuracy % (ours)"].value == pytest.approx(ours)
    assert line["Difference, points"].value == pytest.approx(ours - 72.41)
    assert line["Drop (paper)"].value == -1.8
    [told] = [
        part.text for part in parts(made, "rivals") if isinstance(part, Note) and "like for like" in part.text
    ]
    assert told.endswith("instead of 300.")
    halved = replace(made, manifest=made.manifest | {"problems": [{**made.problems[0], "keep": 0.5}]})
    told = [part.text for part in parts(halved, "rivals") if isinstance(part, Note)]
    assert any("50% of the macs kept instead of about 62%" in text for text in told), (
        "the paper pruned 38.5 % there"
    )


def test_table_2_beside_ours(tmp_path):
    write_example(tmp_path, seeds=2, candidates=1, epochs=3)
    source = read_source(tmp_path)
    fixed = {"samples-1.samples": 1, "samples-2.samples": 2, "random_search.samples": 6, "recipe.batch": 50}
    fixed |= {"samples-1.lambda_cost": 2.0, "samples-2.lambda_cost": 2.0}
    methods = [{"name": f"samples-{n}", "label": f"|I| = {n}"} for n in (1, 2)]
    place = {"dataset": "cifar10", "backbone": "resnet32"}
    renamed = source.uses["method"].replace({"tas": "samples-2", "ratio": "samples-1"})
    uses = source.uses.assign(method=renamed, **place)
    manifest = {**source.manifest, "fixed": fixed, "methods": methods, "problems": [{**place, "keep": 0.56}]}
    images = 130 * source.rows["epochs"]  # of each half one batch of 50 and one of 15
    rows = source.rows.assign(images=images, seconds_data=0.5, seconds_train=1.5)
    source = type(source)(manifest, rows, uses, source.curves, source.trajectories, {})
    [table, plot, note, _] = parts(source, "samples")
    assert note.text.startswith("Differences are not like for like: ")
    line = dict(zip(table.header, table.lines[1], strict=True))
    assert [line[name].value for name in ("|I|", "Searches", "Finals")] == [2, 2, 2]
    accuracies = source.finals.query("method == 'samples-2' and transfer == 'kd'")["accuracy"]
    assert line["Accuracy % (ours)"].value == pytest.approx(accuracies.mean())
    assert table.caption.endswith(" (kd)")
    assert line["Accuracy % (paper)"].value == 92.98
    assert line["Search, device-hours (paper)"].value == 3.83
    seconds = source.rows.loc[source.rows["kind"] == "search", "device_seconds"].mean()
    assert line["Search, device-hours (ours)"].value == pytest.approx(seconds / 3600)
    searches = rows[rows["kind"] == "search"]
    assert line["Step, ms"].value == pytest.approx(2000 / (2 * searches["epochs"].iloc[0]))
    assert line["Argmax macs / R"].value == pytest.approx((searches["argmax_macs"] / searches["budget"]).mean())
    assert line["Argmax in band"].text == f"{(searches['derived'] == 'argmax').sum()} of {len(searches)}"
    assert line["Discrepancy"].value == pytest.approx(searches["discrepancy"].mean())
    assert [panel.title for panel in plot.panels] == ["Accuracy %", "Search, device-hours", "Memory, GB"]
    policy = {"name": "random_search", "label": "has samples of another kind"}
    more = replace(source, manifest=manifest | {"methods": [*methods, policy]})
    assert [cell.text for cell in next(zip(*parts(more, "samples")[0].lines, strict=True))] == ["1", "2"]
    same = replace(source, manifest=manifest | {"fixed": fixed | {"samples-1.samples": 2}})
    assert parts(same, "samples") == [], "they differ in something else"
    elsewhere = {**manifest, "problems": [{**manifest["problems"][0], "backbone": "resnet20"}]}
    source = type(source)(
        elsewhere, rows, uses.assign(backbone="resnet20"), source.curves, source.trajectories, {}
    )
    assert not any("like for like" in part.text for part in parts(source, "samples") if isinstance(part, Note))


def test_table_4_beside_ours(made):
    place = {"dataset": "imagenet", "backbone": "resnet18"}
    uses = made.uses.assign(**place)
    rows = made.rows.assign(test_top5=made.rows["test_accuracy"] + 0.2)
    manifest = {**made.manifest, "problems": [{**place, "keep": 0.67}]}
    source = type(made)(manifest, rows, uses, made.curves, made.trajectories, {})
    table = next(part for part in parts(source, "rivals") if isinstance(part, Table))
    assert table.caption == "Table 4, imagenet, resnet18 (kd)"
    assert [line[0].text for line in table.lines] == ["LCCL", "SFP", "FPGM", "TAS"]
    quoted, ours = (dict(zip(table.header, line, strict=True)) for line in table.lines[-2:])
    assert (quoted["Accuracy % (paper)"].value, quoted["Top-5 drop (paper)"].value) == (68.41, 1.15)
    assert quoted["Accuracy % (ours)"].text == quoted["Top-5 % (ours)"].text == ""
    accuracy = source.finals.query("method == 'tas' and transfer == 'kd'")["accuracy"].mean()
    assert ours["Difference, points"].value == pytest.approx(accuracy - 69.15)
    assert ours["Top-5 % (ours)"].value == pytest.approx(accuracy + 20)

    def unlike(epochs):
        source = type(made)(manifest, rows.assign(epochs=epochs), uses, made.curves, made.trajectories, {})
        notes = [part.text for part in parts(source, "rivals") if isinstance(part, Note)]
        return [text for text in notes if "like for like" in text]

    assert unlike(120) == []
    assert [text.endswith(": 300 epochs instead of 120.") for text in unlike(300)] == [True]


def tuning(made, statuses, backbone="resnet32", confirm=0):
    """Searches of two seeds' plans that share one, each with a training of what it found; the section's parts."""
    places = {"dataset": "cifar100", "backbone": backbone}
    full = find_backbone("resnet32").full
    rows, uses, points = [], [], []
    for seed, status in enumerate(statuses):
        problem = {"problem": {"t": 0.05}, "settings": {"lambda_cost": 1.0, "search_epochs": 3}, "seed": seed}
        size = {"widths": list(full.widths), "depths": list(full.depths), "status": status, "budget": 100.0}
        search = {
            "kind": "search",
            "epochs": 3,
            "derived": "argmax",
            "argmax_macs": 110,
            "job": json.dumps(problem),
        }
        trained = {"kind": "candidate", "val_accuracy": 0.5 + 0.1 * seed, "job": json.dumps({"seed": seed})}
        for kind, row in (("search", search), ("candidate", trained)):
            rows.append(places | size | row | {"job_id": f"{kind}{seed}"})
            plans = {max(0, seed - 1), min(seed, 1)}
            uses += [
                places | {"job_id": f"{kind}{seed}", "kind": kind, "seed": plan, "plan": f"p{plan}"}
                for plan in plans
            ]
        costs = ((1, 120.0), (2, 110.0), (3, 100.0))
        points += [{"job_id": f"search{seed}", "epoch": epoch, "f_cost": cost} for epoch, cost in costs]
    manifest = {
        **made.manifest, "name": "x", "seeds": [0, 1], "transfers": [], "problems": [places | {"keep": 0.6}],
        "methods": [{"name": "tune", "label": "TAS, tuned"}],
        "fixed": {"tune.over": ["lambda_cost=1", "t=0.05"], "tune.confirm": confirm},
    }  # fmt: skip
    frames = (
        pd.DataFrame(rows).reindex(columns=ROWS.names),
        pd.DataFrame(uses).assign(sweep="x", method="tune", transfer=None),
    )
    return parts(type(made)(manifest, *frames, made.curves, pd.DataFrame(points), {}), "tuning")


def test_a_search_that_two_plans_share_counts_once(made):
    plot, table, _ = tuning(made, ["ok", "ok", "diverged"])
    line = dict(zip(table.header, table.lines[0], strict=True))
    assert [cell.text for cell in table.lines[0][:3]] == ["1", "0.05", "2 of 3"]
    assert line["(F - R) / R of the argmax"].value == pytest.approx(0.1)
    assert line["(F - R) / R of the argmax"].text == "+10.0% ± 0.0%"
    assert line["|F - R| / R"].value == pytest.approx(0.1)
    assert line["Epochs in the band"].text == "33%"
    assert line["Oscillation of F_cost / R"].value == pytest.approx(0.1)
    assert line["Validation accuracy %"].value == pytest.approx(55)
    assert plot.panels[-1].series[0].y == pytest.approx([1.2, 1.1, 1.0])


def test_searches_that_confirm_are_told_where_there_are_any(made):
    without, note = (tuning(made, ["ok", "ok"], confirm=confirm)[-1].text for confirm in (0, 2))
    assert note == f"{without} Searches that confirm a recommendation are among them."


def test_searches_of_a_backbone_that_is_not_here_have_no_accuracy(made):
    _, table, _ = tuning(made, ["ok", "ok"], backbone="elsewhere")
    assert "Validation accuracy %" not in table.header
    assert table.lines[0][2].text == "2 of 2"


def test_where_every_search_failed_there_is_a_note(made):
    note, _ = tuning(made, ["oom", "failed"])
    assert note.text == "cifar100, resnet32: no search has ended but for a fault of its machine."


def test_figure_3_has_four_panels_where_a_method_is_free(made):
    [plot] = [part for part in parts(made, "trajectories") if isinstance(part, Plot)]
    assert [panel.title.split(",")[0] for panel in plot.panels] == ["F_cost", "Discrepancy"]
    first, *rules = plot.panels[0].series
    assert [first.name, *(rule.name for rule in rules)] == ["TAS (n = 3)", "(1 - t) R", "(1 + t) R"]
    assert first.y.count(None) == 2  # between the three searches
    drawn_points = [(epoch, y) for epoch, y in zip(first.x, first.y, strict=True) if y is not None]
    logged = zip(made.trajectories["epoch"], 1e-6 * made.trajectories["f_cost"], strict=True)
    assert sorted(drawn_points) == sorted(logged)
    methods = [*made.manifest["methods"], {"name": "free", "label": "free"}]
    fixed = made.manifest["fixed"] | {"free.lambda_cost": 0.0}
    search = made.uses[made.uses["kind"] == "search"].assign(method="free")
    both = type(made)(
        {**made.manifest, "methods": methods, "fixed": fixed}, made.rows,
        type(search)(np.vstack([made.uses, search]), columns=made.uses.columns).infer_objects(),
        made.curves, made.trajectories, {},
    )  # fmt: skip
    [plot] = [part for part in parts(both, "trajectories") if isinstance(part, Plot)]
    assert [panel.title for panel in plot.panels] == [
        "F_cost, with the cost's constraint", "Discrepancy, with the cost's constraint", "F_cost, without",
        "Discrepancy, without",
    ]  # fmt: skip


def test_searches_of_one_epoch_are_points(made):
    for epochs, style in ((1, "points"), (2, "line")):
        short = replace(made, trajectories=made.trajectories[made.trajectories["epoch"] <= epochs])
        [plot] = [part for part in parts(short, "trajectories") if isinstance(part, Plot)]
        assert {panel.series[0].style for panel in plot.panels} == {style}


def test_learning_curves_count_the_teacher_once(made):
    [plot] = parts(made, "learning")
    panels = {panel.title: panel for panel in plot.panels}
    assert [series.name for series in panels["teacher scratch"].series] == ["teacher (n = 3)"]
    assert len(panels["final kd"].series) == 4
    curves = load_curves(made, "tas", "kd")
    [series] = [series for series in panels["final kd"].series if series.name == "TAS (n = 3)"]
    assert series.y == pytest.approx((100 * curves).tolist())


def load_curves(made, method, transfer):
    jobs = made.finals.query("method == @method and transfer == @transfer")["job_id"]
    return made.curves[made.curves["job_id"].isin(jobs)].groupby("epoch")["train_accuracy"].mean()


# ---------------------------------------------------------------- drawing


def test_names_on_an_axis_are_no_markup():
    series = Series("s", ["<b>x</b>"], [1.0], "bars")
    [trace] = figure(Panel("p", "x", "y", [series]))["data"]
    assert "<" not in trace["x"][0]


def test_figures_are_what_plotly_takes(made):
    import plotly.graph_objects as go

    plots = [part for section in all_sections() for part in section.make(made) if isinstance(part, Plot)]
    for panel in (panel for plot in plots for panel in plot.panels):
        found = go.Figure(figure(panel))
        assert len(found.data) >= len(panel.series)


def test_a_heat_map_is_what_plotly_and_matplotlib_take():
    import plotly.graph_objects as go

    heat = Heat("p", "x", "y", ("a", "<b>"), ("c",), [[0.5, math.nan]], [["$5", ""]], "zero")
    [cells] = go.Figure(figure(heat)).data
    assert (cells.zmin, cells.zmax, cells.x[1], cells.text[0][0]) == (-0.5, 0.5, "&lt;b&gt;", "$5")
    assert list(map(list, cells.z)) == [[0.5, None]]
    files = drawn(Plot("p", "p", "p", [heat]))
    assert files["png"].startswith(b"\x89PNG")
    assert b"$5" in files["svg"]


def test_bands_leave_out_what_has_no_interval():
    series = Series("a", [1, 2, 3], [1.0, 2.0, float("nan")], "line", 0, [0.5, 0.25, None])
    band, line = figure(Panel("p", "x", "y", [series]))["data"]
    assert band["x"] == [1, 2, 2, 1]
    assert band["y"] == [0.5, 1.75, 2.25, 1.5]
    assert line["y"] == [1.0, 2.0, None]
