"""`tas-bench tune`: real tunings on digits, killed and gone on with; what it refuses; the smoke form."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tas_bench.cli import main
from tas_bench.errors import FAILED_JOBS, OK
from tas_bench.reading import load
from tas_bench.store import Store
from tas_bench.tune.study import open_study

TUNE = [
    "tune", "demo", "--results", "out", "--over", "lambda_cost=0.5/2", "--over", "t=0.05/0.1",
    "--set", "backbones=tiny", "--set", "search_epochs=2", "--set", "train_epochs=1", "--set", "confirm=2",
    "--set", "train_subset=200", "--set", "batch=50", "--quiet",
]  # fmt: skip
STUDY, FILES = "demo-tune-tune-s0", ["tune-tune-s0.csv", "tune-tune-s0.md", "tune-tune-s0.png"]


ENV = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


def command(*argv):
    return [sys.executable, "-m", "tas_bench", *argv]


def tried(results):
    """What the table of searches says, clocks aside."""
    return pd.read_csv(Path(results) / "_report" / FILES[0]).drop(columns="device_seconds")


def in_journal(results):
    study = open_study(STUDY, Path(results) / "_tune" / "optuna.log")
    values = [tuple(t.values or ()) for t in study.get_trials()]  # noqa: PD011
    return [(t.number, t.params, v, t.user_attrs["jobs"]) for t, v in zip(study.get_trials(), values, strict=True)]


# ---------------------------------------------------------------- runs


def test_a_tuning_answers_and_goes_on_where_it_was(without_ray, capsys):
    assert main(TUNE) == OK
    out, err = capsys.readouterr()
    for words in (
        "(F - R) / R of the argmax, mean: lambda_cost x t", "lambda_cost   t = 0.05   t = 0.1", "Pareto front",
        "4 of 4 trials by grid (seed 0)", "recommended: lambda_cost = ", "how sure: the argmax lay",
        "of 2 fresh seeds", f"study '{STUDY}': optuna-dashboard out/_tune/optuna.log",
    ):  # fmt: skip
        assert words in out
    assert sorted(p.name for p in Path("out/_report").iterdir()) == FILES
    assert "0 found finished" in err
    rows, trials, table = load("out"), in_journal("out"), tried("out")
    assert len(trials) == 4
    for _, params, (accuracy, gap, macs), [job] in trials:
        row = rows.set_index("job_id").loc[job]
        assert gap == pytest.approx(abs(row["argmax_macs"] / row["budget"] - 1))
        assert macs == row["train_macs"]
        same = table[(table["job_id"] == job)]
        assert same[["lambda_cost", "t"]].to_numpy().tolist() == [[params["lambda_cost"], params["t"]]]
        assert same["accuracy"].tolist() == pytest.approx([accuracy])
        assert same["hit"].tolist() == [row["derived"] == "argmax"]
    assert sorted(table.loc[table["fresh"], "seed"].unique()) == [1, 2]

    assert main(TUNE) == OK
    assert "0 jobs run" in capsys.readouterr().err
    assert in_journal("out") == trials
    pd.testing.assert_frame_equal(tried("out"), table)
    shutil.rmtree("out/_tune")
    assert main(TUNE) == OK
    assert in_journal("out") == trials, "the study is made again of the rows"
    assert main([*TUNE, "--over", "samples=2/3"]) != OK  # a tuning of something else
    assert "was made with tune.over" in capsys.readouterr().err

    assert main(["report", "out", "--no-figures"]) == OK  # which makes the cells of the rows alone
    told = pd.read_csv("out/_report/tables/tune-digits-tiny.csv", index_col=["lambda_cost", "t"])
    grouped = table.groupby(["lambda_cost", "t"])
    assert told["Argmax in the band"].to_dict() == grouped["hit"].sum().to_dict()
    assert told["Validation accuracy %"].to_dict() == pytest.approx((100 * grouped["accuracy"].mean()).to_dict())
    for measure, column in (("gap", "(F - R) / R of the argmax"), ("oscillation", "Oscillation of F_cost / R")):
        assert told[column].to_dict() == pytest.approx(grouped[measure].mean().to_dict())
    assert main(["check", "out"]) == OK


@pytest.mark.slow
def test_more_trials_add_to_those_there_are_and_a_dry_run_writes_nothing(without_ray, capsys):
    words = [*TUNE[:4], "--over", "lambda_cost=0.5:4:log", *TUNE[8:], "--sampler", "tpe", "--objectives", "gap"]
    assert main([*words, "--trials", "2", "--dry-run"]) == OK
    assert "4 jobs to run" in capsys.readouterr().out
    assert not Path("out").exists()
    assert main([*words, "--trials", "2"]) == OK
    first = in_journal("out")
    assert main([*words, "--trials", "4"]) == OK
    assert in_journal("out")[:2] == first
    assert len(in_journal("out")) == 4


def test_hopeless_searches_are_given_up(without_ray, capsys):
    """Without a cost they stay far from a budget of 90 %."""
    rule = ["--set", "stop_after=0.5", "--set", "stop_off=0", "--set", "keep=0.9"]
    argv = [*TUNE[:5], "lambda_cost=0", *[word.replace("search_epochs=2", "search_epochs=6") for word in TUNE[8:]]]
    assert main([*argv, *rule]) == FAILED_JOBS
    out = capsys.readouterr().out
    rows = load("out")
    assert (rows["kind"] == "search").all()
    assert rows["warning"].str.startswith("given up after epoch 3 of 6: F_cost stayed").all()
    assert "1 given up" in out
    assert "no advice: no trial has come to its end" in out
    assert in_journal("out")[0][2] == ()


@pytest.mark.slow
def test_a_killed_tuning_goes_on_with_the_same_trials(without_ray, monkeypatch):
    assert main(TUNE) == OK
    Path("out").rename("whole")
    monkeypatch.undo()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(*TUNE), cwd=without_ray, env=ENV, start_new_session=True, **quiet)
    rows, journal = Path(without_ray, "out/rows"), Path(without_ray, "out/_tune/optuna.log")
    while process.poll() is None and (len(list(rows.glob("*.parquet"))) < 2 or not journal.exists()):
        time.sleep(0.1)  # the study is kept while it runs
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command(*TUNE), cwd=without_ray, env=ENV, capture_output=True, text=True, timeout=250)
    assert done.returncode == OK, done.stderr
    assert in_journal(without_ray / "out") == in_journal(without_ray / "whole")
    pd.testing.assert_frame_equal(tried(without_ray / "out"), tried(without_ray / "whole"))


@pytest.mark.slow
def test_the_smoke_form_recommends_what_hits_on_fresh_seeds(here):
    began = time.monotonic()
    argv = command("tune", "--smoke", "--results", "out", "--quiet")
    done = subprocess.run(argv, cwd=here, env=ENV, capture_output=True, text=True)
    assert done.returncode == OK, done.stderr
    assert time.monotonic() - began < 300
    table = tried(here / "out")
    fresh = table[table["fresh"]].groupby("trial")["hit"].agg(["sum", "size"])
    assert (fresh["size"] == 3).all()
    assert fresh["sum"].max() >= 2
    assert not set(table.loc[table["fresh"], "seed"]) & set(table.loc[~table["fresh"], "seed"])


# ---------------------------------------------------------------- what is refused

REFUSED = {
    "unknown sweep 'demoo'; did you mean 'demo'?": ["demoo"],
    "unknown sampler 'tpee'; did you mean 'tpe'?": ["demo", "--sampler", "tpee"],
    "unknown setting to tune 'lambda'": ["demo", "--over", "lambda=1/2"],
    "t=0.1:0.02 is a range the wrong way round": ["demo", "--over", "t=0.1:0.02"],
    "a grid needs values of t, not a range: t=V1/V2/..., or --sampler tpe": ["demo", "--over", "t=0.02:0.1"],
    "tune.trials is 0; it must be at least 1": ["demo", "--trials", "0"],
    "tune.trials must be": ["demo", "--trials", "many"],
    "tune.trials is 3; this grid has 15 points": ["demo", "--trials", "3"],
    "unknown objective 'speed'": ["demo", "--objectives", "speed"],
    "tpe has one objective": ["demo", "--sampler", "tpe"],
    "figure3 has 8 TAS to tune": ["figure3"],
    "the budget is in params": ["demo", "--set", "cost=params"],
    "the budget is in latency": ["demo", "--set", "cost=latency"],
    "tas.samples (|I|) is 20": ["demo", "--over", "samples=2/20"],
    "no size has": ["demo", "--over", "t=0/0.1"],
}


@pytest.mark.parametrize("told", REFUSED)
def test_bad_input_is_refused_in_a_line(refused, told):
    assert told in refused("tune", *REFUSED[told])


def test_another_sweeps_directory_is_refused(without_ray, capsys):
    words = ["backbones=tiny", "methods=ratio", "transfers=scratch", "epochs=1", "seeds=0"]
    settings = [word for setting in words for word in ("--set", setting)]
    assert main(["run", "demo", "--results", "runs", "--quiet", *settings]) == OK
    capsys.readouterr()
    assert main(["tune", "demo", "--results", "runs", "--set", "backbones=tiny"]) == 2
    assert "runs holds sweep 'demo', not 'demo-tune'; use another --results" in capsys.readouterr().err
    assert Store(Path("runs")).manifest()["name"] == "demo"


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit):
        main(["tune", "--help"])
    out = capsys.readouterr().out
    for words in ("tas-bench tune --smoke", "--over", "motpe", "tune.stop_after"):
        assert words in out
