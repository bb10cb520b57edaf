"""REINFORCE against sums over all sizes, greedy slimming against the naive form, the second coding of CMA-ES."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from helpers import drive

from baselines.cma_es import CmaEs, decode_positions
from baselines.greedy_slimming import GreedySlimming, shrinks, shrunk
from baselines.reinforce import Policy, Reinforce
from tas_bench.budget import Band
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.jobs import Outcome
from tas_bench.space import SizeSpace
from tas_bench.testing import PROBLEM, made_up

BAND = Band.of(PROBLEM)
FULL = PROBLEM.backbone.full
FAILED = Outcome(status="failed", error="made up")


def hurts(size):
    """An accuracy that every width and depth has its own share in."""
    weights = np.random.default_rng(0).dirichlet(np.ones(len(FULL.widths) + len(FULL.depths)))
    return float(weights @ (np.array(size.widths + size.depths) / np.array(FULL.widths + FULL.depths)))


# ---------------------------------------------------------------- REINFORCE


def small_policy(logits):
    space = SizeSpace(((1, 2, 3), (1, 2)), ((1,),))
    policy = Policy(dataclasses.replace(BAND, space=space), lr=0.1)
    with torch.no_grad():
        policy.logits += torch.tensor(logits)
    return policy


def test_a_policy_draws_by_its_probabilities():
    policy = small_policy([[0.0, 1.0, -1.0], [2.0, 0.0, 9.0], [0.0, 9.0, 9.0]])
    drawn = policy.draw(np.random.default_rng(0), 20_000)
    for row, p in zip(drawn.T, policy.log_p().detach().exp().numpy(), strict=True):
        share = np.bincount(row, minlength=3) / 20_000
        assert np.abs(share - p).max() < 5 * 0.5 / np.sqrt(20_000)
    assert policy.log_p().exp()[1, 2] == policy.log_p().exp()[2, 1] == 0


def test_its_update_is_the_gradient_of_the_expected_reward():
    """Over all sizes, each as often as it is drawn: what Monte Carlo estimates, by finite differences."""
    logits = np.array([[0.3, -0.2, 0.5], [0.1, 0.4, 0.0], [0.0, 0.0, 0.0]])
    sizes = np.array(list(itertools.product(range(3), range(2), range(1))))
    rewards = np.random.default_rng(0).normal(size=len(sizes))

    def expected(table):
        log_p = small_policy(table).log_p().detach().numpy()
        return float(np.exp(log_p[np.arange(3), sizes].sum(axis=1)) @ rewards)

    policy = small_policy(logits)
    p = policy.log_p().detach()[torch.arange(3), torch.from_numpy(sizes)].sum(dim=1).exp().numpy()
    policy.update(sizes, rewards * p * len(sizes))
    for row, column in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]:
        step = np.zeros_like(logits)
        step[row, column] = 1e-5
        slope = (expected(logits + step) - expected(logits - step)) / 2e-5
        assert -policy.logits.grad[row, column] == pytest.approx(slope, rel=1e-5)


def test_it_learns_and_settles_where_the_budget_is_met():
    """A larger size is always better here: without the cost's share it would grow to the largest."""
    method = Reinforce(steps=120, samples=8)
    batches, size = drive(method.plan(PROBLEM, 0), lambda job: Outcome(val_accuracy=hurts(job.size)))
    costs = [np.mean([PROBLEM.macs(job.size) for job in batch]) / PROBLEM.budget for batch in batches[:-1]]
    assert np.mean(costs[-10:]) == pytest.approx(1, abs=0.1)
    draws = [hurts(s) for s in BAND.sample(np.random.default_rng(0), 100)]
    assert hurts(size) > np.mean(draws) + np.std(draws)
    free, _ = drive(
        dataclasses.replace(method, beta=0.0).plan(PROBLEM, 0), lambda job: Outcome(val_accuracy=hurts(job.size))
    )
    assert np.mean([PROBLEM.macs(job.size) for job in free[-2]]) > 1.2 * PROBLEM.budget


def test_it_returns_the_best_of_what_it_draws_inside_the_band_at_last():
    method = Reinforce(steps=2, samples=5)
    batches, size = drive(method.plan(PROBLEM, 0), made_up)
    assert [len(batch) for batch in batches] == [5, 5, 5]
    last = [job.size for job in batches[-1]]
    assert all(BAND.low <= PROBLEM.macs(one) <= BAND.high for one in last)
    assert len(set(last)) == 5
    assert PROBLEM.backbone.canonical(size) == max(batches[-1], key=lambda job: made_up(job).val_accuracy).size

    wanted = np.zeros((len(BAND.space.counts), max(BAND.space.counts)))
    wanted[np.arange(len(wanted)), BAND.space.indices(size)] = 1
    for scale, others in ((1, True), (1000, False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Policy, "log_p", lambda self, scale=scale: torch.from_numpy(scale * wanted))
            patch.setattr(Policy, "update", lambda *_: None)
            batches, _ = drive(method.plan(PROBLEM, 0), made_up)
        last = [job.size for job in batches[-1]]
        assert last[0] == PROBLEM.backbone.canonical(size), "the most probable one comes first"
        assert bool(set(last[1:]) - {last[0]}) == others, "a policy that is sure draws nothing else"


def test_where_all_that_is_drawn_at_last_fails_it_says_so():
    def plan(failing):
        steps = iter([made_up, made_up, made_up, failing])
        plan, told = Reinforce().plan(PROBLEM, 0), None
        while True:
            batch, answer = plan.send(told), next(steps)
            told = [answer(job) for job in batch]

    with pytest.raises(PlanFailedError, match="all sizes inside the band failed, the first: made up"):
        plan(lambda _job: FAILED)


def test_a_failed_size_counts_as_the_worst_and_a_failed_step_ends_it():
    plan = Reinforce().plan(PROBLEM, 0)
    first = next(plan)
    second = plan.send([FAILED, *map(made_up, first[1:])])
    worst = min(made_up(job).val_accuracy for job in first[1:])
    again = Reinforce().plan(PROBLEM, 0)
    next(again)
    assert again.send([Outcome(val_accuracy=worst), *map(made_up, first[1:])]) == second
    with pytest.raises(PlanFailedError, match="step 2 failed whole, the first: made up"):
        plan.send([FAILED] * 6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "reinforce.steps is 0"), ({"samples": 0}, "reinforce.samples is 0"),
        ({"policy_lr": 0.0}, "reinforce.policy_lr is 0.0"), ({"beta": 0.1}, "reinforce.beta is 0.1"),
        ({"baseline_momentum": 1.0}, r"it must be in \[0, 1\)"),
    ],
)  # fmt: skip
def test_refuses_senseless_settings(settings, said):
    with pytest.raises(InputError, match=said):
        Reinforce(**settings)


# ---------------------------------------------------------------- greedy slimming


def naive(problem, band):
    """One row at a time, each tried in turn."""
    size = band.space.full
    while problem.macs(size) > band.high:
        indices, tries = band.space.indices(size), []
        for row in range(len(indices)):
            if indices[row] > 0:
                one = indices.copy()
                one[row] -= 1
                smaller = problem.backbone.canonical(band.space.size(one))
                if smaller != problem.backbone.canonical(size) and problem.macs(smaller) >= band.low:
                    tries.append((hurts(smaller), -row, band.space.size(one)))
        size = max(tries)[2]
    return size


def test_one_at_a_time_it_is_the_naive_form():
    method = GreedySlimming(fitness="train", at_once=1)
    batches, size = drive(method.plan(PROBLEM, 0), lambda job: Outcome(val_accuracy=hurts(job.size)))
    canonical = PROBLEM.backbone.canonical
    assert canonical(size) == canonical(naive(PROBLEM, BAND))
    assert len(batches) > 10


def test_several_at_once_take_fewer_steps_into_the_same_band():
    steps = []
    for at_once in (1, 3, 9):
        batches, size = drive(
            GreedySlimming(fitness="train", at_once=at_once).plan(PROBLEM, 0),
            lambda job: Outcome(val_accuracy=hurts(job.size)),
        )
        steps.append(len(batches))
        assert BAND.low <= PROBLEM.macs(size) <= BAND.high
    assert steps[0] > steps[1] > steps[2]


def test_a_step_takes_no_more_than_leads_into_the_band():
    size = BAND.space.indices(FULL)
    tries = shrinks(size, PROBLEM, BAND)
    assert len(tries) == len(BAND.space.rows)
    while BAND.costs(size[None])[0] > BAND.high:
        size = shrunk(size, shrinks(size, PROBLEM, BAND), BAND)
    assert BAND.holds(BAND.costs(size[None]))[0]


def test_a_dropped_blocks_widths_are_not_tried():
    size = BAND.space.indices(FULL)
    size[len(FULL.widths)] = 0
    kept = PROBLEM.backbone.canonical(BAND.space.size(size))
    assert all(PROBLEM.backbone.canonical(BAND.space.size(one)) != kept for one in shrinks(size, PROBLEM, BAND))
    assert len(shrinks(size, PROBLEM, BAND)) < len(BAND.space.rows) - 1


@pytest.mark.parametrize("keep", [0.96, 1.0, 1.04])
def test_a_budget_near_the_whole_network(keep):
    problem = dataclasses.replace(PROBLEM, keep=keep)
    _, size = drive(GreedySlimming().plan(problem, 0), made_up)
    assert problem.band[0] <= problem.macs(size) <= problem.band[1]


def test_a_failed_try_is_not_taken():
    def answer(job):
        return FAILED if job.size.depths != FULL.depths else Outcome(val_accuracy=hurts(job.size))

    _, size = drive(GreedySlimming(fitness="train", at_once=1).plan(PROBLEM, 0), answer)
    assert size.depths == FULL.depths


def test_of_several_at_once_those_that_failed_are_not_taken():
    plan = GreedySlimming(fitness="train", at_once=4).plan(PROBLEM, 0)
    first = next(plan)
    kept = first[3]
    second = plan.send([made_up(job) if job is kept else FAILED for job in first])
    tries = shrinks(BAND.space.indices(kept.size), PROBLEM, BAND)
    assert [job.size for job in second] == [PROBLEM.backbone.canonical(BAND.space.size(one)) for one in tries]


# ---------------------------------------------------------------- CMA-ES


def test_positions_decode_to_the_nearest_size():
    """Where it meets the budget, to that of the rounded positions."""
    rng, wide, counts = np.random.default_rng(0), dataclasses.replace(BAND, low=0.0), BAND.space.counts
    wide = dataclasses.replace(wide, high=2.0 * BAND.high)
    for _ in range(20):
        point = rng.normal(size=len(counts))
        rounded = np.rint(np.clip((counts - 1) / 2 + point * counts / 4, 0, counts - 1)).astype(int)
        assert decode_positions(point, wide) == BAND.space.size(rounded)
        assert BAND.low <= PROBLEM.macs(decode_positions(point, BAND)) <= BAND.high


@pytest.mark.parametrize("coding", ["logits", "index"])
def test_where_all_is_flat_it_starts_anew(coding, monkeypatch):
    starts, real = [], CmaEs._strategy

    def noted(self, start, rng):
        starts.append(start)
        return real(self, start, rng)

    monkeypatch.setattr(CmaEs, "_strategy", noted)
    drive(CmaEs(coding=coding).plan(PROBLEM, 0), made_up)
    assert len(starts) == 1
    drive(CmaEs(coding=coding).plan(PROBLEM, 0), lambda _job: Outcome(val_accuracy=0.1))
    assert len(starts) == 1 + 1 + CmaEs().generations
    assert not starts[1].any()
    assert len({start.tobytes() for start in starts[2:]}) == CmaEs().generations


def test_refuses_an_unknown_coding():
    with pytest.raises(InputError, match=r"cma_es\.coding is 'gray'; choose logits or index"):
        CmaEs(coding="gray")
