"""The report: what its figures are made of, and how they are shown."""

import csv
import io
import math
import statistics
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tas_bench.errors import StoreIOError
from tas_bench.report import render, report
from tas_bench.report.searches import searches
from tas_bench.report.stats import mean_interval
from tas_bench.report.table1 import COLUMNS, narrowed, published, table1, teacher_row
from tas_bench.schema import ROWS, TRAJECTORIES, USES

ROOT = Path(__file__).parents[1]
BUDGET = 41_480_000.0

SWEEP = {
    "name": "table1_cifar",
    "title": "Table 1",
    "problems": [{"dataset": "cifar100", "backbone": "resnet32", "keep": 0.6}],
    "train_subset": None,
    "t": 0.05,
    "seeds": [0, 1, 2],
    "methods": [
        {"name": "ratio", "label": "Pre-defined"},
        {"name": "random_search", "label": "Random Search"},
        {"name": "cma_es", "label": "CMA-ES"},
        {"name": "tas", "label": "TAS"},
    ],
    "transfers": ["scratch", "init", "kd"],
}


class Sweep:
    """Rows and uses written down by hand."""

    def __init__(self):
        self.rows, self.uses = {}, []

    def add(self, method, seed, kind, transfer=None, *, job=None, row=True, **measures):
        job = job or f"{method}-{seed}-{kind}-{transfer}-{len(self.uses)}"
        self.uses.append(
            {
                "job_id": job,
                "sweep": "table1_cifar",
                "plan": f"{method}-{seed}",
                "method": method,
                "seed": seed,
                "dataset": "cifar100",
                "backbone": "resnet32",
            }
            | {"kind": kind, "transfer": transfer}
        )
        if row:
            self.rows[job] = {"job_id": job, "status": "ok", "kind": kind, "method": method} | measures
        return self

    def final(self, method, seed, transfer, accuracy, macs=41_000_000, **measures):
        measures = {
            "budget": BUDGET,
            "epochs": 300,
            "test_accuracy": accuracy,
            "macs": macs,
            "cost": macs,
        } | measures
        return self.add(method, seed, "final", transfer, **measures)

    @property
    def frames(self):
        return (
            pa.Table.from_pylist(list(self.rows.values()), schema=ROWS).to_pandas(),
            pa.Table.from_pylist(self.uses, schema=USES).to_pandas(),
        )


def full_sweep(shifts=(-0.01, 0.0, 0.01)):
    sweep = Sweep().add("teacher", 0, "teacher", test_accuracy=0.7, macs=69_000_000, epochs=300)
    for seed, shift in enumerate(shifts):
        for i, method in enumerate(("ratio", "random_search", "cma_es", "tas")):
            for j, transfer in enumerate(SWEEP["transfers"]):
                sweep.final(method, seed, transfer, 0.68 + 0.01 * i + 0.02 * j + shift)
        for _ in range(3):
            sweep.add("random_search", seed, "candidate", device_seconds=600.0, train_macs=10**15)
        sweep.add("cma_es", seed, "candidate", device_seconds=9000.0, train_macs=7 * 10**15)
        sweep.add("tas", seed, "search", device_seconds=100.0 * (seed + 1), train_macs=2 * 10**15)
    return sweep


def lines_of(sweep, manifest=SWEEP):
    return table1(*sweep.frames, narrowed(manifest)[0]).set_index("name")


def on(sweep=None, **changes):
    """The manifest with another problem; the sweep's uses are moved to it."""
    for use in sweep.uses if sweep else ():
        use |= {k: v for k, v in changes.items() if k in use}
    return SWEEP | {"problems": [SWEEP["problems"][0] | changes]}


def shown(sweep, manifest=SWEEP, width=100, out_dir=None, **console):
    frames = sweep.frames if isinstance(sweep, Sweep) else sweep
    file = io.StringIO()
    report(*frames, manifest, out_dir, Console(file=file, width=width, **console))
    return file.getvalue()


# --- mean_interval ---


def test_interval_by_hand():
    """For 1, 2, 3: s = 1, t(0.975, 2) = 4.302653, so half = 4.302653 / sqrt(3)."""
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


@pytest.mark.parametrize(("values", "mean"), [([], None), ([68.95], 68.95)])
def test_interval_of_too_few(values, mean):
    found = mean_interval(values)
    assert (found.mean, found.half_width, found.n) == (mean, None, len(values))


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_interval_agrees_with_scipy(values):
    found = mean_interval(values)
    assert found.mean == pytest.approx(statistics.fmean(values))
    error = scipy.stats.sem(values)
    if error > 1e-9:
        low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=error)
        assert found.half_width == pytest.approx((high - low) / 2, rel=1e-6)
    else:
        assert found.half_width == pytest.approx(0, abs=1e-6)


# --- published figures ---


def test_published_table1_is_the_papers():
    paper = published("table1").set_index(["method", "transfer"])
    assert len(paper) == 9
    assert paper.loc[("tas", "kd"), "accuracy"] == 72.41
    assert paper["macs"].groupby("method").unique().map(list).to_dict() == {
        "ratio": [41_100_000],
        "random_search": [42_900_000],
        "tas": [42_500_000],
    }
    assert paper["source"].str.contains("quoted|Table 1").all()


def test_published_lies_where_the_readme_says():
    link = ROOT / "results" / "published"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert (link / "table1.csv").is_file()
    assert (link / "search_cost.csv").is_file()


# --- table1 ---


def test_full_sweep():
    found = lines_of(full_sweep())
    assert list(found.index) == [
        method["label"] + suffix for method in SWEEP["methods"] for suffix in ("", " w/ Init", " w/ KD")
    ]
    assert list(found.reset_index().columns) == list(COLUMNS)
    line = found.loc["TAS w/ KD"]
    assert line["accuracy_mean"] == pytest.approx(75.0)
    assert line["accuracy_half_width"] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert (line["n"], line["planned"], line["failed"], line["in_band"]) == (3, 3, 0, 1.0)
    assert (line["paper_macs"], line["paper_accuracy"]) == (42_500_000, 72.41)
    assert line["difference"] == pytest.approx(75.0 - 72.41)
    assert (line["search_device_seconds_mean"], line["search_n"]) == (200.0, 3)
    assert line["search_device_seconds_half_width"] == pytest.approx(100 * 4.302653 / math.sqrt(3), rel=1e-6)
    random = found.loc["Random Search w/ Init"]
    assert (random["search_device_seconds_mean"], random["search_train_macs_mean"]) == (1800.0, 3e15)
    assert random["search_train_macs_ratio"] == pytest.approx(1.5)
    assert found.loc["Pre-defined", "search_train_macs_mean"] == 0
    assert found.loc["TAS", "search_train_macs_ratio"] == 1


def test_paper_has_no_cma_es():
    line = lines_of(full_sweep()).loc["CMA-ES w/ KD"]
    assert line[["paper_macs", "paper_accuracy", "difference"]].isna().all()
    assert line["n"] == 3


@pytest.mark.parametrize("other", [{"dataset": "digits"}, {"backbone": "resnet20"}])
def test_no_difference_to_another_setting(other):
    sweep = full_sweep()
    manifest = on(sweep, **other)
    found = lines_of(sweep, manifest)
    assert found["difference"].isna().all()
    assert found.loc["TAS", "paper_accuracy"] == 68.95
    assert "no difference is taken" in shown(sweep, manifest)


def test_difference_at_another_scale_is_taken_and_told():
    sweep = full_sweep()
    for row in sweep.rows.values():
        row["train_subset"], row["epochs"] = 2000, 60
    assert lines_of(sweep)["difference"].notna().any()
    scale = "differences are not like for like: 2,000 training images, 60 epochs instead of 300"
    assert scale in shown(sweep, width=200)
    assert "30% of the macs kept" in shown(full_sweep(), on(keep=0.3), width=200)
    assert "not like for like" not in shown(full_sweep(), width=200)


def test_other_data_has_the_papers_caption():
    sweep = full_sweep()
    text = shown(sweep, on(sweep, dataset="digits"))
    assert "paper's figures are CIFAR-100, ResNet-32; no difference is taken" in text
    assert "no difference is taken" not in shown(full_sweep())


def test_sizes_outside_the_band_are_counted_with_its_ends_inside():
    low, high = 0.95 * BUDGET, 1.05 * BUDGET
    sweep = Sweep()
    for seed, macs in enumerate((int(low) + 1, int(high), int(high) + 1)):
        sweep.final("tas", seed, "kd", 0.7, macs=macs)
    line = lines_of(sweep).loc["TAS w/ KD"]
    assert line["in_band"] == pytest.approx(2 / 3)
    assert line["macs_mean"] == pytest.approx((int(low) + 1 + int(high) + int(high) + 1) / 3)


def test_partial_sweep():
    sweep = Sweep().final("tas", 0, "kd", 0.7).add("tas", 0, "search", device_seconds=60.0, train_macs=10)
    sweep.add("tas", 1, "final", "kd", row=False).add("tas", 1, "search", device_seconds=80.0, train_macs=30)
    sweep.add("tas", 2, "search", row=False)
    sweep.add("random_search", 0, "candidate", device_seconds=5.0, train_macs=1)  # still searching
    found = lines_of(sweep)
    line = found.loc["TAS w/ KD"]
    assert (line["n"], line["planned"], line["search_n"]) == (1, 3, 2)
    assert line["search_device_seconds_mean"] == 70.0
    assert pd.isna(line["accuracy_half_width"])
    assert found.loc["TAS", "n"] == 0
    assert found.loc["TAS", ["accuracy_mean", "macs_mean", "in_band", "difference"]].isna().all()
    assert found.loc["Random Search", "search_n"] == 0
    assert pd.isna(found.loc["Random Search", "search_device_seconds_mean"])
    text = shown(sweep)
    assert "70.00 (n=1/3)" in text
    assert "nan" not in text
    assert "<NA>" not in text


def test_search_with_a_missing_candidate_has_no_cost_yet():
    sweep = Sweep().final("random_search", 0, "kd", 0.7)
    sweep.add("random_search", 0, "candidate", device_seconds=5.0, train_macs=1)
    sweep.add("random_search", 0, "candidate", row=False)
    assert lines_of(sweep).loc["Random Search w/ KD", "search_n"] == 0


def test_failed_candidate_counts_with_what_it_cost():
    sweep = Sweep().final("random_search", 0, "kd", 0.7).final("random_search", 0, "init", None, status="oom")
    sweep.add("random_search", 0, "candidate", device_seconds=5.0, train_macs=1)
    sweep.add("random_search", 0, "candidate", device_seconds=2.0, status="timeout", error="took > 60 s")
    sweep.add("random_search", 0, "candidate", status="failed", error="worker died")
    found = lines_of(sweep)
    assert found.loc["Random Search w/ KD", "search_device_seconds_mean"] == 7.0
    assert found.loc["Random Search w/ KD", "failed"] == 2
    assert found.loc["Random Search w/ Init", "failed"] == 3
    assert found.loc["Random Search w/ Init", "n"] == 0
    text = shown(sweep)
    assert "random_search seed 0, candidate: timeout: took > 60 s" in text
    assert "random_search seed 0, final init: oom" in text


def test_search_is_over_once_the_teacher_is_asked_for():
    sweep = Sweep().add("tas", 0, "search", device_seconds=5.0, train_macs=1).add("tas", 0, "teacher", row=False)
    assert lines_of(sweep).loc["TAS", ["search_n", "search_device_seconds_mean"]].tolist() == [1, 5.0]


def test_job_shared_by_two_methods_counts_for_both():
    sweep = (
        Sweep()
        .final("random_search", 0, "kd", 0.7, job="same")
        .add("cma_es", 0, "final", "kd", job="same", row=False)
    )
    sweep.add("random_search", 0, "candidate", job="c", device_seconds=5.0, train_macs=1)
    sweep.add("cma_es", 0, "candidate", job="c", row=False)
    sweep.add("cma_es", 0, "candidate", job="c", row=False)  # asked for again: trained once
    found = lines_of(sweep)
    for name in ("Random Search w/ KD", "CMA-ES w/ KD"):
        assert (found.loc[name, "accuracy_mean"], found.loc[name, "n"]) == (pytest.approx(70.0), 1)
        assert found.loc[name, "search_device_seconds_mean"] == 5.0


def test_other_sweeps_and_seeds_stay_out():
    sweep = Sweep().final("tas", 0, "kd", 0.7).final("tas", 9, "kd", 0.1).final("tas", 1, "kd", 0.2)
    sweep.uses[-1]["sweep"] = "another"
    line = lines_of(sweep).loc["TAS w/ KD"]
    assert (line["n"], line["accuracy_mean"]) == (1, pytest.approx(70.0))


def test_teacher_comes_first_and_counts_once():
    sweep = full_sweep()
    teacher = sweep.uses[0]["job_id"]
    sweep.add("tas", 1, "teacher", job=teacher, row=False)
    found = teacher_row(*sweep.frames, narrowed(SWEEP)[0])
    assert len(found) == 1
    line = found.iloc[0]
    assert (line["name"], line["macs_mean"], line["n"]) == ("Unpruned (teacher)", 69_000_000, 1)
    assert line["accuracy_mean"] == pytest.approx(70.0)
    text = shown(sweep)
    assert text.index("Unpruned (teacher)") < text.index("Pre-defined")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["ok", "oom", "missing"]), max_size=3))
def test_n_counts_finished_seeds_whatever_is_there(states):
    sweep = Sweep()
    for seed, state in enumerate(states):
        sweep.final("tas", seed, "kd", 0.7 if state == "ok" else None, status=state, row=state != "missing")
    line = lines_of(sweep).loc["TAS w/ KD"]
    n = states.count("ok")
    assert line["n"] == n
    assert line["failed"] == states.count("oom")
    assert pd.isna(line["accuracy_mean"]) == (n == 0)
    assert pd.isna(line["accuracy_half_width"]) == (n < 2)


# --- rendering ---


def test_terminal_fits_100_columns():
    text = shown(full_sweep(), width=100)
    assert max(map(len, text.splitlines())) <= 100
    for key in (
        "Random Search w/ Init",
        "75.00 ± 2.48 (n=3)",
        "41.00 M",
        "72.41",
        "quoted",
        "+2.59",
        "x 1.5",
        "30.0 ± 0.0 min",
        "2.0 ± 0.0 P",
        "over 1000",
        "budget R = 41.48 M macs ± 5 %",
        "n < 5: intervals are wide; do not rank by these alone",
    ):
        assert key in text, key


def test_one_seed():
    sweep = Sweep().final("tas", 0, "scratch", 0.6895).add("tas", 0, "search", device_seconds=1.0, train_macs=5)
    assert "68.95 (n=1)" in shown(sweep, SWEEP | {"seeds": [0]})


def test_no_footnote_with_enough_seeds():
    sweep = Sweep().add("teacher", 0, "teacher", test_accuracy=0.7)
    for seed in range(5):
        sweep.final("tas", seed, "kd", 0.7)
    manifest = SWEEP | {"seeds": list(range(5)), "methods": SWEEP["methods"][-1:], "transfers": ["kd"]}
    assert "n < 5" not in shown(sweep, manifest)


def test_best_of_each_transfer_mode_is_bold(tmp_path):
    sweep = full_sweep(shifts=(-0.02, -0.01, 0.0, 0.01, 0.02))
    manifest = SWEEP | {"seeds": list(range(5))}
    for use in sweep.uses:  # TAS is best everywhere, but its KD sizes miss the budget
        if use["method"] == "tas" and use["transfer"] == "kd":
            sweep.rows[use["job_id"]] |= {"macs": 60_000_000, "cost": 60_000_000}
    text = shown(sweep, manifest, out_dir=tmp_path, force_terminal=True)
    markdown = (tmp_path / "table1.md").read_text()
    for name, accuracy in (("TAS", "71.00"), ("TAS w/ Init", "73.00"), ("CMA-ES w/ KD", "74.00")):
        assert f"| **{name}** |" in markdown
        assert f"**{accuracy} ± 1.96 (n=5)**" in markdown
        assert f"\x1b[1m{accuracy} ± 1.96 (n=5)" in text
    assert "**TAS w/ KD**" not in markdown


def test_nothing_is_bold_below_five_seeds():
    assert (
        "\x1b[1m" not in shown(full_sweep(), force_terminal=True).split("Search cost")[0].split("Pre-defined")[1]
    )


def test_warnings_are_listed_and_repeats_counted():
    sweep = full_sweep().add("tas", 0, "search", warning="decided nothing", device_seconds=1.0, train_macs=1)
    for _ in range(40):
        sweep.add("cma_es", 1, "candidate", status="oom", error="out of memory")
    text = shown(sweep, width=200)
    assert "tas seed 0: decided nothing" in text
    assert "cma_es seed 1, candidate: oom: out of memory (40 times)" in text


def test_a_long_list_of_failures_is_cut():
    sweep = full_sweep()
    for i in range(50):
        sweep.add("cma_es", 1, "candidate", status="failed", error=f"error {i}")
    text = shown(sweep, width=200)
    assert "and 30 more failed jobs" in text
    assert "error 49" not in text


def test_several_devices_are_told():
    sweep = full_sweep()
    for i, row in enumerate(sweep.rows.values()):
        row["device"] = f"GPU {i % 2}"
    assert "several devices (GPU 0, GPU 1)" in shown(sweep, width=200)


HOSTILE = "a|b`c`[red]x[/red]<script>&\x1b[31m\n\u202e*_\\"


def test_hostile_names_are_escaped(tmp_path):
    manifest = SWEEP | {"title": HOSTILE, "methods": [{"name": "tas", "label": HOSTILE}]}
    sweep = Sweep().final("tas", 0, "kd", None, status="failed", error=HOSTILE)
    text = shown(sweep, manifest, width=300, out_dir=tmp_path)
    assert "a|b`c`[red]x[/red]<script>&" in text  # no markup is taken
    markdown = (tmp_path / "table1.md").read_text()
    assert r"a\|b\`c\`\[red\]x\[/red\]&lt;script&gt;&amp;" in markdown
    for out in (text, markdown):
        assert "\x1b" not in out
        assert "\u202e" not in out
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    bars = {line.replace(r"\|", "").count("|") for line in table[:5]}
    assert bars == {8}
    cells = list(csv.reader(io.StringIO((tmp_path / "table1.csv").read_text())))
    assert cells[1][0] == HOSTILE


@given(st.text())
def test_escaped_text_cannot_break_a_table(text):
    escaped = render.escape(text)
    assert "\n" not in escaped
    assert "<" not in escaped
    plain = escaped.replace("\\\\", "")
    assert plain.count("|") == plain.count("\\|")


@pytest.mark.parametrize(
    "frames",
    [
        (ROWS.empty_table().to_pandas(), USES.empty_table().to_pandas()),
        (pd.DataFrame(), pd.DataFrame()),
        (ROWS.empty_table().to_pandas(), full_sweep().frames[1]),
        (pd.DataFrame(), full_sweep().frames[1]),
        (full_sweep().frames[0], pd.DataFrame()),
    ],
)
def test_empty_frames(frames, tmp_path):
    text = shown(frames, out_dir=tmp_path)
    assert "Pre-defined w/ KD" in text
    assert "budget R = 60 % of the unpruned network's macs ± 5 %" in text
    assert "nan" not in text
    assert len(pd.read_csv(tmp_path / "table1.csv")) in (12, 13)


def test_all_failed():
    sweep = full_sweep()
    for row in sweep.rows.values():
        row |= {"status": "oom", "error": "out of memory", "test_accuracy": None, "macs": None}
    text = shown(sweep)
    assert "(n=0/3)" in text
    assert "tas seed 0: oom: out of memory" in text


def test_csv_holds_every_column_and_reads_back(tmp_path):
    shown(full_sweep(), out_dir=tmp_path / "_report")
    back = pd.read_csv(tmp_path / "_report" / "table1.csv")
    assert list(back.columns) == [*COLUMNS, "dataset", "backbone"]
    assert len(back) == 13
    assert back.set_index("name").loc["TAS w/ KD", "accuracy_mean"] == pytest.approx(75.0)
    assert sorted(path.name for path in (tmp_path / "_report").iterdir()) == ["table1.csv", "table1.md"]


def test_unwritable_folder_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreIOError, match=r"cannot write .*table1.md: ") as caught:
        shown(full_sweep(), out_dir=tmp_path / "file" / "_report")
    assert "\n" not in str(caught.value)


def test_failed_replace_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "table1.md").write_text("old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(StoreIOError, match="No space left"):
        shown(full_sweep(), out_dir=tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"table1.md": "old"}


# --- several problems, searches ---


def test_every_problem_has_tables_of_its_own(tmp_path):
    one, other = full_sweep(), full_sweep()
    on(other, backbone="resnet56")
    for sweep in (one, other):
        for use in sweep.uses:
            use["job_id"] += use["backbone"]
        sweep.rows = {row["job_id"]: row for row in sweep.rows.values()}
        for row in sweep.rows.values():
            row["job_id"] += sweep.uses[0]["backbone"]
    for row in other.rows.values():
        row["test_accuracy"] = None if row.get("test_accuracy") is None else row["test_accuracy"] - 0.2
    one.rows |= {f"{k}-other": row for k, row in other.rows.items()}
    one.uses += other.uses
    manifest = SWEEP | {"problems": [*SWEEP["problems"], *on(backbone="resnet56", keep=0.5)["problems"]]}
    text = shown(one, manifest, out_dir=tmp_path, width=200)
    assert text.count("Pre-defined w/ KD") == 2
    assert "cifar100, resnet32, 40% of macs pruned" in text
    assert "cifar100, resnet56, 50% of macs pruned" in text
    back = pd.read_csv(tmp_path / "table1.csv").set_index(["backbone", "name"])["accuracy_mean"]
    assert back["resnet32"]["TAS w/ KD"] == pytest.approx(75.0)
    assert back["resnet56"]["TAS w/ KD"] == pytest.approx(55.0)


def searched(transfers=()):
    sweep = Sweep()
    for seed, (share, derived) in enumerate(((1.0, "argmax"), (1.2, "in-band"))):
        sweep.add(
            "tas", seed, "search", budget=BUDGET, budget_cost="macs",
            argmax_macs=round(share * BUDGET), derived=derived,
            discrepancy=0.3 + 0.2 * seed, val_accuracy=0.5, device_seconds=60.0, peak_memory=2**30,
        )  # fmt: skip
    sweep.add("tas", 2, "search", status="diverged", error="the loss became nan in epoch 3, step 4")
    return sweep, SWEEP | {"methods": SWEEP["methods"][-1:], "transfers": list(transfers)}


def test_searches_by_hand():
    sweep, manifest = searched()
    [line] = searches(*sweep.frames, narrowed(manifest)[0]).to_dict("records")
    assert (line["name"], line["n"]) == ("TAS", 2)
    assert line["argmax_share_mean"] == pytest.approx(1.1)
    assert line["met_mean"] == 0.5
    assert line["discrepancy_mean"] == pytest.approx(0.4)
    # t(0.975, 1) = 12.7062, s = 0.2 / sqrt(2)
    assert line["discrepancy_half_width"] == pytest.approx(12.7062 * 0.1, rel=1e-4)
    assert (line["val_accuracy_mean"], line["device_seconds_mean"]) == (50.0, 60.0)


@pytest.mark.parametrize("transfers", [(), ("kd",)])
def test_a_sweep_that_only_searches_has_its_searches_told(tmp_path, transfers):
    sweep, manifest = searched(transfers)
    text = shown(sweep, manifest, out_dir=tmp_path, width=120)
    assert "1.10 ± 1.27" in text
    assert "50%" in text
    assert "1.00 GiB" in text
    assert "2/3" in text
    assert "tas seed 2: diverged: the loss became nan in epoch 3, step 4" in text
    assert ("TAS w/ KD" in text) == bool(transfers)
    assert len(pd.read_csv(tmp_path / "searches.csv")) == 1


# --- results/README.md ---


@pytest.mark.parametrize(("name", "schema"), [("rows", ROWS), ("uses", USES), ("trajectories", TRAJECTORIES)])
def test_readme_shows_the_schema(name, schema):
    text = (ROOT / "results" / "README.md").read_text()
    section = text.split(f"<!-- {name}: ", 1)[1].split("-->\n", 1)[1].split("<!-- end -->", 1)[0]
    assert section.strip() == render.columns_table(schema), "paste what columns_table gives into results/README.md"
