"""The whole report: its files, several problems, searches, and the columns that the README shows."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from report_rows import BUDGET, SWEEP, Sweep, full_sweep, on, shown, used_of

from tas_bench.cli import main
from tas_bench.errors import OK, StoreIOError
from tas_bench.report.searches import searches
from tas_bench.report.table1 import COLUMNS, narrowed
from tas_bench.schema import ROWS, TRAJECTORIES, USES

ROOT = Path(__file__).parents[1]


# --- files ---


def test_csv_holds_every_column_and_reads_back(tmp_path):
    shown(full_sweep(), out_dir=tmp_path / "_report")
    back = pd.read_csv(tmp_path / "_report" / "table1.csv")
    assert list(back.columns) == [*COLUMNS, "dataset", "backbone"]
    assert len(back) == 13
    assert back.set_index("name").loc["TAS w/ KD", "accuracy_mean"] == pytest.approx(75.0)
    assert sorted(path.name for path in (tmp_path / "_report").iterdir()) == [
        "search_cost.csv", "table1.csv", "table1.md",
    ]  # fmt: skip


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
    [line] = searches(used_of(sweep, manifest), narrowed(manifest)[0]).to_dict("records")
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
    rows = ["| column | type | meaning |", "| --- | --- | --- |"]
    for field in schema:
        meaning = field.metadata[b"doc"].decode().replace("|", "\\|")
        rows.append(f"| `{field.name}` | `{field.type}` | {meaning} |")
    assert section.strip() == "\n".join(rows), "paste these rows into results/README.md"


def test_a_directory_that_takes_no_report_is_a_warning(tmp_path, capsys):
    folder = tmp_path / "v"
    shutil.copytree(ROOT / "tests" / "golden" / "store_v4", folder)
    (folder / "_report").touch()
    assert main(["report", str(folder)]) == OK
    out, err = capsys.readouterr()
    assert "TAS" in out
    assert err.startswith("warning: the report is not kept: cannot write ")
    assert err.count("\n") == 1
