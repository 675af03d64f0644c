"""Of a network trained in part, that part alone is in the vector that is sent and noised."""

import pytest
import torch
from torch import nn

from client.training.per_patient_gradients import PatientGradients
from tasks.flat_model import FlatModel
from tasks.models.adapters import train_only, with_lora
from tasks.models.per_patient import per_patient
from tests.tasks.models.test_per_patient import PICTURES, Built, small_transformer


def test_lora_begins_as_the_network_and_sends_its_own_matrices_alone() -> None:
    torch.manual_seed(0)
    network = per_patient(small_transformer())
    before = network(PICTURES)
    adapted = with_lora(network, "query", "value", rank=2, trained=("heads",))
    assert torch.equal(adapted(PICTURES), before)
    task = Built(adapted)
    model = FlatModel(task, 0)
    trained = {name for name, _ in model.layout.entries}
    assert {name.rsplit(".", 2)[-2] for name in trained} == {"down", "up", "head"}
    assert model.layout.size == 2 * 2 * (2 * 8 * 2) + 9
    assert model.frozen_digest
    gradients = PatientGradients(task, model)
    assert gradients.settle(PICTURES) is None
    assert gradients.bookkeeping


def test_layers_that_are_not_there_are_named() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with pytest.raises(ValueError, match="no layer named 7"):
        train_only(network, "7")
    with pytest.raises(ValueError, match="no Linear layer named query"):
        with_lora(network, "query", trained=("1",))
    train_only(network, "1")
    assert [p.requires_grad for p in network.parameters()] == [False, False, True, True]
