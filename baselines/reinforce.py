"""REINFORCE (Williams, 1992) over widths and depths, with TuNAS's absolute-value reward (CVPR 2020, 2008.06120).

The policy draws every width and depth on its own, from a softmax of logits that start at zero. A size of accuracy
Q and cost T is worth Q + beta |T / R - 1| (TuNAS, section 4.1), so that a policy settles where the budget is met
rather than below it. What it draws is judged as it is, in the band or not. At last sizes are drawn inside the
band, the most probable one among them, and the best of these is found, as ENAS derives its own (Pham et al., 2018,
section 2.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from tas_bench.budget import Band, most_probable
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.fitness import Fitness, best_of, fitness_of
from tas_bench.jobs import Plan, Problem
from tas_bench.space import IntArray


@dataclass(frozen=True, kw_only=True)
class Reinforce(Fitness):
    """REINFORCE; by default as many sizes as random search has.

    Attributes:
        steps: updates of the policy.
        samples: sizes drawn and judged per step, and at last.
        policy_lr: rate of Adam on the logits.
        beta: what a deviation of the cost by the whole budget is worth, in accuracy; negative.
        baseline_momentum: of the moving average of rewards that rewards are compared with.
    """

    name: ClassVar[str] = "reinforce"
    label: ClassVar[str] = "REINFORCE"

    steps: int = 3
    samples: int = 6
    policy_lr: float = 0.1
    beta: float = -0.5
    baseline_momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "steps", "samples")
        if not 0 < self.policy_lr < math.inf:
            raise InputError(f"reinforce.policy_lr is {self.policy_lr}; it must be positive")
        if not -math.inf < self.beta <= 0:
            raise InputError(f"reinforce.beta is {self.beta}; it must not be positive")
        if not 0 <= self.baseline_momentum < 1:
            raise InputError(f"reinforce.baseline_momentum is {self.baseline_momentum}; it must be in [0, 1)")

    @property
    def jobs(self) -> int:
        """One per size."""
        return (self.steps + 1) * self.samples + self.supernets

    def plan(self, problem: Problem, seed: int) -> Plan:
        """Draw, judge, update; what failed counts as the worst of its step. At last judge sizes in the band."""
        band, rng = Band.of(problem), np.random.default_rng([seed, 2])
        policy = Policy(band, self.policy_lr)
        baseline: float | None = None
        for step in range(self.steps):
            drawn = policy.draw(rng, self.samples)
            outcomes = yield from self.judge(problem, [band.space.size(indices) for indices in drawn], seed)
            quality = np.array([fitness_of(outcome) for outcome in outcomes])
            if quality.max() < 0:
                raise PlanFailedError(f"step {step + 1} failed whole, the first: {outcomes[0].error}")
            quality[quality < 0] = quality[quality >= 0].min()
            rewards = quality + self.beta * np.abs(band.costs(drawn) / problem.budget - 1)
            baseline = float(rewards.mean()) if baseline is None else baseline
            policy.update(drawn, rewards - baseline)
            baseline += (1 - self.baseline_momentum) * (float(rewards.mean()) - baseline)
        log_p = policy.log_p().detach().numpy()
        noise = rng.gumbel(size=(self.samples, *log_p.shape))
        noise[0] = 0
        sizes = [band.space.size(most_probable(log_p + each, band)) for each in noise]
        outcomes = yield from self.judge(problem, sizes, seed)
        best = best_of(outcomes)
        if best is None:
            raise PlanFailedError(f"all sizes inside the band failed, the first: {outcomes[0].error}")
        return sizes[best]


class Policy:
    """An independent choice for every row of a space."""

    def __init__(self, band: Band, lr: float) -> None:
        counts = torch.from_numpy(band.space.counts)[:, None]
        self.missing = torch.arange(int(counts.max())) >= counts
        self.logits = torch.zeros(self.missing.shape, dtype=torch.float64, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.logits], lr=lr)

    def log_p(self) -> torch.Tensor:
        """Log-probabilities (rows, candidates); -inf past a row's candidates."""
        return torch.log_softmax(self.logits.masked_fill(self.missing, -torch.inf), dim=1)

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Sizes as candidate indices (n, rows)."""
        ends = self.log_p().detach().exp().cumsum(dim=1).numpy()
        ends[:, -1] = 1.0  # whatever the rounding
        return np.asarray((rng.random((n, len(ends), 1)) >= ends).sum(axis=2)).clip(max=self._last)

    @property
    def _last(self) -> IntArray:
        return np.asarray((~self.missing).sum(dim=1).numpy() - 1)

    def update(self, drawn: IntArray, advantages: NDArray[np.float64]) -> None:
        """Ascend the mean of advantage x log-probability."""
        log_p = self.log_p()[torch.arange(drawn.shape[1]), torch.from_numpy(drawn)].sum(dim=1)
        self.optimizer.zero_grad()
        (-(torch.from_numpy(advantages) * log_p).mean()).backward()
        self.optimizer.step()
