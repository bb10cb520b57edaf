"""The tables of RESULTS.md by other means, and tried on small made-up sweeps, for where rows are not there yet."""

import json
import re
import shutil
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from helpers import one_by_one, sets
from results_page import (
    LABELS,
    ROOT,
    SHORT,
    TABLE1,
    TABLE2,
    TOLERANCE,
    TRANSFERS,
    Page,
    mean_and_half,
    told,
    told_in,
)
from scipy import stats

from tas_bench.cli import main
from tas_bench.errors import OK
from tas_bench.runner import supervisor


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The three sweeps on digits, packed, and their page."""
    root = tmp_path_factory.mktemp("results")
    for name in ("RESULTS.md.jinja", "pilots"):
        (root / name).symlink_to(ROOT / "results" / name)
    common = ["datasets=digits", "backbones=tiny", "train_subset=300", "epochs=2", "batch=64"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "run_jobs", one_by_one)
        patch.syspath_prepend(str(ROOT / "results"))
        import page

        for name, own in SHORT.items():
            run = ["run", name, "--smoke", "--quiet", "--results", str(root / "runs" / name)]
            assert main([*run, *sets(*common, *own)]) == OK
            assert main(["pack", str(root / "runs" / name), str(root / name)]) == OK
        return Page(root, page.results_page(root))


@pytest.fixture(params=["committed", pytest.param("small", marks=pytest.mark.slow)])
def page(request):
    if request.param == "small":
        return request.getfixturevalue("small")
    return Page(ROOT / "results", (ROOT / "RESULTS.md").read_text(encoding="utf-8"))


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


def test_claims(page):
    finals = page.asked(TABLE1).query("kind == 'final'")
    modes = page.manifest(TABLE1)["transfers"]
    cells = pd.MultiIndex.from_product([LABELS, modes])
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
        for rival in both[:-1]:
            gap = theirs.loc["tas", mode] - theirs.loc[rival, mode]
            apart = (ours["tas", mode] - ours[rival, mode]).dropna()
            expected[f"TAS above {LABELS[rival]}, {mode}"] = gap, apart
    lines = page.table("Claim")
    assert [line["Claim"] for line in lines] == list(expected)
    for line in lines:
        gap, apart = expected[line["Claim"]]
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
    found = re.search(rf"Orders that the paper claims: {len(lines)}; in the rows (.*)\.", page.text)[1]
    assert sorted(found.split(", ")) == sorted(f"{verdicts.count(each)} {each}" for each in set(verdicts))
    for verdict in {"agrees", "disagrees", "same sign", "opposite sign"} & set(verdicts):
        names = [f"{line['Claim']}, n = {line['n']}" for line in lines if line[""] == verdict]
        assert f"- {verdict.capitalize()}: {'; '.join(names)}." in page.text
    for mode in modes:
        apart = {LABELS[name]: (ours["tas", mode] - ours[name, mode]).dropna() for name in list(LABELS)[:-1]}
        known = {name: each for name, each in apart.items() if len(each)}
        pairs = [f"{told(each, '{:+z.2f}')} ({name}, n = {len(each)})" for name, each in known.items()]
        assert not pairs or f"TAS less a rival, {mode}, in points: {', '.join(pairs)}." in page.text


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
            known = len(mine) and len(reference)
            assert line[column] == (f"x {mine.mean() / reference.mean():.2f}" if known else "")
        search = jobs[(jobs["method"] == method) & (part == "Search")]
        assert line["Jobs"] == (f"{len(search) / len(macs):.4g}" if len(macs) else "")
        longer = [paper[kind] / epochs_of(job) for kind, job in zip(search["kind"], search["job"], strict=True)]
        hours = (search["device_seconds"] * longer).sum() * 50_000 / images / 3600
        told_so = line["Hours at the paper's schedule (estimate)"]
        assert told_so == (f"{hours / len(macs):.3g}" if len(search) else "")
        assert line["Seeds"].startswith(f"{len(macs)} of ")
    assert [line["Quoted GPU-hours"] for line in lines.values()] == ["", "20", "over 1000", "3.83"]
    assert [line["Quoted / TAS"] for line in lines.values()] == ["", "x 5.22", "over x 261", "x 1"]


def test_depths(page):
    jobs = page.asked(TABLE1)
    jobs["blocks"] = [None if depths is None else sum(depths) for depths in jobs["depths"]]
    judged = jobs[jobs["kind"] == "candidate"].groupby("seed")
    judged = [(seed, mine) for seed, mine in judged if len(set(mine["blocks"])) > 1]
    assert judged
    for seed, mine in judged:
        rank = stats.spearmanr(mine["blocks"].astype(int), mine["val_accuracy"]).statistic
        assert f"{rank:+z.2f} (seed {seed}, n = {len(mine)})" in page.text
    for method, label in LABELS.items():
        mine = jobs[(jobs["kind"] == "final") & (jobs["method"] == method)].groupby("seed")["blocks"].first()
        kept = ", ".join(f"{blocks:.0f}" for blocks in mine)
        assert not kept or re.search(rf"{label} {kept}[;.]", page.text)


def test_init_beside_the_shortcuts_that_the_teacher_has_not(page):
    finals = page.asked(TABLE1).query("kind == 'final'")
    begun = page.packed(TABLE1, "curves").query("epoch == 1").set_index("job_id")["train_loss"]
    modes = [mode for mode in page.manifest(TABLE1)["transfers"] if mode.startswith("init")]
    expected = {}
    for (method, seed), mine in finals.groupby(["method", "seed"]):
        mine = mine.set_index("transfer")
        if "scratch" not in mine.index or not set(modes) & set(mine.index):
            continue
        size, repaired = mine.loc["scratch"], 0
        convs = (len(size["widths"]) - 1) // len(size["depths"])  # of a stage, two to a block
        for stage, depth in enumerate(size["depths"]):
            ends = [size["widths"][stage * convs + 2 * block] for block in range(depth + 1)]
            repaired += sum(a != b for a, b in pairwise(ends[1:] if stage else ends))
        line = {"Pointwise convolutions": str(repaired), "First loss, scratch": f"{begun[size['job_id']]:.2f}"}
        for mode in modes:
            there = mode in mine.index
            line[f"First loss, {mode}"] = f"{begun[mine.loc[mode, 'job_id']]:.2f}" if there else ""
            gain = 100 * (mine.loc[mode, "test_accuracy"] - size["test_accuracy"]) if there else None
            line[f"{mode} less scratch, points"] = f"{gain:+z.2f}" if there else ""
        expected[LABELS[method], str(seed)] = line
    lines = page.table("Size of", "Pointwise convolutions")
    counts = [int(line["Pointwise convolutions"]) for line in lines]
    assert counts == sorted(counts)
    assert {(line.pop("Size of"), line.pop("Seed")): line for line in lines} == expected


@pytest.mark.usefixtures("scripts")
def test_finals_of_an_earlier_teacher_are_told():
    import page

    source = page.read_source(ROOT / "results" / TABLE1)
    teacher, started = source.rows["kind"].eq("teacher"), source.rows["started"]
    source.rows.loc[teacher, "started"] = started.min()
    assert "trained again" not in page.scale(source)
    source.rows.loc[teacher & source.rows["seed"].eq(1), "started"] = started.max() + pd.Timedelta(days=1)
    taught = source.rows.query("kind == 'final' and seed == 1 and transfer != 'scratch'")
    assert f"; {len(taught)} finals learned from a teacher that was trained again" in page.scale(source)


def test_when_the_searches_decided(page):
    counts, taus = [], []
    for _, trace in page.packed(TABLE1, "trajectories").groupby("job_id"):
        points = trace.sort_values("epoch")[["discrepancy", "tau"]].to_numpy().tolist()
        half, count, tau = points[-1][0] / 2, 0, None
        while points and points[-1][0] >= half:
            count, (_, tau) = count + 1, points.pop()
        counts.append(count)
        taus.append(tau)
    told_so = rf"second half of it came in the last {np.median(counts):g} of \d+ epochs, from a temperature of "
    assert re.search(told_so + re.escape(f"{np.median(taus):.2g} on"), page.text)


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
    early = sum(final.started < teachers[final.seed] for final in taught.itertuples())
    again = f"; {early} finals learned from a teacher that was trained again afterwards" if early else ""
    assert f"- Rows: {asked}, {spent} of device time{again}." in section
    counts = rows["commit"].value_counts()
    for commit, n in counts.items():
        assert f"{commit[:10]}{'-dirty' if commit.endswith('-dirty') else ''} ({n})" in section
    fixed = page.manifest(sweep)["fixed"]
    assert f"batches of {fixed['recipe.batch']}" in section
    assert f"seeds {', '.join(map(str, sorted(set(rows['seed']))))}." in section
    lasted = (rows["ended"] - rows["started"]).dt.total_seconds()
    cores = (rows["device_seconds"] / lasted)[rows["attempts"] == 1].median()
    [machine] = re.findall("^- On: .*", section, flags=re.MULTILINE)
    on = [", ".join(sorted(rows[name].dropna().unique())) for name in ("device", "precision")]
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


def test_how_the_searches_of_tas_ended(page):
    mine = page.asked(TABLE1).query("kind == 'search'")
    for line in Page(page.rows, page.section(TABLE1)).table("Method", "Argmax macs / R"):
        assert line["Method"] == "TAS"
        assert line["Argmax macs / R"] == told(mine["argmax_macs"] / mine["budget"], "{:.3f}")
        assert line["Device time"] == told_in("seconds", [mine["device_seconds"].mean()])
        assert line["Memory"] == f"{mine['peak_memory'].mean() / 2**30:.2f} GiB"
        met = (mine["argmax_macs"] / mine["budget"]).between(0.95, 1.05).mean()
        assert (line["Argmax in band"], line["n"]) == (f"{met:.0%}", str(len(mine)))
        assert line["Discrepancy"] == told(mine["discrepancy"], "{:.3f}")
        assert line["Supernet, %"] == told(100 * mine["val_accuracy"])


def test_table_2(page):
    jobs = page.asked(TABLE2, ("ok", "diverged"))
    fixed = page.manifest(TABLE2)["fixed"]
    done = jobs[jobs["status"] == "ok"]
    seconds = done.assign(seconds=done["seconds_data"] + done["seconds_train"]).query("kind == 'search'")
    quoted = pd.read_csv(ROOT / "results" / "published" / "table2.csv").set_index("samples")
    for line in page.table("|I|", "Searches"):
        name = f"samples-{line['|I|']}"
        mine, ended = done[done["method"] == name], jobs.query(f"kind == 'search' and method == '{name}'")
        finals, searches = mine[mine["kind"] == "final"], mine[mine["kind"] == "search"]
        steps = fixed[f"{name}.search_epochs"] * np.ceil(
            searches["images"] // fixed[f"{name}.search_epochs"] // 2 / fixed["recipe.batch"]
        )
        expected = {
            "Accuracy %": told(100 * finals["test_accuracy"]),
            "Memory, GB": told(searches["peak_memory"] / 1e9),
            "Search, device-hours": told(searches["device_seconds"] / 3600),
            "Training, device-hours": told(finals["device_seconds"] / 3600),
            "Step, ms": told(1e3 * (searches["seconds_data"] + searches["seconds_train"]) / steps, "{:.0f}"),
            "Argmax macs / R": told(searches["argmax_macs"] / searches["budget"], "{:.3f}"),
            "Discrepancy": told(searches["discrepancy"], "{:.3f}"),
        }
        assert {name: line[name] for name in expected} == expected
        met = (searches["argmax_macs"] / searches["budget"]).between(0.95, 1.05).sum()
        assert line["Argmax in band"] == (f"{met} of {len(ended)}" if len(ended) else "")
        assert (line["Searches"], line["Finals"]) == (str(len(searches)), str(len(finals)))
        macs = (searches if finals.empty else finals)["macs"] / 1e6
        assert line["Macs"] == told(macs, "{:.2f} M")
    costs = {"Time": ("seconds", 10.64 / 3.83), "Training macs": ("train_macs", 0)}
    for what, (column, theirs) in costs.items():
        took = seconds.pivot_table(column, "seed", "method").reindex(columns=["samples-2", "samples-8"]).dropna()
        also = f"; paper, quoted: {theirs:.2f}" if theirs else ""
        ratio = f"{told(took['samples-8'] / took['samples-2'])} times (n = {len(took)}{also})"
        assert not len(took) or f"{what} of |I| = 8: {ratio} that of |I| = 2." in page.text
    final = done[done["kind"] == "final"].pivot_table("test_accuracy", "seed", "method")
    final = 100 * final.reindex(columns=[f"samples-{n}" for n in (1, 2, 3, 5, 8)])
    for n in (1, 3, 5, 8):
        apart = (final[f"samples-{n}"] - final["samples-2"]).dropna()
        theirs = quoted["accuracy"][n] - quoted["accuracy"][2]
        shown = f"{told(apart, '{:+z.2f}')} (|I| = {n}, n = {len(apart)}; paper, quoted: {theirs:+.2f})"
        assert not len(apart) or shown in page.text
    for line, (n, paper) in zip(page.table("|I|", "Search, GPU-hours"), quoted.iterrows(), strict=True):
        names = {
            "Search, GPU-hours": "search_hours",
            "Memory, GB": "memory_gb",
            "Training, GPU-hours": "train_hours",
        }
        expected = {"|I|": str(n), "Accuracy %": f"{paper['accuracy']:g}", "Macs": f"{paper['macs'] / 1e6:.2f} M"}
        assert line == expected | {title: f"{paper[column]:g}" for title, column in names.items()}


def test_lambda_cost_and_t(page):
    jobs = page.asked(TOLERANCE, ("ok", "diverged")).query("kind == 'search'").drop_duplicates("job_id")
    job = jobs["job"].map(json.loads)
    jobs["cell"] = [(f"{j['settings']['lambda_cost']:g}", f"{j['problem']['t']:g}") for j in job]
    jobs["error"] = jobs["argmax_macs"] / jobs["budget"] - 1
    jobs["hit"] = (jobs["error"].abs() <= jobs["cell"].str[1].astype(float)) & (jobs["status"] == "ok")
    shares = {key: each["share"].to_numpy() for key, each in page.trajectories(TOLERANCE, jobs).groupby("job_id")}
    lines = page.table("lambda_cost")
    assert {(line["lambda_cost"], line["t"]) for line in lines} == set(jobs["cell"])
    for line in lines:
        mine = jobs[jobs["cell"] == (line["lambda_cost"], line["t"])]
        low, high = stats.binomtest(int(mine["hit"].sum()), len(mine)).proportion_ci(method="wilson")
        inside = [(np.abs(shares[key] - 1) <= float(line["t"])).mean() for key in mine["job_id"]]
        late = [np.abs(np.diff(shares[key])) for key in mine["job_id"]]
        expected = {
            "Argmax in the band": f"{mine['hit'].sum()} of {len(mine)}",
            "95 % interval": f"{low:.0%} to {high:.0%}",
            "Epochs in the band": f"{np.mean(inside):.0%}",
            "(F - R) / R of the argmax": told(mine["error"], "{:+z.1%}"),
            "|F - R| / R": f"{mine['error'].abs().mean():.1%}",
            "Oscillation of F_cost / R": f"{np.mean([steps[len(steps) // 2 :].mean() for steps in late]):.1%}",
        }
        assert {name: line[name] for name in expected} == expected
    assert f"at the end of {jobs['hit'].sum()} of {len(jobs)} searches" in page.text
    for i, name in enumerate(("lambda_cost", "t")):
        by = jobs.groupby(jobs["cell"].str[i].astype(float))["hit"]
        cells = ", ".join(f"{hits.sum()} of {len(hits)} ({value:g})" for value, hits in by)
        assert f"By {name}: {cells}." in page.text
