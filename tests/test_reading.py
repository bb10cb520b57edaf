"""`load` of one directory or several, of a kind or a sweep, and what is done about files that are damaged."""

from pathlib import Path

import pytest

from tas_bench.errors import InputError, StoreDamagedError
from tas_bench.reading import load, read
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
