"""What RESULTS.md tells of the searches, of depth and of Init, of Table 2 and of the tuning, by other means."""

import json
import re
from itertools import pairwise

import numpy as np
import pandas as pd
from results_page import (
    LABELS,
    ROOT,
    TABLE1,
    TABLE2,
    TOLERANCE,
    Page,
    told,
    told_apart,
    told_in,
)
from scipy import stats


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
    for mode in modes:
        gain = f"{mode} less scratch, points"
        both = [(float(line["Pointwise convolutions"]), float(line[gain])) for line in lines if line[gain]]
        told_so = f"- {mode} is above scratch in {sum(points > 0 for _, points in both)} of {len(both)} sizes"
        if min(map(len, map(set, zip(*both, strict=True)))) > 1:
            rank = stats.spearmanr(*zip(*both, strict=True)).statistic
            told_so += f"; rank correlation (Spearman) of the gain with such convolutions: {rank:+z.2f}"
        assert f"{told_so}." in page.text
    assert {(line.pop("Size of"), line.pop("Seed")): line for line in lines} == expected


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


def test_a_random_size_beside_the_searches(page):
    finals = page.asked(TABLE2).query("kind == 'final'")
    found = {(job.method, job.seed): 100 * job.test_accuracy for job in finals.itertuples()}
    control = {seed: accuracy for (method, seed), accuracy in found.items() if method == "random_size"}
    apart = {
        n: [found[f"samples-{n}", seed] - control[seed] for seed in control if (f"samples-{n}", seed) in found]
        for n in (1, 2, 3, 5, 8)
    }
    mean = np.mean([each for each in apart.values() if len(each) == len(control)], axis=0)
    cells = [f"{told(each, '{:+z.2f}')} (|I| = {n}, n = {len(each)})" for n, each in apart.items()]
    cells.append(f"{told(mean, '{:+z.2f}')} (mean of all, n = {len(mean)})")
    own = f"{told([*control.values()])} %, n = {len(control)}"
    line = f"Accuracy less that of a random size in the band ({own}), in points: {', '.join(cells)}."
    assert line in page.text


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


def test_what_every_search_decided(page):
    jobs = page.asked(TABLE1).query("kind == 'search'").sort_values("seed")
    logged = page.trajectories(TABLE1, jobs).sort_values("epoch")
    expected = []
    for job in jobs.itertuples():
        ends = list(logged[logged["job_id"] == job.job_id].tail(3).itertuples())
        last, convs = ends[-1], len(ends[-1].widths)
        widths, depths = np.split(np.asarray(last.discrepancies), [convs])
        told_once = {
            "Seed": str(job.seed),
            "Gap of widths": f"{np.mean(widths):.3f}",
            "Widths with a gap below 0.05": f"{sum(gap < 0.05 for gap in widths)} of {convs}",
            "Gaps of depths": ", ".join(f"{gap:.2f}" for gap in depths),
        }
        for one, other in pairwise(ends):
            each = {
                "Epoch": str(other.epoch),
                "F / R": f"{other.share:.3f}",
                "E / R": f"{other.e_cost / job.budget:.3f}",
                "Depths": ", ".join(str(depth) for depth in other.depths),
                "Widths that changed": str(int((np.asarray(one.widths) != np.asarray(other.widths)).sum())),
            }
            expected.append(told_once | each)
            told_once = dict.fromkeys(told_once, "")
    assert page.table("Seed", "Gap of widths") == expected
    gaps = [gap_of_widths(trace) for _, trace in logged.groupby("job_id")]
    assert f"widths when TAS's searches ended: {told(gaps, '{:.3f}')} (n = {len(gaps)})." in page.text


def gap_of_widths(trace):
    last = trace.sort_values("epoch").iloc[-1]
    return np.mean(last["discrepancies"][: len(last["widths"])])


def test_gaps_of_widths_by_samples(page):
    jobs = page.asked(TABLE2)
    searches = jobs.query("kind == 'search'").set_index("job_id")
    logged = page.packed(TABLE2, "trajectories")
    logged = logged[logged["job_id"].isin(searches.index)]
    gaps = logged.groupby("job_id").apply(gap_of_widths, include_groups=False).rename("gap").to_frame()
    gaps["drawn"] = searches.loc[gaps.index, "method"].str.removeprefix("samples-").astype(int)
    cells = [
        f"{told(mine, '{:.3f}')} (|I| = {drawn}, n = {len(mine)})" for drawn, mine in gaps.groupby("drawn")["gap"]
    ]
    assert f"most probable widths when the searches ended: {', '.join(cells)}." in page.text
    finals = jobs.query("kind == 'final'").set_index(["seed", "method"])["test_accuracy"]
    decided = jobs.query("kind == 'search'").set_index(["seed", "method"])["discrepancy"]
    for seed in sorted(set(jobs["seed"])):
        names = [name for name in decided[seed].index if (seed, name) in finals.index]
        if min(decided[seed][names].nunique(), finals[seed][names].nunique()) < 2:
            continue
        rank = stats.spearmanr(decided[seed][names], finals[seed][names]).statistic
        assert f"{rank:+z.2f} (seed {seed}, n = {len(names)})" in page.text
    apart = told_apart(jobs.query("kind == 'final' and method != 'random_size'"))
    told_so = f"Points that two |I| must be apart to be told apart: {apart[0]} (n = {apart[1]})."
    assert told_so in page.text
