"""The tables of RESULTS.md by other means, and tried on small made-up sweeps, for where rows are not there yet."""

import json
import re
import shutil
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from results_page import (
    LABELS,
    ROOT,
    SHORT,
    TABLE1,
    TRANSFERS,
    mean_and_half,
    told,
    told_apart,
    told_in,
)

from tas_bench.cli import main
from tas_bench.errors import OK


@pytest.mark.slow
@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("kept", [0, 1, 3, 8, 20])
def test_a_part_of_the_rows_makes_a_page(small, tmp_path, kept):
    """Whatever has ended when a replication is stopped."""
    import page

    for name in ("RESULTS.md.jinja", "pilots"):
        (tmp_path / name).symlink_to(ROOT / "results" / name)
    for name in SHORT:
        part = shutil.copytree(small.rows / "runs" / name, tmp_path / "runs" / name)
        (part / "_results.parquet").unlink(missing_ok=True)
        rows = sorted((part / "rows").iterdir(), key=lambda path: path.stat().st_mtime)
        for row in rows[kept:]:
            for folder in ("rows", "_curves", "_trajectories"):
                (part / folder / row.name).unlink(missing_ok=True)
        assert main(["pack", str(part), str(tmp_path / name)]) == OK
    text = page.results_page(tmp_path, figures=kept == 8)
    assert not re.search(r"\b(nan|None)\b|: *\.|:  |, ,|, \.", text)


def test_pilots(page):
    lines = page.table("Batch")
    folders = sorted((ROOT / "results" / "pilots").iterdir())
    assert sorted(f"batch_{line['Batch']}" for line in lines) == [path.name for path in folders]
    for line in lines:
        rows = page.packed(f"pilots/batch_{line['Batch']}", "rows")
        recipes = [recipe for job in rows["job"] if (recipe := json.loads(job).get("recipe"))]
        assert {recipe["batch"] for recipe in recipes} == {int(line["Batch"])}
        tested = rows[rows["test_accuracy"].notna()]
        assert set(tested["epochs"]) == {30}
        names = LABELS | {"teacher": "Unpruned"}
        expected = {
            names[row.method] + TRANSFERS[row.transfer]: f"{100 * row.test_accuracy:.2f}"
            for row in tested.itertuples()
        }
        shown = {name: cell for name, cell in line.items() if cell and name not in ("Batch", "Discrepancy of TAS")}
        assert shown == expected
        assert line["Discrepancy of TAS"] == told(rows.query("kind == 'search'")["discrepancy"], "{:.3f}")


def test_table_1(page):
    jobs = page.asked(TABLE1)
    lines = page.table("Method", "Accuracy % (ours)", "In band")
    by_name = {line["Method"]: line for line in lines}
    quoted = pd.read_csv(ROOT / "results" / "published" / "table1.csv").set_index(["method", "transfer"])
    for method, label in LABELS.items():
        for transfer in page.manifest(TABLE1)["transfers"]:
            suffix = TRANSFERS.get(transfer, f" w/ {transfer}")
            mine = jobs[(jobs["kind"] == "final") & (jobs["method"] == method) & (jobs["transfer"] == transfer)]
            line = by_name[label + suffix]
            assert line["Accuracy % (ours)"] == told(100 * mine["test_accuracy"])
            assert line["n"].startswith(f"{len(mine)} of ")
            assert line["Macs"] == (f"{mine['macs'].mean() / 1e6:,.2f} M" if len(mine) else "")
            assert (mine["cost"] / mine["budget"]).between(0.95, 1.05).all()
            assert line["In band"] == ("100%" if len(mine) else "")
            theirs = quoted.reindex([(method, transfer)]).iloc[0]
            assert line["Accuracy % (paper)"] == (
                "" if np.isnan(theirs["accuracy"]) else f"{theirs['accuracy']:.2f}"
            )
            assert line["Macs (paper)"] == ("" if np.isnan(theirs["macs"]) else f"{theirs['macs'] / 1e6:.2f} M")
    teacher = jobs[jobs["kind"] == "teacher"].drop_duplicates("job_id")
    assert by_name["Unpruned (teacher)"]["Accuracy % (ours)"] == told(100 * teacher["test_accuracy"])


def test_orders(page):
    finals = page.asked(TABLE1).query("kind == 'final'")
    cells = pd.MultiIndex.from_product([LABELS, TRANSFERS])
    ours = 100 * finals.pivot_table("test_accuracy", "seed", ["method", "transfer"]).reindex(columns=cells)
    theirs = pd.read_csv(ROOT / "results" / "published" / "table1.csv").pivot_table(
        "accuracy", "method", "transfer"
    )
    both = [method for method in LABELS if method in theirs.index]
    expected = {}
    for one, other in (("kd", "init"), ("kd", "scratch"), ("init", "scratch")):
        whole = ours[[(method, mode) for method in both for mode in (one, other)]].dropna()  # seeds that have both
        by_method = [whole[method, one] - whole[method, other] for method in both]
        gap = np.mean([theirs.loc[method, one] - theirs.loc[method, other] for method in both])
        expected[f"{one} above {other}"] = gap, sum(by_method) / len(both)
    for mode in TRANSFERS:
        for one, other in (("tas", "ratio"), ("tas", "random_search"), ("ratio", "random_search")):
            gap = theirs.loc[one, mode] - theirs.loc[other, mode]
            if gap < 0:
                one, other, gap = other, one, -gap
            apart = (ours[one, mode] - ours[other, mode]).dropna()
            expected[f"{LABELS[one]} above {LABELS[other]}, {mode}"] = gap, apart
    lines = page.table("Order")
    assert [line["Order"] for line in lines] == list(expected)
    for line in lines:
        gap, apart = expected[line["Order"]]
        assert line["Paper (quoted), points"] == f"{gap:+z.2f}"
        assert (line["Ours, points"], line["n"]) == (told(apart, "{:+z.2f}"), str(len(apart)))
        assert line["Without seed 0"] == told(apart.drop(0, errors="ignore"), "{:+z.2f}")
        mean, half = mean_and_half(apart)
        signed = half is not None and abs(mean) > half
        same = len(apart) and apart.mean() * gap > 0
        few, many = ("same sign", "agrees") if same else ("opposite sign", "disagrees")
        undecided = "undecided" if len(apart) else "no pair yet"
        assert line[""] == ((many if len(apart) >= 5 else few) if signed else undecided)
    verdicts = [line[""] for line in lines]
    found = re.search(rf"Orders in the paper's Table 1: {len(lines)}; here (.*)\.", page.text)[1]
    assert sorted(found.split(", ")) == sorted(f"{verdicts.count(each)} {each}" for each in set(verdicts))
    for verdict in {"agrees", "disagrees", "same sign", "opposite sign"} & set(verdicts):
        names = [f"{line['Order']}, n = {line['n']}" for line in lines if line[""] == verdict]
        assert f"- {verdict.capitalize()}: {'; '.join(names)}." in page.text
    apart = [(ours["tas", mode] - ours[rival, mode]).dropna() for mode in TRANSFERS for rival in list(LABELS)[:-1]]
    found = [mean_and_half(each) for each in apart if len(each)]
    signed = sum(half is not None and abs(mean) > half for mean, half in found)
    means = sorted(mean for mean, _ in found)
    ends = f"means {means[0]:+z.2f} to {means[-1]:+z.2f}"
    assert (
        f"TAS less a rival: {signed} of {len(means)} differences have an interval without zero; {ends}."
        in page.text
    )


def test_how_far_apart_methods_must_be(page):
    jobs = page.asked(TABLE1).query("kind == 'final'")
    found = {mode: told_apart(jobs.query("transfer == @mode")) for mode in TRANSFERS}
    told_so = [f"{each[0]} ({mode}, n = {each[1]})" for mode, each in found.items() if each]
    theirs = [float(line["Paper (quoted), points"]) for line in page.table("Order") if line["Order"][:3] == "TAS"]
    margins = f"TAS's margins in the paper (quoted) are {min(theirs):.2f} to {max(theirs):.2f}"
    assert told_so
    needed = "Points that two methods must be apart to be told apart"
    assert f"{needed}: {', '.join(told_so)}; {margins}." in page.text


def test_pairs(page):
    jobs, modes = page.asked(TABLE1).query("kind == 'final'"), page.manifest(TABLE1)["transfers"]
    cells = pd.MultiIndex.from_product([LABELS, modes])
    ours = 100 * jobs.pivot_table("test_accuracy", "seed", ["method", "transfer"]).reindex(columns=cells)
    names = {name: LABELS[name] for name in ("tas", *list(LABELS)[:-1])}
    tables = {
        f"Accuracy of final trainings ({mode}), same seed and problem": {
            (names[one], names[other]): (ours[one, mode] - ours[other, mode]).dropna()
            for one, other in combinations(names, 2)
        }
        for mode in modes
    }
    by_mode = {}
    for one, other in combinations(modes[::-1], 2):
        apart = pd.DataFrame({name: ours[name, one] - ours[name, other] for name in LABELS}).dropna(how="all")
        by_mode[one, other] = apart.dropna(axis=1).mean(axis=1).dropna()
    tables["Accuracy by transfer mode, mean over methods, same seed and problem"] = by_mode
    for caption, pairs in tables.items():
        known = {names: apart for names, apart in pairs.items() if len(apart)}
        lines = page.below(caption).table("Pair", "Verdict") if known else []
        assert [line["Pair"] for line in lines] == [f"{one} - {other}" for one, other in known]
        for line, ((one, other), apart) in zip(lines, known.items(), strict=True):
            assert line["Difference, points"] == told(apart, "{:+z.2f}")
            assert line["Pairs"] == str(len(apart))
            mean, half = mean_and_half(apart)
            shown = told(apart, "{:+z.2f}")
            order = {"-": f"{other} &gt; {one}", "+": f"{one} &gt; {other}"}[shown[0]]
            if shown.startswith("+0.00"):
                order = f"{one} = {other}"
            assert line["Verdict"].startswith(f"{order} by {shown[1:]}, n = {len(apart)}: ")
            settled = half is not None and half < abs(mean) and len(apart) >= 5
            assert line["Verdict"].endswith(": settled") == settled


def test_search_cost(page):
    jobs, uses = page.asked(TABLE1), page.packed(TABLE1, "uses")
    after = uses["kind"].isin(["teacher", "final"])  # is asked for when a search is over
    over = set(uses.loc[after, ["method", "seed"]].itertuples(index=False, name=None))
    jobs = jobs[[pair in over for pair in zip(jobs["method"], jobs["seed"], strict=True)]]
    part = jobs["kind"].map({"teacher": "Teacher", "final": "Finals"}).fillna("Search")

    def sums(method, which, column):
        mine = jobs[(jobs["method"] == method) & (part == which)]
        seeds = sorted({seed for name, seed in over if name == method})
        if which == "Finals":  # of seeds that have them all
            modes = page.manifest(TABLE1)["transfers"]
            seeds = [seed for seed in seeds if set(mine.loc[mine["seed"] == seed, "transfer"]) == set(modes)]
        return mine.groupby("seed")[column].sum().reindex(seeds, fill_value=0)

    def epochs_of(job):
        job = json.loads(job)
        return job.get("problem", job)["recipe"]["epochs"]

    paper = {"search": 600, "candidate": 300}
    images = (page.asked(TABLE1).query("kind == 'teacher'").eval("images / epochs")).max()
    lines = {line["Method"]: line for line in page.table("Method", "Quoted GPU-hours")}
    for method, label in LABELS.items():
        line = lines[label]
        for which in ("Search", "Teacher", "Finals"):
            assert line[f"{which}: device time"] == told_in("seconds", sums(method, which, "device_seconds"))
        macs, seconds = sums(method, "Search", "train_macs"), sums(method, "Search", "device_seconds")
        assert line["Search: training macs"] == told_in("macs", macs)
        for column, mine in (("Macs / TAS", macs), ("Device time / TAS", seconds)):
            name = "train_macs" if mine is macs else "device_seconds"
            reference = sums("tas", "Search", name)
            both = [seed for seed in mine.index if seed in reference.index]
            ratio = np.mean([mine[seed] / reference[seed] for seed in both]) if both else None
            assert line[column] == (f"x {ratio:.2f}" if both else "")
        search = jobs[(jobs["method"] == method) & (part == "Search")]
        assert line["Jobs"] == (f"{len(search) / len(macs):.4g}" if len(macs) else "")
        longer = [paper[kind] / epochs_of(job) for kind, job in zip(search["kind"], search["job"], strict=True)]
        hours = (search["device_seconds"] * longer).sum() * 50_000 / images / 3600
        told_so = line["Hours at the paper's schedule (estimate)"]
        assert told_so == (f"{hours / len(macs):.3g}" if len(search) else "")
        assert line["Seeds"].startswith(f"{len(macs)} of ")
    assert [line["Quoted GPU-hours"] for line in lines.values()] == ["", "20", "over 1000", "3.83"]
    assert [line["Quoted / TAS"] for line in lines.values()] == ["", "x 5.22", "over x 261", "x 1"]


@pytest.mark.usefixtures("scripts")
def test_finals_of_an_earlier_teacher_are_told():
    import page

    source = page.read_source(ROOT / "results" / TABLE1)
    teacher, started = source.rows["kind"].eq("teacher"), source.rows["started"]
    source.rows.loc[teacher, "started"] = started.min()
    assert "trained again" not in page.scale(source)
    source.rows.loc[teacher & source.rows["seed"].eq(1), "started"] = started.max() + pd.Timedelta(days=1)
    taught = source.rows.query("kind == 'final' and seed == 1 and transfer != 'scratch'")
    found = re.search(rf"; {len(taught)} finals learned from .* afterwards \(seed 1: (.*)\)\.", page.scale(source))
    assert set(found[1].split(", ")) == {LABELS[name] for name in taught["method"]}


@pytest.mark.parametrize("sweep", list(SHORT))
def test_what_was_run(page, sweep):
    rows, uses = page.packed(sweep, "rows"), page.packed(sweep, "uses")
    rows = rows[rows["job_id"].isin(uses["job_id"])]  # others were superseded
    section = page.section(sweep)
    ended = set(rows.loc[rows["status"] == "ok", "job_id"]) & set(uses["job_id"])
    spent = told_in("seconds", [rows["device_seconds"].sum()])
    asked = f"{len(ended)} of the {uses['job_id'].nunique()} jobs asked for so far ended well"
    taught = rows.query("kind == 'final' and transfer != 'scratch'")
    teachers = rows[rows["kind"] == "teacher"].set_index("seed")["started"].to_dict()
    early = [final for final in taught.itertuples() if final.started < teachers[final.seed]]
    [told_so] = re.findall(rf"- Rows: {asked}, {spent} of device time(.*)\.", section)
    count, by_seed = re.fullmatch(r"(?:; (\d+) finals learned from .* afterwards \((.*)\))?", told_so).groups()
    assert count == (str(len(early)) if early else None)
    whose = {f"{final.seed}: {LABELS[final.method]}" for final in early}
    seeds = [each.removeprefix("seed ").split(": ") for each in by_seed.split("; ")] if by_seed else []
    assert {f"{seed}: {label}" for seed, labels in seeds for label in labels.split(", ")} == whose
    counts = rows["commit"].value_counts()
    for commit, n in counts.items():
        assert f"{commit[:10]}{'-dirty' if commit.endswith('-dirty') else ''} ({n})" in section
    fixed = page.manifest(sweep)["fixed"]
    assert f"batches of {fixed['recipe.batch']}" in section
    assert f"seeds {', '.join(map(str, sorted(set(rows['seed']))))}." in section
    epochs = rows.groupby("kind")["epochs"].max().astype(int)
    assert f"searches for {epochs['search']} epochs" in section
    assert "final" not in epochs or f"teachers for {epochs['teacher']}, finals for {epochs['final']}," in section
    lasted = (rows["ended"] - rows["started"]).dt.total_seconds()
    cores = (rows["device_seconds"] / lasted)[rows["attempts"] == 1].median()
    [machine] = re.findall("^- On: .*", section, flags=re.MULTILINE)
    on = sorted(rows["device"].dropna().unique())
    alone = rows[(rows["attempts"] == 1) & (rows["kind"] != "search") & (rows["train_macs"] > 0)]
    times = {
        name: np.median(mine["seconds_train"] / mine["train_macs"]) for name, mine in alone.groupby("precision")
    }
    for name in sorted(times, key=times.get) or sorted(rows["precision"].dropna().unique()):
        seeds = ", ".join(str(seed) for seed in sorted(set(rows[rows["precision"] == name]["seed"])))
        slower = times[name] / min(times.values()) if times else 1
        more = f"; {slower:.1f} times the seconds per mac" if slower > 1 else ""
        on.append(f"{name} (seeds {seeds}{more})" if len(times) > 1 else name)
    torches = sorted({json.loads(each)["torch"] for each in rows["versions"].dropna()})
    on += [f"torch {', torch '.join(torches)}", f"{cores:.1f} cores to a job"]
    assert machine == f"- On: {', '.join(on)}."
    assert f"parameters is scaled up to {rows['arch_lr'].median():.2g}, by this project" in section


def test_how_the_search_costs_were_made_equal(page):
    jobs = page.asked(TABLE1).query("kind == 'candidate'")
    counts = jobs.groupby(["method", "seed"]).size().groupby("method").max()
    told_so = re.sub(r"\s+", " ", page.section(TABLE1))
    each = r"judges (\d+) sizes, CMA-ES (\d+) generations of (\d+), each trained for (\d+) epochs"
    sizes, generations, population, epochs = map(int, re.search(each, told_so).groups())
    assert (sizes, generations * population) == (counts["random_search"], counts["cma_es"])
    assert {epochs} == set(jobs["epochs"])
    fixed = page.manifest(TABLE1)["fixed"]
    its_own = f"t = {fixed['t']} and lambda_cost = {fixed['tas.lambda_cost']}"
    assert f"The paper takes {its_own}, as Table 1 does here." in page.text
    assert f"has {8 * 19 + 3 * 3} coordinates" in told_so  # 8 widths of 19 convolutions, 3 depths of 3 stages
