"""How the report is shown: what is bold, what is told below the tables, and hostile text."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_rows import SWEEP, Sweep, full_sweep, shown

from tas_bench.report import render
from tas_bench.schema import ROWS, USES
from tas_bench.text import one_line


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
    assert cells[1][0] == one_line(HOSTILE)


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
