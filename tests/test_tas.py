"""TAS: schedules and settings by hand, single updates seen from outside, whole searches on digits."""

import dataclasses
import math
import sys

import pytest
import torch
from torch.nn import functional as F

from tas_bench.backbones.backbone import ImageShape
from tas_bench.checkpoint import Checkpoint
from tas_bench.costs.macs import MACS
from tas_bench.costs.macs_search import MACS_SEARCH
from tas_bench.data import halves, load_test, load_train
from tas_bench.errors import DivergedError, InputError, PlanFailedError
from tas_bench.expected import ExpectedCost
from tas_bench.jobs import Context, DataSpec, Outcome, Problem, Recipe, checkpoint_path, job_id
from tas_bench.schema import TRAJECTORIES
from tas_bench.search import TasSearch
from tas_bench.search import searcher as searcher_module
from tas_bench.search.settings import PAPER_STEPS, scaled_arch_lr, settled_lr, settles, tau_at
from tas_bench.space import Size
from tas_bench.supernet import discrepancies, entropies
from tas_bench.tas import Tas

PAPER, RELEASED = Tas.presets()["paper"], Tas.presets()["released"]
COLUMNS = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]


def problem(keep=0.6, t=0.05, backbone="tiny", **recipe):
    return Problem(
        data=DataSpec(name="digits"), backbone_name=backbone, classes=10, image=ImageShape(1, 8),
        keep=keep, t=t, recipe=Recipe(**{"batch": 128} | recipe),
    )  # fmt: skip


def search_job(settings, seed=0, **changes):
    """The job of a plan, without the plan's checks."""
    return TasSearch(problem=problem(epochs=settings.search_epochs, **changes), settings=settings, seed=seed)


@pytest.fixture
def context(tmp_path):
    return Context(results=tmp_path)


@pytest.fixture
def searcher(context):
    def build(settings, **changes):
        torch.manual_seed(0)
        job = search_job(settings, **changes)
        return searcher_module.Searcher(job.problem, settings, job.seed, context)

    return build


# ---- schedules


@pytest.mark.parametrize(
    ("settings", "taus"),
    [
        (PAPER, [10.0, 7.525, 5.05, 2.575, 0.1]),
        (RELEASED, [5.0, 2.55 + 2.45 * math.sqrt(0.5), 2.55, 2.55 - 2.45 * math.sqrt(0.5), 0.1]),
        (Tas(tau_shape="constant", tau_start=3.0), [3.0] * 5),
    ],
    ids=["linear", "cosine", "constant"],
)
def test_temperature(settings, taus):
    assert [tau_at(settings, i / 4) for i in range(5)] == pytest.approx(taus)


@pytest.mark.parametrize(
    ("steps", "rate"), [(58_800, 1e-3), (29_400, 2e-3), (1_000, 0.0588), (392, 0.15), (391, 0.15), (1, 0.15)]
)
def test_shorter_searches_take_larger_steps_up_to_a_cap(steps, rate):
    assert scaled_arch_lr(Tas(), steps) == pytest.approx(rate)
    assert scaled_arch_lr(Tas(), steps) * steps <= 58.8 + 1e-9


@pytest.mark.parametrize(("epochs", "window"), [(30, 6), (60, 6), (100, 10)])
def test_the_argmax_settles_at_the_end(epochs, window):
    assert [settles(Tas(search_epochs=epochs), epoch) for epoch in (0, epochs - window - 1)] == [False] * 2
    assert [settles(Tas(search_epochs=epochs), epoch) for epoch in (epochs - window, epochs - 1)] == [True] * 2
    assert not settles(Tas(search_epochs=epochs, lambda_cost=0.0), epochs - 1), "there is nothing to settle in"


def test_a_scaled_rate_falls_while_the_budget_is_met():
    assert settled_lr(Tas(), 0.05, 0.1, in_band=True) == pytest.approx(0.04)
    assert settled_lr(Tas(), 0.04, 0.1, in_band=False) == pytest.approx(0.05)
    assert settled_lr(Tas(), 0.09, 0.1, in_band=False) == 0.1
    assert settled_lr(Tas(), 0.0011, 0.1, in_band=True) == 0.001, "the paper's own rate is the least"
    assert [settled_lr(Tas(), 0.001, 0.001, met) for met in (True, False)] == [0.001] * 2


def test_longer_searches_and_bold_settings_keep_their_rate():
    assert scaled_arch_lr(Tas(), 100_000) == 1e-3
    assert scaled_arch_lr(Tas(arch_lr=0.5), 10) == 0.5


def test_papers_number_of_updates():
    """600 epochs over 25,000 images in batches of 256."""
    assert 600 * math.ceil(25_000 / 256) == PAPER_STEPS == 58_800


def test_discrepancy_and_entropy_of_a_row():
    p = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.1, 0.0, 0.9]])
    assert discrepancies(p).tolist() == pytest.approx([0.5, 0.0, 1.0, 0.8])
    by_hand = [-sum(x * math.log(x) for x in row if x) for row in p.tolist()]
    assert entropies(p).tolist() == pytest.approx(by_hand)
    assert discrepancies(p[2:3, :1]).tolist() == [1.0]


# ---- settings


def test_presets():
    """The paper's section 4.1; the released code where it differs."""
    paper = {
        "search": "WD", "samples": 2, "lambda_cost": 2.0, "search_epochs": 600,
        "tau_start": 10.0, "tau_end": 0.1, "tau_shape": "linear",
        "arch_lr": 0.001, "arch_weight_decay": 0.001, "arch_beta1": 0.9,
        "zone": "paper", "rule": "deployed", "exact_expectation": True,
        "depth_samples": None, "draws": 1, "selection": "gumbel", "alignment": "cwi",
    }  # fmt: skip
    released = paper | {
        "tau_start": 5.0, "tau_shape": "cosine", "arch_beta1": 0.5,
        "zone": "released", "rule": "released", "exact_expectation": False,
    }  # fmt: skip
    assert Tas() == PAPER
    assert {k: dataclasses.asdict(v) for k, v in Tas.presets().items()} == {"paper": paper, "released": released}
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER.samples = 3


BAD = [
    {"search": "depth"}, {"search": "w"}, {"samples": 0}, {"samples": -1}, {"search_epochs": 0},
    {"lambda_cost": -0.1}, {"lambda_cost": math.nan}, {"lambda_cost": math.inf},
    {"tau_start": 0.0}, {"tau_end": -1.0}, {"tau_end": math.nan}, {"tau_shape": "square"},
    {"arch_lr": 0.0}, {"arch_lr": math.nan}, {"arch_weight_decay": -1.0}, {"arch_beta1": 1.0}, {"rule": "params"},
    {"depth_samples": 0}, {"draws": 0}, {"selection": "random"}, {"alignment": "bicubic"},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_settings_are_refused_in_one_line(bad):
    with pytest.raises(InputError) as caught:
        Tas(**bad)
    [name] = bad
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# ---- the plan


@pytest.mark.parametrize("search", ["W", "WD"])
def test_more_samples_than_candidates_are_refused_when_the_plan_starts(search):
    next(Tas(search=search, samples=8).plan(problem(), 0))  # 16 has eight candidates, though 8 has seven
    with pytest.raises(InputError, match=r"\|I\|\) is 9; tiny has 8 candidates"):
        next(Tas(search=search, samples=9).plan(problem(), 0))


def test_more_samples_than_depths_are_refused_or_harmless(context):
    try:
        [job] = next(Tas(search="D", samples=3, search_epochs=1).plan(problem(t=0.5), 0))
    except InputError:
        return
    job.run(context)


def test_a_budget_out_of_the_searched_spaces_reach_is_refused_when_the_plan_starts():
    """Width and depth together meet it, depth alone does not."""
    next(Tas(search="WD").plan(problem(keep=0.6), 0))
    with pytest.raises(InputError, match="widen t"):
        next(Tas(search="D").plan(problem(keep=0.6), 0))


def test_plan_is_one_search_and_returns_its_size():
    plan = Tas(search_epochs=7).plan(problem(epochs=99), seed=5)
    [job] = next(plan)
    assert (job.kind, job.touches_test, job.seed) == ("search", False, 5)
    assert job.problem.recipe == Recipe(batch=128, epochs=7)
    assert job.describe()["split"] == "search"
    size = job.problem.backbone.full
    with pytest.raises(StopIteration) as end:
        plan.send([Outcome(size=size)])
    assert end.value.value == size


def test_plan_of_a_failed_search_fails():
    plan = Tas().plan(problem(), seed=0)
    next(plan)
    with pytest.raises(PlanFailedError, match="diverged: NaN"):
        plan.send([Outcome(status="diverged", error="NaN")])


def test_every_setting_decides_the_jobs_key():
    jobs = [search_job(s) for s in (PAPER, RELEASED, Tas(samples=3))] + [search_job(PAPER, seed=1)]
    assert len({job_id(job) for job in jobs}) == 4


# ---- single updates


def parameters_of(module):
    return [p.detach().clone() for p in module.parameters()]


def changed(module, before):
    return [not torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True)]


def test_each_update_touches_its_own_parameters_only(searcher):
    state = searcher(Tas(search_epochs=1))
    x, y = next(iter(state.train_batches))
    weights, logits = parameters_of(state.supernet), parameters_of(state.architecture)
    state._update_weights(x, y, tau=1.0)
    assert not any(changed(state.architecture, logits))
    assert state.architecture.logits.grad is None
    moved = zip(state.supernet.parameters(), changed(state.supernet, weights), strict=True)
    assert all(has_moved for p, has_moved in moved if p.dim() == 4)  # every convolution is drawn; not every norm

    weights, grads = parameters_of(state.supernet), [p.grad.clone() for p in state.supernet.parameters()]
    state._update_architecture(x, y, tau=1.0)
    assert all(changed(state.architecture, logits))
    assert not any(changed(state.supernet, weights))
    assert all(torch.equal(p.grad, g) for p, g in zip(state.supernet.parameters(), grads, strict=True))


def test_updates_alternate_between_the_halves(searcher, monkeypatch):
    """Algorithm 1: weights learn from D_train, A from D_val, and neither from the other's images."""
    images = load_train(DataSpec(name="digits"), None)
    train, val = halves(images, DataSpec(name="digits"))
    given = []

    original = searcher_module.batches_of

    def recorded(data, *args, **kwargs):
        given.append(data)
        return original(data, *args, **kwargs)

    monkeypatch.setattr(searcher_module, "batches_of", recorded)
    state = searcher(Tas(search_epochs=1))
    for data, half in zip(given, (train, val), strict=True):
        assert torch.equal(data.images, half.images)

    log = []

    def recorder(name):
        def update(x, y, _tau):
            log.append((name, x[0].item(), y[0].item()))
            return torch.tensor(1.0), x[:, None]

        return update

    state.train_batches = [(torch.zeros(2), torch.tensor([i, i])) for i in range(5)]
    state.val_batches = [(torch.ones(2), torch.tensor([i, i])) for i in range(2)]
    for name in ("_update_weights", "_update_architecture"):
        monkeypatch.setattr(state, name, recorder(name))
    state.epoch(0)
    assert log == [
        (name, half, i % (5 if half == 0 else 2))
        for i in range(5)
        for name, half in (("_update_weights", 0), ("_update_architecture", 1))
    ]


def cost_gradient(searcher, **settings):
    """Of one update of A. With |I| = 1 and depths fixed the task has none, so this is the cost's alone."""
    changes = {k: settings.pop(k) for k in ("keep", "t") if k in settings}
    state = searcher(Tas(search="W", samples=1, search_epochs=1, **settings), **changes)
    with torch.no_grad():
        state.architecture.logits.normal_(generator=torch.Generator().manual_seed(0))
    before = state.architecture.logits.detach().clone().requires_grad_()
    x, y = next(iter(state.val_batches))
    state._update_architecture(x, y, tau=1.0)
    return state, before, state.architecture.logits.grad


def test_without_a_weight_the_cost_has_no_gradient(searcher):
    _, _, grad = cost_gradient(searcher, lambda_cost=0.0, keep=0.2)
    assert not grad.any()


def test_inside_the_band_the_cost_has_no_gradient(searcher):
    _, _, grad = cost_gradient(searcher, t=1.0)
    assert not grad.any()


@pytest.mark.parametrize(("keep", "sign"), [(0.1, 1), (1.0, -1)])
@pytest.mark.parametrize("preset", [PAPER, RELEASED], ids=["paper", "released"])
def test_outside_the_band_the_gradient_is_that_of_equation_8(searcher, preset, keep, sign):
    settings = {k: getattr(preset, k) for k in ("zone", "rule", "exact_expectation")}
    state, logits, grad = cost_gradient(searcher, lambda_cost=3.0, keep=keep, **settings)
    problem_, space = state.problem, state.space
    cost = MACS if preset is PAPER else MACS_SEARCH
    model = ExpectedCost(problem_.layers, space, cost, exact=preset is PAPER)
    p = torch.stack([F.pad(row[:n].softmax(0), (0, 8 - n)) for row, n in zip(logits, space.counts, strict=True)])
    [by_hand] = torch.autograd.grad(3.0 * sign * torch.log(model(p)), logits)
    assert torch.allclose(grad, by_hand, rtol=1e-4, atol=1e-7)
    assert by_hand.abs().max() > 0.01


def test_zones_without_cost_loss(searcher):
    """The zero-loss zones: (1 - t) R to (1 + t) R; R - t x unpruned to R in the released code."""
    found = {preset: searcher(preset, keep=0.6, t=0.05) for preset in (PAPER, RELEASED)}
    problem_ = problem(keep=0.6)
    macs, searched = (cost.of(problem_.layers, problem_.backbone.full) for cost in (MACS, MACS_SEARCH))
    assert (found[PAPER].low, found[PAPER].high) == pytest.approx((0.57 * macs, 0.63 * macs))
    assert (found[RELEASED].low, found[RELEASED].high) == pytest.approx((0.6 * macs - 0.05 * searched, 0.6 * macs))


def test_optimisers_are_those_of_section_4_1(searcher):
    state = searcher(RELEASED, weight_decay=3e-4)
    [weights], [logits] = state.weight_optimizer.param_groups, state.arch_optimizer.param_groups
    assert isinstance(state.weight_optimizer, torch.optim.SGD)
    assert isinstance(state.arch_optimizer, torch.optim.Adam)
    asked = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 3e-4}
    assert {key: weights[key] for key in asked} == asked
    assert (logits["betas"], logits["weight_decay"]) == ((0.5, 0.999), 1e-3)
    assert logits["lr"] == state.arch_lr == scaled_arch_lr(RELEASED, 600 * 6)


def test_epochs_follow_the_schedules(searcher, monkeypatch):
    state, used = searcher(Tas(search_epochs=4)), []
    sample = state.architecture.sample
    monkeypatch.setattr(
        state.architecture, "sample", lambda how, tau, *args: used.append(tau) or sample(how, tau, *args)
    )
    rates = []
    for epoch in range(4):
        state.epoch(epoch)
        rates.append(state.weight_optimizer.param_groups[0]["lr"])
    assert used == pytest.approx([tau for tau in (10.0, 6.7, 3.4, 0.1) for _ in range(2 * 6)])
    assert rates == pytest.approx([0.1, 0.05 + 0.05 * math.sqrt(0.5), 0.05, 0.05 - 0.05 * math.sqrt(0.5)])


def test_the_seed_decides_the_batches(searcher):
    first, again, other = (next(iter(searcher(Tas(), seed=seed).train_batches))[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# ---- the result


def choose(state, indices):
    """Logits whose argmax is that choice."""
    with torch.no_grad():
        state.architecture.logits.zero_()
        state.architecture.logits[range(len(indices)), list(indices)] = 1.0


def test_argmax_in_the_band_is_the_result(searcher):
    state = searcher(Tas(search="D"), keep=0.75, t=0.3)
    choose(state, [0] * 9 + [1, 0])
    size, derived, macs, gap = state.derive().values()
    assert gap == 0
    assert (size.depths, derived, macs) == ((2, 1), "argmax", state.problem.macs(size))


def test_argmax_beside_the_band_gives_way_to_the_most_probable_size_in_it(searcher):
    state = searcher(Tas(search="D"), keep=0.75, t=0.1)
    choose(state, [0] * 9 + [1, 1])
    with torch.no_grad():
        state.architecture.logits[-2:] = torch.tensor([[0.0, 0.2], [0.0, 0.1]])  # the second stage gives way
    in_band = [d for d in ((1, 1), (1, 2), (2, 1), (2, 2)) if abs(cost_of(state, d) / 0.75 - 1) <= 0.1]
    assert in_band == [(1, 2), (2, 1)]
    size, derived, macs, gap = state.derive().values()
    assert gap == 0
    assert (size.depths, derived) == ((2, 1), "in-band")
    assert macs == state.problem.macs(state.problem.backbone.full)


def cost_of(state, depths):
    """As a fraction of the unpruned."""
    full = state.problem.backbone.full
    return state.problem.macs(dataclasses.replace(full, depths=depths)) / state.problem.macs(full)


# ---- whole searches


def test_a_search_end_to_end(context):
    ticks = []
    context = dataclasses.replace(context, tick=lambda *done: ticks.append(done))
    settings = Tas(search_epochs=3)
    job = search_job(settings)
    first = job.run(context)
    torch.rand(7)  # whatever else the process drew
    again, other = (j.run(context) for j in (search_job(settings), search_job(settings, seed=1)))
    assert ticks[:3] == [(1, 3), (2, 3), (3, 3)]
    assert first.ok
    assert list(first.curve) == list(again.curve) != list(other.curve)
    assert (first.size, first.argmax_macs) == (again.size, again.argmax_macs)

    assert [list(point) for point in first.curve] == [COLUMNS] * 3
    assert [point["epoch"] for point in first.curve] == [1, 2, 3]
    assert first.val_accuracy == first.curve[-1]["val_accuracy"]
    assert [["job_id", *point] for point in first.trajectory] == [TRAJECTORIES.names] * 3
    assert [point["tau"] for point in first.trajectory] == pytest.approx([10.0, 5.05, 0.1])
    last = first.trajectory[-1]
    argmax = Size(tuple(last["widths"]), tuple(last["depths"]))
    assert first.argmax_macs == last["f_cost"] == job.problem.macs(argmax)
    assert first.discrepancy == last["discrepancy"] == pytest.approx(sum(last["discrepancies"]) / 11)
    assert len(last["entropies"]) == 11
    assert all(0 < h < math.log(8) for h in last["entropies"])
    assert first.test_accuracy is None
    assert first.images == 2 * 3 * 719
    assert first.arch_lr == 0.15


@pytest.mark.parametrize("keep", [0.4, 0.6])
@pytest.mark.parametrize("search", ["W", "WD"])
@pytest.mark.parametrize("preset", [PAPER, RELEASED], ids=["paper", "released"])
def test_results_meet_the_budget(context, preset, search, keep):
    job = search_job(dataclasses.replace(preset, search=search, search_epochs=2), keep=keep)
    outcome, (low, high) = job.run(context), job.problem.band
    assert outcome.size in job.problem.backbone.space(search)
    assert low <= job.problem.macs(outcome.size) <= high
    assert (outcome.derived == "argmax") == (low <= outcome.argmax_macs <= high)
    assert outcome.derived == "in-band" or job.problem.macs(outcome.size) == outcome.argmax_macs


def test_no_search_reaches_the_test_images(context, monkeypatch):
    def refuse(*_):
        raise AssertionError("the search asked for the test images")

    for module in list(sys.modules.values()):
        if getattr(module, "load_test", None) is load_test:
            monkeypatch.setattr(module, "load_test", refuse)
    assert search_job(Tas(search_epochs=1)).run(context).ok


def test_a_search_that_blows_up_says_so(context):
    with pytest.raises(DivergedError, match=r"became (nan|inf) in epoch \d+, step \d+$"):
        search_job(Tas(search_epochs=2), lr=1e30).run(context)


class StoppedError(Exception):
    """A stand-in for whatever ends a process."""


def stopping(context, after):
    """A context in which the job is stopped once it has done that many epochs and kept a checkpoint."""

    def tick(done, _):
        if done == after + 1:
            raise StoppedError

    return dataclasses.replace(context, tick=tick, checkpoint_seconds=0)


SETTINGS = {
    "default": {}, "two draws": {"draws": 2}, "mixture": {"selection": "mixture"},
    "released": dataclasses.asdict(RELEASED),
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_stopped_search_resumes_to_bitwise_the_same_result(tmp_path, settings):
    job = search_job(Tas(**settings | {"search_epochs": 4}))
    whole = job.run(Context(results=tmp_path / "whole"))
    for after in (1, 2, 3):
        context = Context(results=tmp_path / str(after))
        context.results.mkdir()
        with pytest.raises(StoppedError):
            job.run(stopping(context, after))
        torch.manual_seed(after)
        epochs = []
        resumed = job.run(dataclasses.replace(context, tick=lambda done, _, log=epochs: log.append(done)))
        assert epochs == list(range(after + 1, 5))
        assert list(resumed.curve) == list(whole.curve)
        assert list(resumed.trajectory) == list(whole.trajectory)
        same = ("size", "derived", "argmax_macs", "images", "train_macs", "discrepancy", "val_accuracy")
        assert [getattr(resumed, name) for name in same] == [getattr(whole, name) for name in same]
        assert 0 < resumed.carried_seconds < resumed.device_seconds


def test_weights_after_a_resume_are_bitwise_the_same(searcher, context, tmp_path):
    """Not only what is reported of them."""
    context = dataclasses.replace(context, checkpoint_seconds=0)
    state, other = searcher(Tas(search_epochs=3)), searcher(Tas(search_epochs=3))
    state.epoch(0)
    Checkpoint(context, "key", state.parts, state.generator).save(told=1)
    assert Checkpoint(context, "key", other.parts, other.generator).restore() == {"told": 1}
    for each in (state, other):
        each.epoch(1)
    for a, b in ((state.supernet, other.supernet), (state.architecture, other.architecture)):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_checkpoints_are_kept_no_oftener_than_asked(context):
    job = search_job(Tas(search_epochs=3))
    job.run(context)
    path = checkpoint_path(context.results, job_id(job))
    assert not path.exists()
    job.run(dataclasses.replace(context, checkpoint_seconds=0))
    assert path.exists()


def test_a_search_that_blows_up_keeps_its_last_good_checkpoint(context, monkeypatch):
    """In epoch 3, at the fourth step, the loss is NaN: the row says so, and epoch 2 is what is kept."""
    context, job = dataclasses.replace(context, checkpoint_seconds=0), search_job(Tas(search_epochs=4))
    calls = []
    update = searcher_module.Searcher._update_weights

    def blows_up(self, x, y, tau):
        calls.append(tau)
        loss, logits = update(self, x, y, tau)
        return (loss * math.nan if len(calls) == 2 * 6 + 4 else loss), logits

    monkeypatch.setattr(searcher_module.Searcher, "_update_weights", blows_up)
    with pytest.raises(DivergedError, match=r"^the loss became nan in epoch 3, step 4$"):
        job.run(context)
    kept = torch.load(checkpoint_path(context.results, job_id(job)), weights_only=True)
    assert len(kept["values"]["curve"]) == 2


def test_weights_that_blow_up_in_an_epochs_last_step_are_seen_before_they_are_kept(searcher):
    state = searcher(Tas(search_epochs=2))
    hook = state.weight_optimizer.register_step_post_hook
    steps = []

    def spoil(*_):
        steps.append(1)
        if len(steps) == 6:
            with torch.no_grad():
                state.supernet.convs[3].weight[0, 0, 0, 0] = math.inf

    hook(spoil)
    with pytest.raises(DivergedError, match=r"(loss|weight) became .* in epoch 1"):
        state.epoch(0)


def test_several_draws_are_several_widths_in_one_step(searcher, monkeypatch):
    state = searcher(Tas(search_epochs=1, draws=3), batch=30)
    drawn, seen = [], []
    sample, forward = state.architecture.sample, state.supernet.forward
    monkeypatch.setattr(state.architecture, "sample", lambda *args: drawn.append(sample(*args)) or drawn[-1])
    monkeypatch.setattr(state.supernet, "forward", lambda x, s: seen.append(len(x)) or forward(x, s))
    x, y = next(iter(state.train_batches))
    _, logits = state._update_weights(x, y, tau=1.0)
    assert seen == [10, 10, 10]
    assert logits.shape == (30, 10)
    assert len({str(s.picks) for s in drawn}) == 3
    with pytest.raises(InputError, match=r"draws is 3; a batch of 5"):
        next(Tas(draws=3).plan(problem(batch=5), 0))


def test_what_is_hardly_a_search_is_warned_of(context):
    assert "decided little" in search_job(Tas(search_epochs=1, arch_lr=1e-6)).run(context).warning
    assert "|I| = 1" in search_job(Tas(search_epochs=1, samples=1)).run(context).warning
    assert Tas(samples=1, search="D").warning is None


@pytest.mark.parametrize("keep", [0.6, 0.87])
def test_depths_alone_are_searched_on_the_papers_network(keep):
    """More rows than numpy has dimensions, though all but three have one candidate."""
    paper = Problem(
        data=DataSpec(), backbone_name="resnet32", classes=100, image=ImageShape(), keep=keep, t=0.05,
        recipe=Recipe(),
    )  # fmt: skip
    [job] = next(Tas(search="D").plan(paper, 0))
    assert job.settings.search == "D"
