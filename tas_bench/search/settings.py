"""The settings of a search, and the schedules that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tas_bench.errors import InputError, check_least

PAPER_STEPS = 600 * 98
"""Architecture updates of the paper's CIFAR search: 600 epochs of 25,000 images in batches of 256."""

MAX_ARCH_LR = 0.15
"""Above this a search on digits jumped about instead of settling."""

SETTLING = 40
"""Updates at the end in which the argmax settles, or all of a shorter search: enough for any rate to fall."""

CHOICES = {
    "search": ("W", "D", "WD"),
    "selection": ("gumbel", "mixture"),
    "alignment": ("cwi", "linear", "pad"),
    "tau_shape": ("linear", "cosine", "constant"),
    "zone": ("paper", "released"),
    "rule": ("deployed", "released"),
}


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Settings of Algorithm 1. Defaults are the paper's section 4.1.

    Weights use the sweep's recipe (SGD, cosine from 0.1) for `search_epochs`.

    Attributes:
        search: "W" searches width, "D" depth, "WD" both.
        samples: |I| of Equation 4, up to the number of candidates.
        depth_samples: depth candidates aggregated in Equation 5; none for all of them, as in the paper.
        draws: parts of a batch that draw on their own (the paper's two GPUs drew one each).
        selection: "gumbel" weighs candidates by Equation 3; "mixture" by plain softmax, Equation 2 (with `samples`
            at the number of candidates nothing is drawn at all: a full mixture).
        alignment: how widths are matched: "cwi" (adaptive average pooling), "linear" (bilinear or trilinear
            interpolation, which are one over channels) or "pad" (zeros; Figure 3's "without CWI").
        lambda_cost: weight of the cost loss in Equation 7.
        tau_start, tau_end, tau_shape: temperature of Equation 3 over epochs; "constant" stays at the start.
        arch_lr: Adam's rate at the paper's 58,800 updates. A shorter search scales it up so that rate x updates
            stays the same, to `MAX_ARCH_LR` at most, since otherwise it decides nothing; at the end it falls
            towards `arch_lr` while the argmax meets the budget, see `settled_lr`.
        zone: where the cost loss is zero: "paper" between (1 - t) R and (1 + t) R, as Equation 8 says;
            "released" between R - t x (unpruned cost) and R, two fifths of it outside the band at 40 % pruned.
        rule: what F_cost and E_cost count: the budget's own cost, or rule S of the released code (macs).
        exact_expectation: E_cost over all candidate networks; the released code leaves out the shortcuts that
            a width mismatch needs.
    """

    search: str = "WD"
    samples: int = 2
    depth_samples: int | None = None
    draws: int = 1
    selection: str = "gumbel"
    alignment: str = "cwi"
    lambda_cost: float = 2.0
    search_epochs: int = 600
    tau_start: float = 10.0
    tau_end: float = 0.1
    tau_shape: str = "linear"
    arch_lr: float = 1e-3
    arch_weight_decay: float = 1e-3
    arch_beta1: float = 0.9
    zone: str = "paper"
    rule: str = "deployed"
    exact_expectation: bool = True

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"tas.{name} is '{getattr(self, name)}'; it must be {' or '.join(choices)}")
        check_least(self, "tas", 1, "samples", "depth_samples", "draws", "search_epochs")
        for name in ("tau_start", "tau_end", "arch_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"tas.{name} is {getattr(self, name)}; it must be positive")
        for name in ("lambda_cost", "arch_weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"tas.{name} is {getattr(self, name)}; it must not be negative")
        if not 0 <= self.arch_beta1 < 1:
            raise InputError(f"tas.arch_beta1 is {self.arch_beta1}; it must be in [0, 1)")

    @property
    def warning(self) -> str | None:
        """What a user should know before the search starts."""
        if self.samples == 1 and "W" in self.search:
            return "with |I| = 1 alpha gets no gradient from the task (the paper's own finding)"
        return None


def tau_at(settings: SearchSettings, progress: float) -> float:
    """Temperature at `progress` in [0, 1] of the search."""
    shapes = {"linear": progress, "cosine": (1 - math.cos(math.pi * progress)) / 2, "constant": 0.0}
    return settings.tau_start + (settings.tau_end - settings.tau_start) * shapes[settings.tau_shape]


def scaled_arch_lr(settings: SearchSettings, steps: int) -> float:
    """Adam's rate for a search of `steps` updates: rate x steps stays the paper's, within `MAX_ARCH_LR`."""
    return max(settings.arch_lr, min(settings.arch_lr * PAPER_STEPS / steps, MAX_ARCH_LR))


def settles(settings: SearchSettings, left: int) -> bool:
    """Whether the argmax settles in the update after which `left` remain: in a constrained search's last ones."""
    return settings.lambda_cost > 0 and left < SETTLING


def settled_lr(settings: SearchSettings, lr: float, scaled: float, in_band: bool) -> float:
    """Adam's rate of the next step while the argmax settles.

    A rate scaled up makes the argmax jump about the budget to the end. So in the last updates the rate falls by a
    fifth where the argmax meets the budget, to `arch_lr` at least, and grows by a quarter elsewhere, to `scaled`
    at most. Not sooner, since most is decided at the end, when the temperature is low.
    """
    return max(settings.arch_lr, 0.8 * lr) if in_band else min(scaled, 1.25 * lr)
