"""Server optimisers against the update rules of their papers, computed by hand."""

from typing import Any

import pytest
import torch

from protocol.errors import Code, WardroundError
from protocol.study.study import ServerOptimiser
from server.model.optimisers import NAMES, build

GRADIENTS = ([0.5, -2.0], [1.0, 1.0], [-0.25, 0.0])


def run(plan: ServerOptimiser) -> list[float]:
    weights = torch.tensor([1.0, 2.0], requires_grad=True)
    optimiser = build(weights, plan)
    for gradient in GRADIENTS:
        weights.grad = torch.tensor(gradient)
        optimiser.step()
    return weights.detach().tolist()


def test_fedavg_with_lr_1_applies_the_mean_update_as_it_is() -> None:
    """McMahan et al. 2017, Algorithm 1: w <- w + mean difference; the gradient is minus that."""
    assert run(ServerOptimiser(name="fedavg", lr=1.0)) == pytest.approx([1.0 - 1.25, 2.0 + 1.0])


def test_fedavgm_keeps_a_momentum() -> None:
    """Hsu, Qi, Brown 2019, section 4.3: v <- beta v + g; w <- w - lr v."""
    expected = []
    for coordinate, start in enumerate((1.0, 2.0)):
        velocity, weight = 0.0, start
        for gradient in GRADIENTS:
            velocity = 0.9 * velocity + gradient[coordinate]
            weight -= 0.1 * velocity
        expected.append(weight)
    assert run(ServerOptimiser(name="fedavgm", lr=0.1, momentum=0.9)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_adaptive_optimisers_follow_reddi_et_al(name: str) -> None:
    """Reddi et al. 2021, Algorithm 2, with v_{-1} = tau^2 and no bias correction."""
    lr, beta1, beta2, tau = 0.1, 0.9, 0.99, 0.01
    expected = []
    for coordinate, start in enumerate((1.0, 2.0)):
        m, v, weight = 0.0, tau**2, start
        for gradient in GRADIENTS:
            delta = -gradient[coordinate]
            m = beta1 * m + (1 - beta1) * delta
            square = delta**2
            if name == "fedadagrad":
                v = v + square
            elif name == "fedadam":
                v = beta2 * v + (1 - beta2) * square
            else:
                sign = (v > square) - (v < square)
                v = v - (1 - beta2) * square * sign
            weight += lr * m / (v**0.5 + tau)
        expected.append(weight)
    plan = ServerOptimiser(name=name, lr=lr, beta1=beta1, beta2=beta2, tau=tau)
    assert run(plan) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("plan", "first", "second"),
    [
        # w = 1 - 0.1 * 0.5; then 0.95 - 0.1 * 1
        ({"name": "fedavg"}, 0.95, 0.85),
        # velocity 0.5, then 0.9 * 0.5 + 1 = 1.45
        ({"name": "fedavgm", "momentum": 0.9}, 0.95, 0.805),
        # m = 0.05, v = 0.01 + 0.25 = 0.26: 1 - 0.005 / 0.609902;
        # m = 0.145, v = 1.26: 0.991802 - 0.0145 / 1.222497
        ({"name": "fedadagrad"}, 0.991802, 0.979941),
        # v = 0.0099 + 0.0025 = 0.0124: 1 - 0.005 / 0.211355;
        # v = 0.012276 + 0.01 = 0.022276: 0.976343 - 0.0145 / 0.249251
        ({"name": "fedadam"}, 0.976343, 0.918169),
        # v = 0.01 + 0.0025 = 0.0125: 1 - 0.005 / 0.211803;
        # v = 0.0125 + 0.01 = 0.0225: 0.976393 - 0.0145 / 0.25
        ({"name": "fedyogi"}, 0.976393, 0.918393),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_two_steps_with_a_pencil(plan: dict[str, Any], first: float, second: float) -> None:
    """w = 1, lr 0.1, gradients 0.5 and 1, beta1 0.9, beta2 0.99, tau 0.1 (so v starts at 0.01)."""
    weights = torch.tensor([1.0], requires_grad=True)
    optimiser = build(weights, ServerOptimiser(lr=0.1, tau=0.1, **plan))
    for gradient, expected in ((0.5, first), (1.0, second)):
        weights.grad = torch.tensor([gradient])
        optimiser.step()
        assert weights.item() == pytest.approx(expected, abs=2e-6)


def test_every_optimiser_is_a_torch_optimiser_on_the_flat_vector() -> None:
    for name in NAMES:
        weights = torch.zeros(3, requires_grad=True)
        assert isinstance(build(weights, ServerOptimiser(name=name)), torch.optim.Optimizer)


def test_an_unknown_optimiser_is_named_with_its_remedy() -> None:
    with pytest.raises(WardroundError) as refused:
        build(torch.zeros(1, requires_grad=True), ServerOptimiser(name="fedfoo"))
    assert refused.value.code is Code.CONFIGURATION
    assert "fedadam" in refused.value.remedy
