"""Single updates of a search seen from outside, and the size that it derives."""

import dataclasses
import math

import pytest
import torch
from helpers import problem, search_job
from torch.nn import functional as F

from tas_bench.checkpoint import Checkpoint
from tas_bench.costs.macs import MACS
from tas_bench.costs.macs_search import MACS_SEARCH
from tas_bench.data import halves, load_train
from tas_bench.errors import DivergedError, InputError
from tas_bench.expected import ExpectedCost
from tas_bench.jobs import Context, DataSpec
from tas_bench.measure import Stopwatch
from tas_bench.search import searcher as searcher_module
from tas_bench.search.settings import scaled_arch_lr
from tas_bench.tas import Tas

PAPER, RELEASED = Tas.presets()["paper"], Tas.presets()["released"]


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
    state.epoch(0, Stopwatch())
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


@pytest.mark.parametrize(("zone", "half"), [("paper", True), ("released", False)])
def test_the_argmax_settles_amid_the_papers_band_or_in_the_released_zone(searcher, monkeypatch, zone, half):
    state, settled = searcher(Tas(search_epochs=8, zone=zone)), []
    settle, before = state._settle, (state.low, state.high)
    monkeypatch.setattr(state, "_settle", lambda: settled.append(epoch) or settle())
    monkeypatch.setattr(state, "_update_weights", lambda _x, y, _tau: (torch.zeros(()), torch.zeros(len(y), 10)))
    monkeypatch.setattr(state, "_update_architecture", state._update_weights)
    for epoch in range(8):
        state.epoch(epoch, Stopwatch())
    assert settled == [1] * 4 + [e for e in range(2, 8) for _ in range(6)], "the last 40 of 8 x 6 updates"
    low, high = state.problem.band
    middle = ((low + state.problem.budget) / 2, (state.problem.budget + high) / 2)
    assert (state.low, state.high) == pytest.approx(middle if half else before)


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
        state.epoch(epoch, Stopwatch())
        rates.append(state.weight_optimizer.param_groups[0]["lr"])
    assert used == pytest.approx([tau for tau in (10.0, 6.7, 3.4, 0.1) for _ in range(2 * 6)])
    assert rates == pytest.approx([0.1, 0.05 + 0.05 * math.sqrt(0.5), 0.05, 0.05 - 0.05 * math.sqrt(0.5)])


def test_the_seed_decides_the_batches(searcher):
    first, again, other = (next(iter(searcher(Tas(), seed=seed).train_batches))[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


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
        state.epoch(0, Stopwatch())


def test_weights_after_a_resume_are_bitwise_the_same(searcher, context, tmp_path):
    """Not only what is reported of them."""
    context = dataclasses.replace(context, checkpoint_seconds=0)
    state, other = searcher(Tas(search_epochs=3)), searcher(Tas(search_epochs=3))
    state.epoch(0, Stopwatch())
    Checkpoint(context, "key", state.parts, state.generator, "float32").save(told=1)
    assert Checkpoint(context, "key", other.parts, other.generator, "float32").restore() == {"told": 1}
    for each in (state, other):
        each.epoch(1, Stopwatch())
    for a, b in ((state.supernet, other.supernet), (state.architecture, other.architecture)):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


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
