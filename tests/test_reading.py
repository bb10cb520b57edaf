"""`load` of one directory or several, of a kind or a sweep; damaged files; the examples of `results/README.md`."""

import re
from pathlib import Path

import pytest

from tas_bench.errors import InputError, StoreDamagedError
from tas_bench.reading import load, read
from tas_bench.report.example import METHODS, write_example
from tas_bench.schema import ROWS

GOLDEN = Path(__file__).parent / "golden"
ONE, OTHER = GOLDEN / "store_v2", GOLDEN / "store_v3"


def test_several_directories_tell_which_is_which():
    both = load(ONE, str(OTHER))
    assert list(both.columns) == ["results", *ROWS.names]
    assert both["results"].tolist() == [str(ONE)] * 2 + [str(OTHER)] * 2
    assert "results" not in load(ONE)
    with pytest.raises(InputError, match="at least one"):
        load()


@pytest.mark.parametrize("table", ["rows", "curves", "trajectories", "uses"])
def test_a_kind_alone(table):
    rows, all_ = load(OTHER), load(OTHER, table=table)
    search = load(OTHER, table=table, kind="search")
    [key] = rows.loc[rows["kind"] == "search", "job_id"]
    assert set(search["job_id"]) == {key}
    assert len(search) == (all_["job_id"] == key).sum()
    assert search.index.tolist() == list(range(len(search)))
    assert load(OTHER, table=table, kind="nothing").empty


def test_a_sweep_alone():
    [name] = load(OTHER)["sweep"].unique()
    assert len(load(OTHER, sweep=name)) == 2
    assert len(load(OTHER, table="curves", sweep=name)) > 0
    assert load(OTHER, table="curves", sweep="another").empty


@pytest.mark.parametrize(("table", "folder"), [("rows", "rows"), ("curves", "_curves"), ("uses", "_uses")])
def test_damaged_files_are_told_or_raise(own_store, table, folder):
    whole = len(read(own_store, table))
    torn = sorted((own_store / folder).iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.raises(StoreDamagedError, match=torn.name):
        load(own_store, table=table)
    told: list[str] = []
    assert len(read(own_store, table, told)) < whole
    assert len(told) == 1
    assert torn.name in told[0]


def test_the_readmes_examples_run_and_agree(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[1] / "results" / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == 2
    for name in ("table1", "again"):
        write_example(tmp_path / "results" / "runs" / name, seeds=2, candidates=2, epochs=3)
    monkeypatch.chdir(tmp_path)
    ours, theirs = {}, {}
    for example, names in zip(examples, (ours, theirs), strict=True):
        exec(compile(example, "README", "exec"), names)
    assert len(ours["both"]) == 2 * len(ours["rows"])
    assert set(ours["finals"]["kind"]) == {"final"}
    assert len(ours["curves"]) == 3 * len(ours["finals"])
    assert len(theirs["rows"]) == len(ours["rows"])
    assert set(theirs["best"]["method"]) == set(METHODS)
    means = ours["done"].groupby(["method", "transfer"])["test_accuracy"].mean()
    for row in theirs["best"].itertuples():
        assert row.accuracy == pytest.approx(means[row.method, row.transfer])
    assert set(theirs["cost"]["method"]) == {"random_search", "cma_es", "tas"}
    assert capsys.readouterr().out
