"""RESULTS.md is what the committed rows say: made again of them, and its tables by other means."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import tiny
from scipy import stats

from sweeps.demo import SWEEP as DEMO
from tas_bench.cli import main
from tas_bench.errors import OK
from tas_bench.reading import load
from tas_bench.report.stats import Interval
from tas_bench.settings import with_settings
from tas_bench.store import Store
from tas_bench.tables import read_row, row_bytes

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
TABLE1, TABLE2, TOLERANCE = (f"replication_{name}" for name in ("cifar100", "samples", "tolerance"))
TRANSFERS = {"scratch": "", "init": " w/ Init", "kd": " w/ KD"}


def packed(sweep, table):
    path = ROOT / "results" / sweep / f"{table}.parquet"
    if not path.is_file():
        pytest.skip(f"no rows of {sweep} yet")
    return pq.read_table(path).to_pandas()


def asked(sweep):
    """Jobs by who asked for them, one line per method, seed and job; of the row what it measured."""
    uses, rows = packed(sweep, "uses"), packed(sweep, "rows")
    own = ["sweep", "dataset", "backbone", "method", "seed", "kind", "transfer"]
    return uses.drop_duplicates(["method", "seed", "job_id", "kind"]).merge(rows.drop(columns=own), on="job_id")


def tables(first):
    """Tables whose first column is called so, as dicts of cells by column."""
    found, lines = [], PAGE.splitlines()
    for i, line in enumerate(lines):
        if line.startswith(f"| {first} |") and lines[i + 1].startswith("| ---"):
            header = cells(line)
            body = []
            for other in lines[i + 2 :]:
                if not other.startswith("|"):
                    break
                body.append(dict(zip(header, cells(other), strict=True)))
            found.append(body)
    return found


def cells(line):
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def told(values, how="{:.2f}"):
    """A mean with its 95 % interval, as the tables write it."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return how.format(values.mean()) if len(values) else ""
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return f"{how.format(values.mean())} ± {how.format((high - low) / 2)}"


@pytest.fixture
def scripts(monkeypatch):
    """The scripts in `results/` can be imported."""
    monkeypatch.syspath_prepend(str(ROOT / "results"))


@pytest.mark.usefixtures("scripts")
def test_it_is_made_of_the_rows():
    import page

    assert page.results_page(ROOT / "results") == PAGE


@pytest.mark.usefixtures("scripts", "without_ray")
def test_a_sweep_is_complete_when_every_job_ended_well():
    import replication

    short = with_settings(
        DEMO, {"backbones": "tiny", "methods": "ratio", "transfers": "kd", "epochs": "1", "seeds": "0"}
    )
    assert not replication.complete(short, Path("packed"))
    assert main(["run", "demo", "--quiet", *tiny("ratio", transfers="kd"), "--results", "whole"]) == OK
    assert main(["pack", "whole", "packed"]) == OK
    assert replication.complete(short, Path("packed"))
    assert not replication.complete(with_settings(short, {"seeds": "0,1"}), Path("packed"))
    row = Store(Path("whole")).row_path(load("whole").query("kind == 'final'")["job_id"].item())
    row.write_bytes(row_bytes(read_row(row).to_pylist()[0] | {"status": "failed"}))
    assert main(["pack", "whole", "packed"]) == OK
    assert not replication.complete(short, Path("packed"))


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (0.5, Interval(1.0, 0.4, 5), "agrees"),
        (0.5, Interval(-1.0, 0.4, 5), "disagrees"),
        (0.5, Interval(1.0, 1.4, 5), "undecided"),
        (0.5, Interval(1.0, None, 1), "undecided"),
        (0.5, Interval(1.0, 0.4, 3), "agrees, but fewer than 5 pairs"),
        (None, Interval(-1.0, 0.4, 5), "the other way round"),
        (0.5, Interval(None, None, 0), "no pair yet"),
    ],
)
def test_claims(theirs, ours, said):
    import page

    assert page.claim("x", theirs, ours).endswith(f"| {ours.n} | {said} |")


def test_every_picture_is_there():
    pictures = re.findall(r"\]\((results/[^)]*)\)", PAGE)
    assert pictures
    assert all((ROOT / path).is_file() for path in pictures)


def test_the_template_claims_no_figures():
    template = (ROOT / "results" / "RESULTS.md.jinja").read_text(encoding="utf-8")
    prose = re.sub(r"\{[{%].*?[%}]\}", "", template, flags=re.DOTALL)
    names = r"CIFAR-100?|ResNet-32|V100|Table [12]|95 %"
    assert re.findall(r".*\d.*", re.sub(names, "", prose)) == []


def test_pilots():
    [lines] = tables("Batch")
    assert sorted(f"batch_{line['Batch']}" for line in lines) == sorted(
        path.name for path in (ROOT / "results" / "pilots").iterdir()
    )
    kinds = {
        "Unpruned": "kind == 'teacher'",
        "Pre-defined": "kind == 'final' and method == 'ratio' and transfer == 'scratch'",
        "w/ Init": "kind == 'final' and method == 'ratio' and transfer == 'init'",
        "w/ KD": "kind == 'final' and method == 'ratio' and transfer == 'kd'",
    }
    for line in lines:
        rows = packed(f"pilots/batch_{line['Batch']}", "rows")
        recipes = [recipe for job in rows["job"] if (recipe := json.loads(job).get("recipe"))]
        assert {recipe["batch"] for recipe in recipes} == {int(line["Batch"])}
        for column, which in kinds.items():
            mine = rows.query(which)
            assert line[column] == told(100 * mine["test_accuracy"])
            assert set(mine["epochs"]) <= {30}
        assert line["Discrepancy of TAS"] == told(rows.query("kind == 'search'")["discrepancy"], "{:.3f}")


def test_table_1():
    jobs = asked(TABLE1).query("status == 'ok'")
    [lines] = [t for t in tables("Method") if "Accuracy % (ours)" in t[0] and "In band" in t[0]]
    labels = {"ratio": "Pre-defined", "random_search": "Random Search", "cma_es": "CMA-ES", "tas": "TAS"}
    by_name = {line["Method"]: line for line in lines}
    for method, label in labels.items():
        for transfer, suffix in TRANSFERS.items():
            mine = jobs[(jobs["kind"] == "final") & (jobs["method"] == method) & (jobs["transfer"] == transfer)]
            line = by_name[label + suffix]
            assert line["Accuracy % (ours)"] == told(100 * mine["test_accuracy"])
            assert line["n"].startswith(f"{len(mine)} of ")
            assert line["Macs"] == (f"{mine['macs'].mean() / 1e6:,.2f} M" if len(mine) else "")
            assert (mine["cost"] / mine["budget"]).between(0.95, 1.05).all()
    teacher = jobs[jobs["kind"] == "teacher"].drop_duplicates("job_id")
    assert by_name["Unpruned (teacher)"]["Accuracy % (ours)"] == told(100 * teacher["test_accuracy"])


def test_search_cost():
    jobs, uses = asked(TABLE1).query("status == 'ok'"), packed(TABLE1, "uses")
    after = uses["kind"].isin(["teacher", "final"])  # is asked for when a search is over
    over = set(uses.loc[after, ["method", "seed"]].itertuples(index=False, name=None))
    search = jobs[~jobs["kind"].isin(["teacher", "final"])]
    search = search[[pair in over for pair in zip(search["method"], search["seed"], strict=True)]]
    macs = search.groupby(["method", "seed"])["train_macs"].sum()
    seconds = search.groupby(["method", "seed"])["device_seconds"].sum()
    [lines] = [t for t in tables("Method") if "Quoted GPU-hours" in t[0]]
    for label, method in (("Random Search", "random_search"), ("CMA-ES", "cma_es"), ("TAS", "tas")):
        [line] = [line for line in lines if line["Method"] == label]
        for column, sums in (("Macs / TAS", macs), ("Device time / TAS", seconds)):
            known = {method, "tas"} <= set(sums.index.get_level_values("method"))
            assert line[column] == (f"x {sums[method].mean() / sums['tas'].mean():.2f}" if known else "")
    assert [line["Quoted GPU-hours"] for line in lines] == ["", "20", "over 1000", "3.83"]


def test_table_2():
    jobs = asked(TABLE2).query("status == 'ok'")
    [lines] = tables("|I|")
    for line in lines:
        mine = jobs[jobs["method"] == f"samples-{line['|I|']}"]
        finals, searches = mine[mine["kind"] == "final"], mine[mine["kind"] == "search"]
        assert line["Accuracy %"] == told(100 * finals["test_accuracy"])
        assert line["Memory, GB"] == told(searches["peak_memory"] / 1e9)


def test_lambda_cost_and_t():
    jobs = asked(TOLERANCE).query("kind == 'search' and status in ('ok', 'diverged')").copy()
    job = jobs["job"].map(json.loads)
    jobs["cell"] = [(f"{j['settings']['lambda_cost']:g}", f"{j['problem']['t']:g}") for j in job]
    [lines] = tables("lambda_cost")
    assert {(line["lambda_cost"], line["t"]) for line in lines} == set(jobs["cell"])
    for line in lines:
        mine = jobs[jobs["cell"] == (line["lambda_cost"], line["t"])]
        error = mine["argmax_macs"] / mine["budget"] - 1
        hits = int((error.abs() <= float(line["t"]))[mine["status"] == "ok"].sum())
        assert line["Argmax in the band"] == f"{hits} of {len(mine)}"
        assert line["(F - R) / R of the argmax"] == f"{error.mean():+.1%}"
