"""Server optimisers against the update rules of their papers, computed by hand."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from protocol.errors import Code, WardroundError
from protocol.study.study import ServerOptimiser
from server.model.optimisers import NAMES, build

GRADIENTS = ([0.5, -2.0], [1.0, 1.0], [-0.25, 0.0])


def run(plan: ServerOptimiser) -> list[float]:
    weights = torch.tensor([1.0, 2.0])
    optimiser = build(weights, plan)
    for gradient in GRADIENTS:
        optimiser.step(torch.tensor(gradient))
    return weights.tolist()


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
    weights = torch.tensor([1.0])
    optimiser = build(weights, ServerOptimiser(lr=0.1, tau=0.1, **plan))
    for gradient, expected in ((0.5, first), (1.0, second)):
        optimiser.step(torch.tensor([gradient]))
        assert weights.item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_of_an_optimiser_goes_on_bit_for_bit(name: str) -> None:
    plan = ServerOptimiser(name=name, lr=0.1)
    whole, resumed = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])
    first, begun = build(whole, plan), build(resumed, plan)
    for optimiser in (first, begun):
        optimiser.step(torch.tensor(GRADIENTS[0]))
    again = build(resumed, plan)
    again.load_state_dict(begun.state_dict())
    for gradient in GRADIENTS[1:]:
        first.step(torch.tensor(gradient))
        again.step(torch.tensor(gradient))
    assert torch.equal(whole, resumed)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_in_the_layout_of_torch(name: str) -> None:
    """Releases that made their optimisers from torch's class read it, and this one theirs."""
    state = build(torch.zeros(3), ServerOptimiser(name=name, momentum=0.9)).state_dict()
    (group,) = state["param_groups"]
    weights = torch.zeros(3, requires_grad=True)
    theirs = torch.optim.Optimizer([weights], {k: v for k, v in group.items() if k != "params"})
    for key, moments in state["state"].items():
        assert key == 0
        theirs.state[weights] = moments
    expected = theirs.state_dict()
    assert state["param_groups"] == expected["param_groups"]
    assert state["state"].keys() == expected["state"].keys()


def test_a_model_trains_and_is_kept_without_the_compiler_of_torch() -> None:
    """A process of its own: this one may have loaded it for another test."""
    code = """
import sys, torch
from protocol.study.study import ServerOptimiser
from server.model.optimisers import NAMES, build
for name in NAMES:
    optimiser = build(torch.zeros(3), ServerOptimiser(name=name))
    optimiser.step(torch.ones(3))
    optimiser.load_state_dict(optimiser.state_dict())
assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_unknown_optimiser_is_named_with_its_remedy() -> None:
    with pytest.raises(WardroundError) as refused:
        build(torch.zeros(1), ServerOptimiser(name="fedfoo"))
    assert refused.value.code is Code.CONFIGURATION
    assert "fedadam" in refused.value.remedy
