"""The pass that is written out for a chain of Linear layers says what Opacus' hooks say."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client.training.bookkeeping import BookkeepingModule
from client.training.linear_chain import ACTIVATIONS, LinearChainGradients
from client.training.needs import Unsupported
from client.training.per_patient_gradients import PatientGradients
from tasks.flat_model import FlatModel
from tests.client.training.test_bookkeeping import check, random, slopes, task


@settings(max_examples=40)
@given(
    n=st.integers(1, 6),
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    chosen=st.data(),
)
def test_a_chain(n: int, widths: list[int], chosen: st.DataObject) -> None:
    """Layers, biases and activations in any order, against the hooks."""
    torch.manual_seed(n)
    layers: list[nn.Module] = [nn.Tanh()] if chosen.draw(st.booleans()) else []
    for inputs, outputs in pairwise(widths):
        layers.append(nn.Linear(inputs, outputs, bias=chosen.draw(st.booleans())))
        activation = chosen.draw(st.sampled_from([None, *ACTIVATIONS]))
        layers += [activation()] if activation else []
    check(nn.Sequential(*layers), random(n, n, widths[0]), passing=LinearChainGradients)


@pytest.mark.parametrize(
    "module",
    [
        nn.ReLU(),
        nn.Sequential(nn.Linear(3, 3), nn.Dropout()),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True)),
        nn.Sequential(*[nn.Linear(3, 3)] * 2),
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1).requires_grad_(False)),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)),
    ],
)
def test_what_is_no_chain(module: nn.Module) -> None:
    with pytest.raises(Unsupported):
        LinearChainGradients(module)


def test_a_chain_with_hooks_or_pictures_is_not_for_it() -> None:
    chain = LinearChainGradients(nn.Linear(3, 1))
    with pytest.raises(Unsupported):
        chain.gradients(random(0, 2, 4, 3), slopes)
    hooked = nn.Linear(3, 1)
    hooked.register_forward_hook(lambda layer, received, given: given)
    with pytest.raises(Unsupported):
        LinearChainGradients(hooked)


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        ((nn.Linear(6, 1),), LinearChainGradients),
        ((nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1)), LinearChainGradients),
        ((nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 1)), BookkeepingModule),
    ],
)
def test_it_is_taken_where_there_is_a_chain(layers: tuple[nn.Module, ...], kind: type) -> None:
    made = task(lambda: nn.Sequential(*layers))
    gradients = PatientGradients(made, FlatModel(made, 0))
    assert gradients.needs((6,)).bytes > 0
    assert gradients.bookkeeping
    assert type(gradients._module) is kind


_WITHOUT_OPACUS = """
import sys
import torch
from client.training.dp_trainer import DPTrainer
from client.training.self_check import self_check
from client.training.sampling import Batch
from tasks import registry

task = registry.load("breast_cancer")
self_check(task, trains=True, in_floats=False)
learner, rows = DPTrainer(task, 0), torch.zeros(3, 30)
learner.clipped_sum(learner.model.weights(), Batch(rows, torch.ones(3)), 1.0, 4096)
assert "opacus" not in sys.modules
"""


def test_a_linear_study_starts_without_loading_opacus() -> None:
    """It takes as long as all else that such a study loads."""
    subprocess.run([sys.executable, "-c", _WITHOUT_OPACUS], check=True)
