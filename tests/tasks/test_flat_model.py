"""What a model may hold: float32 parameters in the public range, and nothing else that is sent."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from protocol.errors import Code, WardroundError
from protocol.study.study import Model
from tasks.flat_model import FlatModel
from tasks.shipped.breast_cancer import BreastCancer


class Built(BreastCancer):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._built = model

    def model(self) -> nn.Module:
        return self._built


def linear(value: float) -> nn.Module:
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.bias.fill_(value)
    return layer


def counting(kind: torch.dtype) -> nn.Module:
    layer = nn.Linear(2, 1)
    layer.register_buffer("seen", torch.zeros(1, dtype=kind))
    return layer


@pytest.mark.parametrize("value", [1024.0, -1024.0, 0.5])
def test_initial_weights_may_reach_the_ends_of_the_range(value: float) -> None:
    assert FlatModel(Built(linear(value)), 0).weights()[-1] == value


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (linear(1024.001), "between -1024 and 1024"),
        (linear(float("nan")), "between -1024 and 1024"),
        (linear(float("-inf")), "between -1024 and 1024"),
        (counting(torch.float32), "buffers"),
        (counting(torch.int64), "buffers"),
        (nn.BatchNorm1d(2), "buffers"),
        (nn.Linear(2, 1).double(), "not float32"),
    ],
)
def test_any_other_model_is_refused(model: nn.Module, said: str) -> None:
    with pytest.raises(WardroundError, match=said) as refused:
        FlatModel(Built(model), 0)
    assert refused.value.code is Code.CONFIGURATION


def backbone(value: float) -> nn.Module:
    """A frozen layer, and one that is trained."""
    torch.manual_seed(0)
    frozen = linear(value).requires_grad_(False)
    return nn.Sequential(frozen, nn.Linear(1, 1))


def test_a_study_names_its_frozen_parameters_by_their_values() -> None:
    built = FlatModel(Built(backbone(0.5)), 0)
    stated = Model(
        parameters=2,
        layout=built.layout.digest,
        frozen=FlatModel(Built(backbone(0.5)), 0).frozen_digest,
    )
    assert len(stated.frozen) == 64
    changed = FlatModel(Built(backbone(0.25)), 0)
    assert changed.layout == built.layout
    assert not changed.fits(stated)
    assert not built.fits(stated.model_copy(update={"frozen": ""}))


def test_a_model_that_is_all_trained_states_nothing_more() -> None:
    built = FlatModel(Built(linear(0.5)), 0)
    stated = Model(parameters=3, layout=built.layout.digest)
    assert built.fits(stated)
    assert "frozen" not in stated.model_dump(mode="json")
