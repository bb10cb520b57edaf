"""The parts of the supernet: Gumbel sampling, channel-wise interpolation, the elastic and depthwise convolutions.

Shape suffixes: B batch, C channels, H height, W width, R rows (one per searched decision), K candidates,
I sampled candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tas_bench.fused import EPS, normalised_mix


def gumbel_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise o = -log(-log(u)), u ~ U(0, 1), of the shape of `x` (Equation 3)."""
    u = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return -torch.log(-torch.log(u.clamp(1e-20, 1 - 1e-7)))


def sample_candidates(
    log_p_RK: Tensor, tau: float, samples: int, generator: torch.Generator | None = None, mixture: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw candidates without replacement and weigh them (Equations 3 and 4).

    The subset I is drawn from the multinomial T_p^ with p^ = softmax((log p + o) / tau): adding fresh Gumbel
    noise to log p^ and taking the largest is that draw. The weights are p^ renormalised over I.

    Args:
        mixture: take p^ = p instead (Equation 2, Figure 3's "mixture").

    Returns:
        Candidate indices (R, I) and their weights (R, I), which carry the gradient to `log_p_RK`.
    """
    logits_RK = log_p_RK if mixture else (log_p_RK + gumbel_like(log_p_RK, generator)) / tau
    with torch.no_grad():
        log_p_hat = torch.log_softmax(logits_RK, dim=1)
        picks_RI = (log_p_hat + gumbel_like(log_p_hat, generator)).topk(samples, dim=1).indices
    return picks_RI, torch.softmax(logits_RK.gather(1, picks_RI), dim=1)


@lru_cache(maxsize=4096)
def interpolation_matrix(c_out: int, c_in: int, alignment: str = "cwi", device: str = "cpu") -> Tensor:
    """A way of matching channels, as a matrix (c_out, c_in).

    Args:
        alignment: "cwi" averages channels floor(i c_in / c_out) to ceil((i + 1) c_in / c_out) - 1 into channel i
            (paper, footnote 2), which is adaptive average pooling over channels; "linear" interpolates between
            channels, as bilinear and trilinear interpolation do; "pad" appends zeros.
    """
    eye = torch.eye(c_in)
    if alignment == "pad":
        matrix = F.pad(eye, (0, 0, 0, c_out - c_in))
    elif alignment == "linear":
        matrix = F.interpolate(eye[None], size=c_out, mode="linear", align_corners=False)[0].T
    else:
        matrix = F.adaptive_avg_pool1d(eye[None], c_out)[0].T
    return matrix.contiguous().to(device)


class ElasticConv(nn.Module):
    """Convolution, one batch norm per candidate width, interpolation and weighted sum (Equation 4), fused.

    All candidates are prefixes of one convolution's output and share its batch statistics; only their affine
    parameters (gamma_j, beta_j) differ. Interpolation is linear over channels, a matrix M_j. So

        sum_j w_j M_j (gamma_j x_hat[:C_j] + beta_j)  =  A x_hat + b
        A = sum_j w_j M_j diag(gamma_j),  b = sum_j w_j M_j beta_j

    is one 1 x 1 convolution, whatever the number of candidates; a single one has nothing to mix. Batch norm always
    uses batch statistics.
    """

    def __init__(
        self, c_in: int, candidates: Sequence[int], kernel: int, stride: int, alignment: str = "cwi"
    ) -> None:
        super().__init__()
        c_out = max(candidates)
        self.candidates, self.stride, self.alignment = tuple(candidates), stride, alignment
        self.weight = nn.Parameter(torch.empty(c_out, c_in, kernel, kernel))
        self.gamma = nn.Parameter(torch.ones(len(candidates), c_out))
        self.beta = nn.Parameter(torch.zeros(len(candidates), c_out))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.macs = 0

    def forward(self, x: Tensor, picks: Sequence[int], weights_I: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_max, H', W') with the widest sampled width C_max.

        Args:
            picks: I candidate indices.
            weights_I: their weights.
        """
        c_in, c_max = x.shape[1], max(self.candidates[j] for j in picks)
        kernel = self.weight.shape[-1]
        out = F.conv2d(x, self.weight[:c_max, :c_in], stride=self.stride, padding=kernel // 2)
        self.macs = kernel**2 * c_in * c_max * out.shape[2] * out.shape[3]
        if len(picks) == 1:
            gamma, beta = (weights_I[0] * affine[picks[0], :c_max] for affine in (self.gamma, self.beta))
            return F.batch_norm(out, None, None, gamma, beta, training=True, eps=EPS)
        self.macs += c_max**2 * out.shape[2] * out.shape[3]
        return normalised_mix(out, *self._affine(picks, weights_I, c_max))

    def _affine(self, picks: Sequence[int], weights_I: Tensor, c_max: int) -> tuple[Tensor, Tensor]:
        """A (C_max, C_max) and b (C_max,)."""
        mixes, shifts = [], []
        for w, j in zip(weights_I.unbind(), picks, strict=True):
            c_j = self.candidates[j]
            matrix = interpolation_matrix(c_max, c_j, self.alignment, str(w.device))
            mixes.append(w * F.pad(matrix * self.gamma[j, :c_j], (0, c_max - c_j)))
            shifts.append(w * (matrix @ self.beta[j, :c_j]))
        return torch.stack(mixes).sum(0), torch.stack(shifts).sum(0)


class DepthwiseConv(nn.Module):
    """Depthwise convolution and batch norm over the channels that come, a prefix of its own.

    What comes is mixed already: no candidates, no mixing here. Batch norm always uses batch statistics.
    """

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel, kernel))
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.macs = 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        c, kernel = x.shape[1], self.weight.shape[-1]
        out = F.conv2d(x, self.weight[:c], stride=self.stride, padding=kernel // 2, groups=c)
        self.macs = kernel**2 * c * out.shape[2] * out.shape[3]
        return F.batch_norm(out, None, None, self.gamma[:c], self.beta[:c], training=True, eps=EPS)


def padded_sum(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two feature maps (B, C, H, W); the narrower counts as padded with zero channels."""
    widest = max(a.shape[1], b.shape[1])
    a, b = (F.pad(x, (0, 0, 0, 0, 0, widest - x.shape[1])) if x.shape[1] < widest else x for x in (a, b))
    return a + b
