"""Server optimisers on the flat vector (Reddi et al. 2021, Algorithm 2).

The gradient is the negative mean update (local steps) or the mean clipped gradient (one sum a
round), so plain SGD with lr 1 is FedAvg. The adaptive three differ only in their second moment v
and, as in the paper, have no bias correction, which `torch.optim.Adam` would add. None of them is a
`torch.optim.Optimizer`: keeping or loading the state of one brings torch's compiler along, which
takes seconds and 100 MB, and which nothing here uses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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


class FlatOptimizer(ABC):
    """Moves one (P,) float32 tensor in place. Its moments have names and the tensor's shape."""

    def __init__(self, weights: Tensor, **options: float) -> None:
        self.weights, self.options = weights, options
        self.moments: dict[str, Tensor] = {}

    @abstractmethod
    def step(self, gradient: Tensor) -> None:
        """Moves the weights against `gradient`, (P,) float32, at the rate `options["lr"]`."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the layout of `torch.optim`, in which it was always written."""
        group = self.options | {"params": [0]}
        return {"state": {0: self.moments} if self.moments else {}, "param_groups": [group]}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Takes the moments from a checkpoint; the options are the study's."""
        for name, moment in saved["state"].get(0, {}).items():
            self.moments[name].copy_(moment)


class Momentum(FlatOptimizer):
    """v <- momentum v + g;  w <- w - lr v.  With momentum 0: FedAvg."""

    def __init__(self, weights: Tensor, lr: float, momentum: float = 0.0) -> None:
        super().__init__(weights, lr=lr, momentum=momentum)
        if momentum:
            self.moments["velocity"] = torch.zeros_like(weights)

    def step(self, gradient: Tensor) -> None:
        velocity = gradient
        if momentum := self.options["momentum"]:
            velocity = self.moments["velocity"].mul_(momentum).add_(gradient)
        self.weights.sub_(velocity, alpha=self.options["lr"])


class Adaptive(FlatOptimizer):
    """m <- b1 m + (1 - b1) g;  v <- rule(v, g^2);  w <- w - lr m / (sqrt(v) + tau).

    v starts at tau^2 (Reddi et al. 2021, Algorithm 2, line 1).
    """

    def __init__(
        self, weights: Tensor, lr: float, beta1: float, beta2: float, tau: float, rule: SecondMoment
    ) -> None:
        super().__init__(weights, lr=lr, beta1=beta1, beta2=beta2, tau=tau)
        self._rule = rule
        self.moments["m"] = torch.zeros_like(weights)
        self.moments["v"] = torch.full_like(weights, tau**2)

    def step(self, gradient: Tensor) -> None:
        options, moments = self.options, self.moments
        moments["m"].mul_(options["beta1"]).add_(gradient, alpha=1 - options["beta1"])
        moments["v"] = self._rule(moments["v"], gradient.square(), options["beta2"])
        scale = moments["v"].sqrt().add_(options["tau"])
        self.weights.addcdiv_(moments["m"], scale, value=-options["lr"])


_RULES: dict[str, SecondMoment] = {"fedadagrad": _adagrad, "fedadam": _adam, "fedyogi": _yogi}
NAMES = ("fedavg", "fedavgm", *sorted(_RULES))


def build(weights: Tensor, plan: ServerOptimiser) -> FlatOptimizer:
    """An optimiser that moves `weights`, (P,) float32. Raises WardroundError(CONFIGURATION)."""
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
