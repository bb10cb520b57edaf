"""The command's runs, in this process and without Ray; real ones are in `test_real_runs.py`."""

import json
from pathlib import Path

import pytest
from helpers import DEMO, FULL, sets, started
from helpers import tiny as on_all

from tas_bench import latency, train
from tas_bench.backbones.cifar_resnet import RESNET20
from tas_bench.cli import main
from tas_bench.costs import find_cost
from tas_bench.costs.latency import cache_folder
from tas_bench.errors import BAD_INPUT, DAMAGED, FAILED_JOBS, OK
from tas_bench.reading import load


def tiny(*args, **kwargs):
    """On few images."""
    return [*on_all(*args, **kwargs), *sets("train_subset=200")]


def in_band(results, low=0.95, high=1.05):
    """The rows of the sizes trained, after checking that every cost told lies in the band."""
    rows = load(results)
    sizes = rows[rows["kind"].isin(("candidate", "final"))]
    assert set(sizes["method"]) == {"ratio", "random_search"}
    assert (sizes["budget"] * low <= sizes["cost"]).all()
    assert (sizes["cost"] <= sizes["budget"] * high).all()
    return rows


def test_a_run_prints_its_report_and_goes_on_where_it_was(without_ray, capsys):
    assert main([*DEMO, *tiny("ratio")]) == OK
    out, err = capsys.readouterr()
    assert "Pre-defined" in out
    assert "results: out" in err
    assert "1 jobs run, 0 found finished" in err
    first = started("out")

    assert main([*DEMO, *tiny("ratio")]) == OK
    assert "0 jobs run, 1 found finished" in capsys.readouterr().err
    assert started("out") == first

    assert main([*DEMO, *tiny("ratio", seeds="0,1")]) == OK
    assert "1 jobs run, 1 found finished" in capsys.readouterr().err
    assert first.items() < started("out").items()

    assert main([*DEMO, *tiny("random_search"), *sets("trials=2")]) == OK
    out, err = capsys.readouterr()
    assert "3 jobs run, 0 found finished" in err
    assert "Pre-defined" in out, "what earlier runs added stays in the report"
    assert "Random Search" in out
    assert main(["report", "out", "--no-figures"]) == OK
    assert capsys.readouterr().out == f"{out}out/_report/report.html written\n"
    for name in ("table1.md", "table1.csv"):
        assert "Random Search" in (Path("out") / "_report" / name).read_text()


def test_a_budget_in_parameters(without_ray, capsys):
    settings = (
        "backbones=tiny",
        "methods=ratio,random_search",
        "trials=2",
        "transfers=scratch,kd",
        "seeds=0",
        "train_subset=200",
    )
    argv = [*DEMO, *sets("cost=params", "epochs=1", *settings)]
    assert main(argv) == OK
    out = capsys.readouterr().out
    assert "40% of params pruned" in out
    assert "budget R = 6.57 k params ± 5 %; all sizes meet it" in out
    rows = in_band("out")
    assert (rows["cost"] == rows["params"]).all()
    assert set(rows["budget_cost"]) == {"params"}
    assert main([*DEMO, *sets("epochs=1", *settings)]) == BAD_INPUT
    assert "out was made with cost = params, now it is macs" in capsys.readouterr().err


@pytest.fixture
def made_up_latency(monkeypatch, tmp_path_factory):
    """Layers take as long as their weights and outputs are many. Holds the layers measured."""
    found = []

    def seconds(self, chain):
        found.extend(chain)
        weights = [100 + c.kernel**2 * c.c_in * c.c_out + 3 * c.c_out * c.positions for c in chain]
        return [weight * latency.BATCH["cpu"] / 1e9 for weight in weights]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(latency.Bench, "seconds", seconds)
    return found


def test_a_budget_in_latency(without_ray, capsys, made_up_latency):
    settings = (
        "backbones=tiny",
        "methods=ratio,random_search",
        "trials=2",
        "transfers=scratch",
        "seeds=0",
        "train_subset=200",
    )
    argv = [*DEMO, *sets("cost=latency", "epochs=1", *settings)]
    assert main(argv) == OK
    out, err = capsys.readouterr()
    assert err.startswith("measuring the latency of")
    assert "40% of latency pruned" in " ".join(out.split())
    assert "µs latency ± 5 %; all sizes meet it" in out
    rows = in_band("out")
    [name] = set(rows["budget_cost"])
    assert name.startswith("latency:")
    assert json.loads((without_ray / "out" / "_sweep.json").read_text())["fixed"]["cost"] == name
    made_up_latency.clear()
    for again in (argv, [*DEMO, *sets(f"cost={name}", "epochs=1", *settings)]):
        assert main(again) == OK
        assert "0 jobs run" in capsys.readouterr().err
    assert made_up_latency == []
    [table] = cache_folder().glob("*.parquet")
    table.write_text("no parquet")
    assert main(argv) == DAMAGED
    assert "is damaged" in capsys.readouterr().err
    table.unlink()
    assert main(argv) == BAD_INPUT, "measured anew, under another name"
    assert f"out was made with cost = {name}, now it is latency:" in capsys.readouterr().err


@pytest.mark.usefixtures("no_gpu")
def test_nothing_is_measured_for_a_run_that_cannot_be(refused, made_up_latency):
    assert "cifar100 needs its files" in refused("run", "table1", "--set", "cost=latency")
    assert "a job asks for a GPU" in refused(*DEMO, "--set", "cost=latency", "--gpus-per-job", "1")
    assert "no latency table 'mine'" in refused(*DEMO, "--set", "cost=latency:mine")
    assert made_up_latency == []


def test_the_latency_of_a_size(here, capsys, made_up_latency):
    (here / "size.json").write_text(json.dumps(FULL | {"widths": [7] * 19}))
    argv = ["cost", "resnet20", "--classes", "10", "--cost", "latency"]
    assert main([*argv, "--size", "size.json", "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert found["ratio"] == found["latency"] / found["unpruned_latency"] < 1
    assert (
        find_cost(f"latency:{found['table']}").of(RESNET20.layers(10), RESNET20.full) == found["unpruned_latency"]
    )
    made_up_latency.clear()
    assert main(argv) == OK
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == list(found)
    assert (err, made_up_latency) == ("", []), "known already"
    odd = [*argv[:-1], f"latency:{found['table']}", "--size", "size.json"]
    (here / "size.json").write_text(json.dumps(FULL | {"widths": [5] * 19}))
    assert main(odd) == BAD_INPUT
    assert "has no entry for a layer of this size" in capsys.readouterr().err


def test_a_report_of_a_part(without_ray, capsys):
    """Its final training is missing: a cell is empty, and nothing breaks."""
    assert main([*DEMO, *tiny("random_search"), *sets("trials=2")]) == OK
    capsys.readouterr()
    [final] = load("out").query("kind == 'final'")["job_id"]
    (Path("out") / "rows" / f"{final}.parquet").unlink()
    assert main(["report", "out", "--no-figures"]) == OK
    assert "Random Search" in capsys.readouterr().out


def test_a_failed_teacher_is_code_3_and_tried_again(without_ray, capsys, monkeypatch):
    argv = [*DEMO, *tiny("ratio", transfers="scratch,kd")]
    real = train.train

    def fail(job, context):
        if job.role == "teacher":
            raise ValueError("told to\nfail")
        return real(job, context)

    monkeypatch.setattr(train, "train", fail)
    assert main(argv) == FAILED_JOBS
    err = capsys.readouterr().err
    assert "ratio-s0: the teacher of seed 0 ended as failed: ValueError: told to fail\n" in err
    assert "1 job failed; the same command tries again" in err
    assert "Traceback" not in err

    monkeypatch.setattr(train, "train", real)
    assert main(argv) == OK
    assert "3 jobs run, 0 found finished" in capsys.readouterr().err
    teacher = load("out").set_index("kind").loc["teacher"]
    assert (teacher["status"], teacher["attempts"]) == ("ok", 2)


def test_an_error_of_any_text_is_a_row(without_ray, capsys, monkeypatch):
    def fail(job, context):
        raise OSError("no file '\udcff'\n\tat all" + "!" * 1000)

    monkeypatch.setattr(train, "train", fail)
    assert main([*DEMO, *tiny("ratio")]) == FAILED_JOBS
    [error] = load("out")["error"]
    assert error.startswith("OSError: no file '?' at all!!!")
    assert len(error) < 350


def test_one_sample_works_and_warns(without_ray, capsys):
    assert main([*DEMO, *tiny("tas"), *sets("samples=1", "search_epochs=2")]) == OK
    out, err = capsys.readouterr()
    assert "|I| = 1" in " ".join(out.split())
    assert "warning: tas: " in err
    assert load("out").set_index("kind").loc["search", "warning"].startswith("with |I| = 1")


def test_names_that_look_like_markup_are_names(without_ray, capsys):
    assert main(["run", "demo", "--results", "[/red] [bold]", *tiny("ratio")]) == OK
    assert "results: [/red] [bold]\n" in capsys.readouterr().err
    assert len(load("[/red] [bold]")) == 1
