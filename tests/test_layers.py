"""Parts of the supernet against their words: the footnote, known laws, Equation 4 candidate by candidate."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import nn
from torch.nn import functional as F

from tas_bench import layers
from tas_bench.fused import add_relu
from tas_bench.layers import (
    ElasticConv,
    gumbel_like,
    interpolation_matrix,
    sample_candidates,
)

sizes = st.integers(1, 40)


# ---- channel-wise interpolation


def footnote_2(x_BCHW, c_out):
    """B_i = mean(A_s ... A_e-1), s = floor(i C / C_out), e = ceil((i + 1) C / C_out), in the paper's letters."""
    c = x_BCHW.shape[1]
    spans = [(math.floor(i * c / c_out), math.ceil((i + 1) * c / c_out)) for i in range(c_out)]
    return torch.stack([x_BCHW[:, s:e].mean(dim=1) for s, e in spans], dim=1)


def by_matrix(x_BCHW, c_out, alignment="cwi"):
    return torch.einsum("oc,bchw->bohw", interpolation_matrix(c_out, x_BCHW.shape[1], alignment), x_BCHW)


@given(c_in=sizes, c_out=sizes)
def test_interpolation_is_the_footnote_and_torchs_3d_adaptive_pooling(c_in, c_out):
    x = torch.randn(2, c_in, 3, 2, generator=torch.Generator().manual_seed(c_in))
    found = by_matrix(x, c_out)
    assert torch.allclose(found, footnote_2(x, c_out), atol=1e-6)
    assert torch.allclose(found, F.adaptive_avg_pool3d(x, (c_out, 3, 2)), atol=1e-6)


@given(c_in=sizes, c_out=sizes)
def test_linear_interpolation_is_bilinear_and_trilinear_alike(c_in, c_out):
    """Over channels alone: the other axes keep their size."""
    x = torch.randn(2, c_in, 3, 2, generator=torch.Generator().manual_seed(c_in))
    found = by_matrix(x, c_out, "linear")
    bilinear = F.interpolate(x.reshape(2, 1, c_in, 6), (c_out, 6), mode="bilinear").reshape(2, c_out, 3, 2)
    trilinear = F.interpolate(x[:, None], (c_out, 3, 2), mode="trilinear")[:, 0]
    for theirs in (bilinear, trilinear):
        assert torch.allclose(found, theirs, atol=1e-6)


@given(c_in=sizes, more=st.integers(0, 8))
def test_padding_appends_zeros(c_in, more):
    x = torch.randn(2, c_in, 3, 2)
    assert torch.equal(by_matrix(x, c_in + more, "pad"), F.pad(x, (0, 0, 0, 0, 0, more)))


@pytest.mark.parametrize("alignment", ["cwi", "linear", "pad"])
@given(channels=sizes)
def test_equal_widths_make_interpolation_the_identity(channels, alignment):
    assert torch.equal(interpolation_matrix(channels, channels, alignment), torch.eye(channels))


# ---- Equations 3 and 4: sampling


def test_noise_is_standard_gumbel():
    noise = gumbel_like(torch.empty(500, 200), torch.Generator().manual_seed(0))
    assert noise.dtype == torch.float32
    assert stats.kstest(noise.flatten().numpy(), stats.gumbel_r.cdf).pvalue > 1e-3
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.015)  # 4 standard errors
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.02)


@pytest.mark.parametrize("u", [0.0, 1.0, 1 - 2**-24])
def test_noise_is_finite_at_the_ends_of_the_uniform(monkeypatch, u):
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor([u]))
    assert gumbel_like(torch.zeros(1)).isfinite().all()


def draw(p, tau, samples, n, seed=0):
    """n independent draws of one row: picks (n, I) and weights (n, I)."""
    log_p = torch.tensor(p).log().expand(n, len(p))
    return sample_candidates(log_p, tau, samples, torch.Generator().manual_seed(seed))


def chi_squared(picks, probabilities):
    """p-value of the counts of `picks` against expected probabilities."""
    counts = np.bincount(picks, minlength=len(probabilities))
    return stats.chisquare(counts, len(picks) * np.asarray(probabilities)).pvalue


def test_cold_single_draws_are_categorical():
    """As tau goes to 0, p^ becomes one-hot at a draw from p (below Equation 3)."""
    p = [0.4, 0.05, 0.3, 0.05, 0.2]
    picks, _ = draw(p, 0.01, 1, 20_000)
    assert chi_squared(picks[:, 0].numpy(), p) > 1e-3


def test_hot_single_draws_are_uniform():
    picks, _ = draw([0.9, 0.02, 0.08], 1e4, 1, 20_000)
    assert chi_squared(picks[:, 0].numpy(), [1 / 3] * 3) > 1e-3


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 3.0])
def test_marginal_of_a_single_draw_between_two(tau):
    """P(first) = E p^_1 = E sigmoid((log p1/p2 + o1 - o2) / tau), and o1 - o2 is logistic."""
    p = [0.8, 0.2]
    picks, _ = draw(p, tau, 1, 40_000)

    def integrand(x):
        z = (math.log(p[0] / p[1]) + x) / tau
        return stats.logistic.pdf(x) * (1 + math.tanh(z / 2)) / 2

    first, _ = integrate.quad(integrand, -40, 40, points=[-math.log(4)], limit=200)
    assert chi_squared(picks[:, 0].numpy(), [first, 1 - first]) > 1e-3


def test_given_the_noise_pairs_are_drawn_from_the_multinomial_without_replacement(monkeypatch):
    """P(i, then j) = p^_i p^_j / (1 - p^_i), whatever the noise of Equation 3 was."""
    p, tau, o = torch.tensor([0.4, 0.1, 0.3, 0.2]), 0.7, torch.tensor([0.3, 1.2, -0.5, 0.1])
    noises = [lambda x: o.expand_as(x), lambda x: gumbel_like(x, torch.Generator().manual_seed(0))]
    monkeypatch.setattr(layers, "gumbel_like", lambda x, _generator: noises.pop(0)(x))
    picks, weights = draw(p.tolist(), tau, 2, 40_000)

    p_hat = ((p.log() + o) / tau).softmax(0).numpy()
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    expected = [p_hat[i] * p_hat[j] / (1 - p_hat[i]) for i, j in pairs]
    found = [pairs.index(pair) for pair in map(tuple, picks.tolist())]
    assert chi_squared(found, expected) > 1e-3
    # Equation 4: the weights are p^ renormalised over I
    chosen = p_hat[picks.numpy()]
    assert np.allclose(weights.numpy(), chosen / chosen.sum(axis=1, keepdims=True), atol=1e-6)


@given(st.data())
def test_draws_never_repeat_and_weigh_by_the_logits_they_came_from(data):
    count, rows = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 30))
    samples, tau, seed = data.draw(st.integers(1, count)), data.draw(st.floats(0.1, 10)), data.draw(sizes)
    log_p = torch.randn(rows, count, generator=torch.Generator().manual_seed(seed)).log_softmax(1)
    picks, weights = sample_candidates(log_p, tau, samples, torch.Generator().manual_seed(seed))
    assert picks.shape == weights.shape == (rows, samples)
    assert all(len(set(row)) == samples for row in picks.tolist())
    assert torch.allclose(weights.sum(1), torch.ones(rows))
    u = torch.rand(rows, count, generator=torch.Generator().manual_seed(seed))
    logits = (log_p - (-u.log()).log()) / tau
    by_hand = torch.stack([logit[pick].softmax(0) for logit, pick in zip(logits, picks, strict=True)])
    assert torch.allclose(weights, by_hand, atol=1e-5)


def test_weights_carry_the_gradient_of_equation_4():
    """d w_a / d log p_j = w_a (1[a = j] - w_j) / tau for j in I, 0 outside."""
    log_p = torch.randn(1, 6).log_softmax(1).requires_grad_()
    picks, weights = sample_candidates(log_p, 0.5, 3, torch.Generator().manual_seed(0))
    for a in range(3):
        [found] = torch.autograd.grad(weights[0, a], log_p, retain_graph=True)
        expected, w = torch.zeros(6), weights[0].detach()
        expected[picks[0]] = w[a] * (torch.eye(3)[a] - w) / 0.5
        assert torch.allclose(found[0], expected, atol=1e-6)


def test_one_sample_has_weight_one_and_no_gradient():
    """The paper's |I| = 1 (Table 2) learns nothing from the task."""
    alpha = torch.randn(5, 8).requires_grad_()
    _, weights = sample_candidates(alpha.log_softmax(1), 0.3, 1, torch.Generator().manual_seed(0))
    assert torch.equal(weights, torch.ones(5, 1))
    [grad] = torch.autograd.grad((weights * torch.arange(5.0)[:, None]).sum(), alpha)
    assert not grad.any()


def test_missing_candidates_have_weight_zero():
    """A row with fewer candidates than samples: log p is -inf past its end."""
    alpha = torch.randn(200, 4).requires_grad_()
    missing = torch.tensor([False, False, True, True])
    log_p = alpha.masked_fill(missing, -torch.inf).log_softmax(1)
    picks, weights = sample_candidates(log_p, 0.5, 3, torch.Generator().manual_seed(0))
    assert all({0, 1} < set(row) for row in picks.tolist())
    assert not weights[picks >= 2].any()
    assert torch.allclose(weights.sum(1), torch.ones(200))
    [grad] = torch.autograd.grad(weights[:, 0].sum(), alpha)
    assert grad.isfinite().all()
    assert not grad[:, 2:].any()


# ---- Equation 4: the elastic convolution


def one_by_one(conv, x, picks, weights):
    """Equation 4 in its own words: convolve at full width, then slice, norm, interpolate and weigh each."""
    full = F.conv2d(x, conv.weight[:, : x.shape[1]], stride=conv.stride, padding=conv.weight.shape[-1] // 2)
    widest, total = max(conv.candidates[j] for j in picks), 0
    for w, j in zip(weights, picks, strict=True):
        c_j = conv.candidates[j]
        norm = nn.BatchNorm2d(c_j).train()
        del norm.weight, norm.bias
        norm.weight, norm.bias = conv.gamma[j, :c_j], conv.beta[j, :c_j]
        total = total + w * F.adaptive_avg_pool3d(norm(full[:, :c_j]), (widest, *full.shape[2:]))
    return total


@pytest.mark.usefixtures("float64")
@given(st.data())
def test_fused_convolution_is_the_candidate_by_candidate_one(data):
    candidates = sorted(data.draw(st.sets(st.integers(1, 12), min_size=1, max_size=8)))
    picks = data.draw(st.permutations(range(len(candidates))))[: data.draw(st.integers(1, 8))]
    kernel, stride = data.draw(st.sampled_from([1, 3, 5])), data.draw(st.integers(1, 2))
    c_in, batch, side = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 4)), data.draw(st.integers(2, 6))
    torch.manual_seed(data.draw(sizes))
    conv = ElasticConv(6, candidates, kernel, stride)
    for parameter in (conv.gamma, conv.beta):
        nn.init.normal_(parameter)
    x = torch.randn(batch, c_in, side, side).requires_grad_()
    weights = torch.randn(len(picks)).requires_grad_()

    found, expected = conv(x, picks, weights), one_by_one(conv, x, picks, weights)
    assert found.shape == (batch, max(candidates[j] for j in picks), -(-side // stride), -(-side // stride))
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-9)
    cotangent, inputs = torch.randn_like(found), (x, conv.weight, conv.gamma, conv.beta, weights)
    for ours, theirs in zip(*(torch.autograd.grad(y, inputs, cotangent) for y in (found, expected)), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-7, atol=1e-8)


def test_bfloat16_costs_the_architectures_gradient_about_what_it_costs_the_naive_form():
    """Relative to float32, over forty layers: within twice the naive form's own error."""
    errors = {"fused": [], "naive": []}
    for seed in range(40):
        torch.manual_seed(seed)
        conv, x = ElasticConv(16, (5, 9, 16), kernel=3, stride=1), torch.randn(16, 16, 8, 8)
        weights, cotangent = torch.rand(2).requires_grad_(), torch.randn(16, 16, 8, 8)
        for name, form in (("fused", conv), ("naive", partial(one_by_one, conv))):
            found = []
            for enabled in (False, True):
                with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                    out = form(x, [1, 2], weights)
                found += torch.autograd.grad((out.float() * cotangent).sum(), weights)
            errors[name].append(((found[0] - found[1]).norm() / found[0].norm()).item())
    assert 0 < sum(errors["fused"]) < 2 * sum(errors["naive"])


@pytest.mark.usefixtures("float64")
def test_what_is_drawn_past_a_rows_end_changes_nothing():
    """Weight 0 on a repeated candidate: how a short row comes out of `Architecture.sample`."""
    conv, x = ElasticConv(3, (2, 5), kernel=3, stride=1), torch.randn(2, 3, 4, 4)
    nn.init.normal_(conv.gamma)
    found = conv(x, [0, 1, 1], torch.tensor([0.3, 0.7, 0.0]))
    assert torch.allclose(found, conv(x, [0, 1], torch.tensor([0.3, 0.7])))


def test_convolution_starts_as_he_initialised_and_unit_affine():
    torch.manual_seed(0)
    conv = ElasticConv(64, (19, 64), kernel=3, stride=1)
    assert conv.weight.shape == (64, 64, 3, 3)
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    assert torch.equal(conv.gamma, torch.ones(2, 64))
    assert not conv.beta.any()


# ---- zero padding


@given(a=sizes, b=sizes)
def test_adding_pads_the_narrower_map_with_zero_channels(a, b):
    """In value and gradient, against autograd through an explicit padding."""
    x, y = (torch.randn(2, c, 3, 2, requires_grad=True) for c in (a, b))
    padded = [F.pad(t, (0, 0, 0, 0, 0, max(a, b) - t.shape[1])) for t in (x, y)]
    expected, found = F.relu(sum(padded)), add_relu(x.clone(), y)  # which is overwritten
    assert torch.equal(found, expected)
    g = torch.randn_like(found)
    for one, other in zip(*(torch.autograd.grad(z, (x, y), g) for z in (found, expected)), strict=True):
        assert torch.equal(one, other)
