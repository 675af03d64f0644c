"""What `bench/dp_step.py` compares does the same: Opacus' two ways take one step to one place."""

from __future__ import annotations

import pytest
import torch

import dp_step
from client.training.sampling import Batch


def stepped(variant: str) -> torch.Tensor:
    """(P,) the weights after one step, without noise."""
    task = dp_step.Made(dp_step.CASES[0])
    torch.manual_seed(0)
    batch = Batch(10 * torch.randn(32, 13), (torch.arange(32) % 2).float())
    backward, optimiser = dp_step.passes(task, batch, variant, torch.device("cpu"))
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    before = torch.cat([one.detach().flatten().clone() for one in parameters])
    backward()
    optimiser.step()
    return torch.cat([one.detach().flatten() for one in parameters]) - before


def test_ghost_clipping_steps_where_hooks_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dp_step, "NOISE", 0.0)
    monkeypatch.setattr(dp_step, "LR", 1.0)
    monkeypatch.setattr(dp_step, "CLIP", 0.1)
    hooks, ghost, plain = (stepped(variant) for variant in ("hooks", "ghost", "sgd"))
    assert torch.allclose(hooks, ghost, rtol=1e-3, atol=1e-7)
    assert ghost.norm() <= 0.1 + 1e-6
    assert plain.norm() > 2 * ghost.norm(), "nothing would be clipped"
