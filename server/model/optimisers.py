"""Server optimisers: `torch.optim` objects on the flat vector (Reddi et al. 2021, Algorithm 2).

The gradient is the negative mean update (local steps) or the mean clipped gradient (one sum a
round), so plain SGD with lr 1 is FedAvg. The adaptive three differ only in their second moment v
and, as in the paper, have no bias correction, which `torch.optim.Adam` would add.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from protocol.errors import Code, WardroundError
from protocol.study.study import ServerOptimiser

SecondMoment = Callable[[Tensor, Tensor, float], Tensor]


def _adagrad(v: Tensor, square: Tensor, beta2: float) -> Tensor:
    return v + square


def _adam(v: Tensor, square: Tensor, beta2: float) -> Tensor:
    return beta2 * v + (1 - beta2) * square


def _yogi(v: Tensor, square: Tensor, beta2: float) -> Tensor:
    return v - (1 - beta2) * square * torch.sign(v - square)


class FlatOptimizer(torch.optim.Optimizer):
    """Over one flat tensor. Adding it is all that torch's own class would do here after loading its
    compiler, which takes a second and which nothing here uses."""

    def __init__(self, weights: Tensor, **defaults: float) -> None:
        super().__init__([weights], defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.param_groups.append(self.defaults | param_group)


class Momentum(FlatOptimizer):
    """v <- momentum v + g;  w <- w - lr v.  With momentum 0: FedAvg."""

    def __init__(self, weights: Tensor, lr: float, momentum: float = 0.0) -> None:
        super().__init__(weights, lr=lr, momentum=momentum)
        if momentum:
            self.state[weights]["velocity"] = torch.zeros_like(weights)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure: the gradient is given
        for group in self.param_groups:
            for weights in group["params"]:
                velocity = weights.grad
                if group["momentum"]:
                    velocity = self.state[weights]["velocity"]
                    velocity.mul_(group["momentum"]).add_(weights.grad)
                weights.sub_(velocity, alpha=group["lr"])


class Adaptive(FlatOptimizer):
    """m <- b1 m + (1 - b1) g;  v <- rule(v, g^2);  w <- w - lr m / (sqrt(v) + tau).

    v starts at tau^2 (Reddi et al. 2021, Algorithm 2, line 1).
    """

    def __init__(
        self, weights: Tensor, lr: float, beta1: float, beta2: float, tau: float, rule: SecondMoment
    ) -> None:
        super().__init__(weights, lr=lr, beta1=beta1, beta2=beta2, tau=tau)
        self._rule = rule
        self.state[weights]["m"] = torch.zeros_like(weights)
        self.state[weights]["v"] = torch.full_like(weights, tau**2)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure: the gradient is given
        for group in self.param_groups:
            for weights in group["params"]:
                state, gradient = self.state[weights], weights.grad
                state["m"].mul_(group["beta1"]).add_(gradient, alpha=1 - group["beta1"])
                state["v"] = self._rule(state["v"], gradient.square(), group["beta2"])
                weights.addcdiv_(
                    state["m"], state["v"].sqrt().add_(group["tau"]), value=-group["lr"]
                )


_RULES: dict[str, SecondMoment] = {"fedadagrad": _adagrad, "fedadam": _adam, "fedyogi": _yogi}
NAMES = ("fedavg", "fedavgm", *sorted(_RULES))


def build(weights: Tensor, plan: ServerOptimiser) -> torch.optim.Optimizer:
    """An optimiser over `weights`, a (P,) float32 leaf. Raises WardroundError(CONFIGURATION)."""
    if plan.name == "fedavg":
        return Momentum(weights, plan.lr)
    if plan.name == "fedavgm":
        return Momentum(weights, plan.lr, plan.momentum)
    if plan.name not in _RULES:
        raise WardroundError(
            Code.CONFIGURATION,
            f"There is no server optimiser {plan.name!r}.",
            remedy=f"Choose one of: {', '.join(NAMES)}.",
        )
    return Adaptive(weights, plan.lr, plan.beta1, plan.beta2, plan.tau, _RULES[plan.name])
