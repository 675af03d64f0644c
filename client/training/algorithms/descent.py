"""One step of a site's optimiser on the flat vector of weights.

Written out, since torch's own optimisers bring its compiler along, seconds at the first one made.
In mode local a gradient is clipped and noised before it comes here: all of this is post-processing.
"""

from __future__ import annotations

from typing import Any, assert_never

import torch
from torch import Tensor, nn

from protocol.study.algorithms import AdamW, LocalOptimiser, Sgd

PLAIN = Sgd()
_LEAST = 1e-8
"""Added to the root of the second moment (epsilon of the paper)."""


class Descent:
    """The weights after each gradient. It knows what DPOptimizer needs of an optimiser, and begins
    without memory: a round's own."""

    def __init__(self, weights: nn.Parameter, lr: float, rule: LocalOptimiser = PLAIN) -> None:
        """weights: (P,)."""
        self.param_groups: list[dict[str, Any]] = [{"params": [weights], "lr": lr}]
        self._rule = rule
        self._first: Tensor | None = None
        self._second: Tensor | None = None
        self._steps = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for weights in group["params"]:
                weights.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weights in group["params"]:
                if self._rule.weight_decay:
                    weights.mul_(1 - group["lr"] * self._rule.weight_decay)
                weights.sub_(self._direction(weights.grad), alpha=group["lr"])

    def _direction(self, gradient: Tensor) -> Tensor:
        match self._rule:
            case Sgd(momentum=momentum):
                return self._with_momentum(gradient, momentum) if momentum else gradient
            case AdamW(beta1=beta1, beta2=beta2):
                return self._adaptive(gradient, beta1, beta2)
        assert_never(self._rule)

    def _with_momentum(self, gradient: Tensor, momentum: float) -> Tensor:
        """m <- momentum m + g."""
        if self._first is None:
            self._first = gradient.clone()
        else:
            self._first.mul_(momentum).add_(gradient)
        return self._first

    def _adaptive(self, gradient: Tensor, beta1: float, beta2: float) -> Tensor:
        """Kingma and Ba 2015, Algorithm 1: both moments without the bias of their beginning."""
        if self._first is None or self._second is None:
            self._first, self._second = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self._steps += 1
        self._first.lerp_(gradient, 1 - beta1)
        self._second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        spread = (self._second / (1 - beta2**self._steps)).sqrt_().add_(_LEAST)
        return self._first / (1 - beta1**self._steps) / spread
