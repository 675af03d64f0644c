"""A site's optimisers say what torch's say."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from client.training.algorithms.descent import Descent
from protocol.study.algorithms import AdamW, LocalOptimiser, Sgd


@pytest.mark.parametrize(
    ("rule", "torchs"),
    [
        (Sgd(), lambda own: torch.optim.SGD(own, lr=0.1)),
        (Sgd(momentum=0.9), lambda own: torch.optim.SGD(own, lr=0.1, momentum=0.9)),
        (AdamW(), lambda own: torch.optim.AdamW(own, lr=0.1)),
        (
            AdamW(beta1=0.5, beta2=0.8, weight_decay=0.2),
            lambda own: torch.optim.AdamW(own, lr=0.1, betas=(0.5, 0.8), weight_decay=0.2),
        ),
    ],
)
def test_steps_are_those_of_torch(
    rule: LocalOptimiser, torchs: Callable[[list[nn.Parameter]], Any]
) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(7, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    own, other = Descent(ours, 0.1, rule), torchs([theirs])
    for _ in range(6):
        ours.grad = torch.randn(7, generator=generator)
        theirs.grad = ours.grad.clone()
        own.step()
        other.step()
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.equal(ours, start)
    own.zero_grad()
    assert ours.grad is None
