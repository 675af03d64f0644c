"""Whatever draws at random is found and named, at any rate and from any stream."""

from __future__ import annotations

import random as python_random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from opacus.layers import DPLSTM, DPMultiheadAttention
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import DropBlock2d, StochasticDepth

from client.training.dp_trainer import DPTrainer
from client.training.forbidden_operations import forbidden_operation
from protocol.errors import Code, WardroundError
from tests.client.training.test_bookkeeping import Recurrent, Residual, random, task

TINY = 1e-12
"""A rate at which no test would ever see a value dropped."""
PICTURES, ROWS, SERIES = random(0, 2, 4, 8, 8), random(0, 3, 6), random(0, 2, 3, 4)


class Calling(nn.Module):
    """A layer that calls a function."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Any:
        return self._function(x)


def attended(x: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(x, x, x, dropout_p=TINY)


def own_generator(x: Tensor) -> Tensor:
    return x + torch.rand(x.shape, generator=torch.Generator().manual_seed(1))


def of_python(x: Tensor) -> Tensor:
    return x * (python_random.random() < 1)


def of_numpy(x: Tensor) -> Tensor:
    return x * np.random.random()


DRAWING: list[tuple[nn.Module, Tensor]] = [
    (nn.Dropout(TINY), ROWS),
    (nn.Dropout1d(TINY), SERIES),
    (nn.Dropout2d(TINY), PICTURES),
    (nn.Dropout3d(TINY), PICTURES[None]),
    (nn.AlphaDropout(TINY), ROWS),
    (nn.FeatureAlphaDropout(TINY), PICTURES),
    (nn.RReLU(0.25, 0.25), ROWS),
    (nn.FractionalMaxPool2d(2, output_size=3), PICTURES),
    (nn.LSTM(4, 3, num_layers=2, dropout=TINY, batch_first=True), SERIES),
    (nn.TransformerEncoderLayer(4, 2, 8, dropout=TINY, batch_first=True), SERIES),
    (StochasticDepth(TINY, "row"), ROWS),
    (StochasticDepth(TINY, "batch"), ROWS),
    (DropBlock2d(TINY, 3), PICTURES),
    (Calling(partial(functional.dropout, p=TINY)), ROWS),
    (Calling(partial(functional.dropout2d, p=TINY)), PICTURES),
    (Calling(functional.gumbel_softmax), ROWS),
    (Calling(lambda x: torch.bernoulli(x.sigmoid())), ROWS),
    (Calling(lambda x: torch.multinomial(x.abs(), 1)), ROWS),
    (Calling(lambda x: x[torch.randperm(len(x))]), ROWS),
    (Calling(lambda x: x + torch.randn_like(x)), ROWS),
    (Calling(lambda x: torch.distributions.Normal(x, 1.0).rsample()), ROWS),
    (Calling(attended), PICTURES),
    (Calling(own_generator), ROWS),
    (Calling(of_python), ROWS),
    (Calling(of_numpy), ROWS),
]


@pytest.mark.parametrize(
    ("layer", "features"), DRAWING, ids=[type(layer).__name__ for layer, _ in DRAWING]
)
def test_a_layer_that_draws_is_named_at_any_rate(layer: nn.Module, features: Tensor) -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(layer))
    states = torch.get_rng_state(), python_random.getstate()
    found = forbidden_operation(model, lambda: model(features.clone()))
    assert found is not None
    assert found.startswith("1.0")  # the layer, or one inside it, and none around it
    assert found.endswith("draws at random")
    assert torch.equal(states[0], torch.get_rng_state())
    assert python_random.getstate() == states[1]
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_every_layer_of_torch_with_drop_in_its_name_is_among_them() -> None:
    every = {name for name in vars(nn) if "drop" in name.lower() and name[0].isupper()}
    assert every == {name for name in every if name in {type(one).__name__ for one, _ in DRAWING}}


@pytest.mark.parametrize(
    ("layer", "features"),
    [
        (nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.LayerNorm(3)), ROWS),
        (nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), PICTURES),
        (nn.Dropout(0.0), ROWS),
        (nn.Dropout(0.5).eval(), ROWS),
        (DPLSTM(4, 3, batch_first=True), SERIES),
        (DPMultiheadAttention(4, 2), SERIES),
        (Residual(), random(0, 2, 2, 9, 8)),
        (Recurrent(), ROWS),
    ],
)
def test_a_layer_that_draws_nothing_is_left_alone(layer: nn.Module, features: Tensor) -> None:
    attention = isinstance(layer, DPMultiheadAttention)
    passed = (lambda: layer(features, features, features)) if attention else lambda: layer(features)
    assert forbidden_operation(layer, passed) is None


def test_a_draw_in_the_loss_or_the_backward_pass_is_found() -> None:
    model = nn.Linear(6, 1)
    loss = "the loss or the score draws at random"
    assert forbidden_operation(model, lambda: functional.dropout(model(ROWS), TINY)) == loss

    class Drawn(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            return gradients[0] + TINY * torch.randn_like(gradients[0])

    def work() -> None:
        drawn: Tensor = Drawn.apply(model(ROWS))
        drawn.sum().backward()

    assert forbidden_operation(model, work) == loss


def test_what_another_thread_draws_meanwhile_is_not_the_layer_s() -> None:
    calls: list[int] = []

    def elsewhere(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 1:  # once, as a thread would that sends a heartbeat
            python_random.random()
        return x

    model = Calling(elsewhere)
    assert forbidden_operation(model, lambda: model(ROWS)) is None


def test_work_on_another_device_is_found() -> None:
    """`meta` stands for an accelerator, on which `independence` tried nothing."""
    model = nn.Sequential(nn.Linear(6, 2), Calling(lambda x: x.to("meta")))
    found = forbidden_operation(model, lambda: model(ROWS))
    assert found == "1 (Calling) computes on meta"
    others: list[dict[str, Any]] = [{"device": "meta"}, {"dtype": torch.float64}]
    for elsewhere in others:
        with pytest.raises(WardroundError, match="float32 on the processor"):
            DPTrainer(task(partial(nn.Linear, 6, 1, **elsewhere)), 1)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.drop, self.head = nn.Linear(6, 8), nn.Dropout(TINY), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.drop(torch.tanh(self.inner(x))))
        return outputs


def test_a_task_that_drops_trains_with_no_epsilon_and_may_be_scored_with_one() -> None:
    """A model that is used, and no longer trained, drops nothing."""
    learner = DPTrainer(task(Dropping), 1)
    with pytest.raises(WardroundError, match=r"drop \(Dropout\) draws at random") as refused:
        learner.try_out(random(0, 64, 6), in_floats=False)
    assert refused.value.code is Code.CONFIGURATION
    assert refused.value.remedy
    scored = DPTrainer(task(lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), Head())), 1)
    scored.try_out(random(0, 64, 6), trains=False, in_floats=False)
    weights, rows = scored.model.weights(), random(1, 40, 6)
    together = scored.scores(weights, rows)
    assert all(together[at] == scored.scores(weights, rows[at : at + 1])[0] for at in range(40))


class Head(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 1)


def test_the_check_does_not_load_the_compiler_of_torch() -> None:
    """Every daemon makes it at its start. A process of its own: this one may have loaded it."""
    code = """
import sys, torch
from torch import nn
from client.training.forbidden_operations import forbidden_operation
layer = nn.Sequential(nn.Linear(3, 1))
assert forbidden_operation(layer, lambda: layer(torch.ones(2, 3))) is None
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
