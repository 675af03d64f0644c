"""Published networks treat every patient alone, and keep what they had learnt."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import densenet121, resnet18
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vision_transformer import VisionTransformer

from client.training.bookkeeping import BookkeepingModule
from client.training.clipping import patient_rows
from client.training.per_patient_gradients import PatientGradients
from tasks.base import Task
from tasks.flat_model import FlatModel
from tasks.models import adapters, networks
from tasks.models.per_patient import per_patient
from tasks.schema import Column, Schema

PICTURES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Built(Task):
    """A task around a module that is there already."""

    name = "built"
    title = "a built model"
    schema = Schema((Column("a", "a number"),), "y", "a label")

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module

    def model(self) -> nn.Module:
        return self._module


def small_transformer() -> VisionTransformer:
    made = VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=1)
    nn.init.normal_(made.class_token)
    nn.init.normal_(made.heads.head.weight)
    return made


def small_dense() -> DenseNet:
    return DenseNet(4, (2, 2), 8, num_classes=1)


def used(network: nn.Module) -> nn.Module:
    """With statistics of some pictures, as one that was trained elsewhere has them."""
    network.train()
    for _ in range(3):
        network(PICTURES)
    return network.eval()


@pytest.mark.parametrize(
    "build",
    [
        lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=1),
        lambda: ResNet(Bottleneck, [1, 1, 1, 1], num_classes=1),
        small_dense,
        small_transformer,
    ],
)
def test_gradients_of_each_patient_are_those_of_that_patient_alone(
    build: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    model = FlatModel(Built(per_patient(build())), 0)
    made = BookkeepingModule(model.module).gradients(PICTURES[:2], lambda out: out[:, 0])
    rows = patient_rows(made, model.parameters)
    for row in range(2):
        alone = model.module(PICTURES[row : row + 1])[0, 0]
        expected = torch.cat(
            [one.flatten() for one in torch.autograd.grad(alone, model.parameters)]
        )
        scale = float(expected.abs().max())
        np.testing.assert_allclose(rows[row], expected.numpy(), atol=1e-3 * scale)


@pytest.mark.parametrize("build", [small_dense, small_transformer])
def test_they_pass_the_check_of_a_hospitals_machine(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    task = Built(per_patient(build()))
    gradients = PatientGradients(task, FlatModel(task, 0))
    assert gradients.settle(PICTURES) is None
    assert gradients.bookkeeping


def test_a_transformer_computes_what_it_did() -> None:
    torch.manual_seed(0)
    network = small_transformer()
    before: Tensor = network(PICTURES)
    changed = per_patient(network)
    assert not list(changed.buffers())
    assert torch.allclose(changed(PICTURES), before, atol=1e-5)


def test_frozen_batch_norm_keeps_its_statistics_as_constants() -> None:
    torch.manual_seed(0)
    network = used(resnet18(num_classes=1))
    before: Tensor = network(PICTURES)
    changed = per_patient(adapters.train_only(network, "fc"))
    assert not list(changed.buffers())
    assert torch.allclose(changed.train()(PICTURES), before, atol=1e-4)
    assert {name for name, p in changed.named_parameters() if p.requires_grad} == {
        "fc.weight",
        "fc.bias",
    }


def test_batch_norm_that_is_trained_becomes_group_norm() -> None:
    torch.manual_seed(0)
    changed = per_patient(densenet121(num_classes=1))
    kinds = [type(module) for module in changed.modules()]
    assert nn.BatchNorm2d not in kinds
    assert nn.GroupNorm in kinds
    assert torch.allclose(changed(PICTURES)[2:3], changed(PICTURES[2:3]), atol=1e-4)


def test_attention_over_batches_that_come_second_is_named() -> None:
    with pytest.raises(ValueError, match="batch_first=True"):
        per_patient(nn.Sequential(nn.MultiheadAttention(8, 2)))


def test_networks_have_the_names_of_torchvision() -> None:
    with pytest.raises(ValueError, match="resnet_unknown"):
        networks.of_torchvision("resnet_unknown")
    with pytest.raises(ValueError, match="no layer named head"):
        networks.of_torchvision("resnet18", trained=("head",))
