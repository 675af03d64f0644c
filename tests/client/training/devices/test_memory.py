"""Memory that runs out in mid-round: smaller blocks of the same bits, or none of the sum."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.training.devices.memory import ran_out
from client.training.dp_trainer import DPTrainer
from client.training.sampling import Batch
from protocol.errors import Code, WardroundError
from protocol.study.study import Privacy
from tasks.base import Task
from tasks.schema import Column, Schema
from tests.devices import on_each_device

WIDTH = 40


class Wide(Task):
    name = "wide"
    title = "three layers"
    schema = Schema((Column("a", "a number"),), "y", "a label")

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, 300), nn.Tanh(), nn.Linear(300, 1))


class Narrow(nn.Module):
    """Passes on what it gets; has memory for `room` patients."""

    room: ClassVar[int] = 1 << 30
    error: ClassVar[Callable[[str], BaseException]] = torch.OutOfMemoryError

    def forward(self, values: Tensor) -> Tensor:
        if len(values) > Narrow.room:
            raise Narrow.error("out of memory")
        return values * 1


class Tight(Wide):
    name = "tight"

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, 5), Narrow(), nn.Tanh(), nn.Linear(5, 1))


def batch(size: int) -> Batch:
    features = torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(1))
    return Batch(features, (features[:, 0] > 0).float())


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Narrow, "room", 1 << 30)


def test_what_torch_and_python_say_is_known() -> None:
    with pytest.raises(RuntimeError) as short:
        torch.empty(1 << 50)
    assert ran_out(short.value)
    assert ran_out(MemoryError())
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory"))
    assert not ran_out(RuntimeError("shapes differ"))


def sums_under_a_limit() -> None:
    torch.set_num_threads(1)
    whole, short = DPTrainer(Wide(), 0), DPTrainer(Wide(), 0)
    weights, data = whole.model.weights(), batch(4096)
    expected = whole.clipped_sum(weights, data, 0.5, 4096)
    scored = whole.scores(weights, data)
    short.clipped_sum(weights, batch(3), 0.5, 4096)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    used = int(status.split("VmData:")[1].split()[0]) * 1024
    limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (used + (48 << 20), limit))
    assert np.array_equal(short.clipped_sum(weights, data, 0.5, 4096), expected)
    assert np.array_equal(short.scores(weights, data), scored)
    assert short._most < 4096, "memory was not short"


def test_a_sum_under_a_limit_of_the_kernel_has_the_same_bits() -> None:
    code = f"from {__name__} import sums_under_a_limit; sums_under_a_limit()"
    subprocess.run([sys.executable, "-c", code], check=True)  # torch's threads survive no fork


@on_each_device
def test_gradients_without_privacy_go_in_smaller_parts(device: torch.device) -> None:
    learner = DPTrainer(Tight(), 0, device=device)
    weights, data = learner.model.weights(), batch(23)
    expected = learner.plain_steps(weights, lambda: data, 2, 0.1)
    Narrow.room = 6
    short = DPTrainer(Tight(), 0, device=device)
    assert np.allclose(short.plain_steps(weights, lambda: data, 2, 0.1), expected, atol=1e-6)
    Narrow.room = 0
    with pytest.raises(WardroundError) as none:
        short.plain_steps(weights, lambda: data, 1, 0.1)
    assert none.value.code is Code.STATE


@on_each_device
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_blocks_of_other_bits_are_for_the_next_attempt(
    device: torch.device, error: Callable[[str], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within an attempt, what a patient adds must not depend on what the others leave free."""
    monkeypatch.setattr(Narrow, "error", error)
    learner = DPTrainer(Tight(), 0, device=device)
    weights, data = learner.model.weights(), batch(40)
    expected = learner.clipped_sum(weights, data, 0.5, 4096)
    Narrow.room = 4
    with pytest.raises(WardroundError) as lost:
        learner.clipped_sum(weights, data, 0.5, 4096)
    assert lost.value.code is Code.STATE
    assert "policy.device_memory" in lost.value.remedy
    again = learner.clipped_sum(weights, data, 0.5, 4096)
    assert np.abs(again - expected).max() <= 1


@on_each_device
def test_a_private_step_works_and_another_error_stays_itself(device: torch.device) -> None:
    learner = DPTrainer(Tight(), 0, device=device)
    plan = Privacy(mode="local", clip_norm=0.5, noise_multiplier=1.0, epsilon=1.0, delta=1e-5)
    weights = learner.model.weights()
    moved = learner.private_steps(weights, lambda: batch(9), 2, 0.1, 9.0, plan)
    assert np.isfinite(moved).all()
    assert moved.any()
    with pytest.raises(RuntimeError, match="shapes"):
        learner.plain_steps(weights, lambda: Batch(torch.ones(2, 3), torch.ones(2)), 1, 0.1)
