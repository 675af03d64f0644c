"""Several pictures of a patient: what is pooled, and that nothing else of them counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from protocol.errors import Code, WardroundError
from tasks import contract
from tasks.models.several_pictures import Pooled, pooled
from tasks.schema import Image, Pooling, Schema
from tests.tasks.several_views import MOST, SeveralViews


def mean_of(pictures: Tensor) -> Tensor:
    return torch.stack([pictures.mean((1, 2)), -pictures.amax((1, 2))], 1)


class MeanOf(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return mean_of(pictures)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(0, 999))
def test_what_is_there_is_pooled_and_nothing_else(most: int, given: list[int], seed: int) -> None:
    drawn = np.random.default_rng(seed)
    pictures = torch.from_numpy(drawn.integers(1, 255, (len(given), most, 3, 2))).float()
    numbers = [min(number, most) for number in given]
    for row, number in enumerate(numbers):
        pictures[row, number:] = 0
    pictures = pictures[:, torch.from_numpy(drawn.permutation(most))]
    poolings: tuple[Pooling, ...] = ("mean", "max")
    for pooling in poolings:
        found = Pooled(MeanOf(), pooling)(pictures)
        for row, number in enumerate(numbers):
            own = mean_of(pictures[row][pictures[row].amax((1, 2)) > 0])
            if number:
                expected = own.mean(0) if pooling == "mean" else own.amax(0)
            else:
                expected = torch.zeros(2)
            torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_an_empty_place_has_no_gradient_whatever_is_made_of_it(pooling: Pooling) -> None:
    values = torch.tensor([[[1.0], [torch.nan]], [[torch.inf], [3.0]], [[1.0], [1.0]]])
    values.requires_grad_()
    present = torch.tensor([[True, False], [False, True], [False, False]])
    answer = pooled(values, present, pooling)
    assert answer.tolist() == [[1.0], [3.0], [0.0]]
    answer.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[[1.0], [0.0]], [[0.0], [1.0]], [[0.0], [0.0]]]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_task_of_several_pictures_keeps_the_contract(pooling: Pooling) -> None:
    contract.check(SeveralViews(pooling=pooling))


class InOrder(nn.Module):
    """The first picture counts more."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(MOST, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        answer: Tensor = self.last(pictures.mean((2, 3)) / 255)
        return answer


class EmptyOnesToo(nn.Module):
    """Places without a picture are part of the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        answer: Tensor = self.last(pictures.mean((2, 3)).mean(1, keepdim=True) / 255)
        return answer


class OrderedViews(SeveralViews):
    def model(self) -> nn.Module:
        return InOrder()


class EmptyViews(SeveralViews):
    def model(self) -> nn.Module:
        return EmptyOnesToo()


@pytest.mark.parametrize(
    ("task", "said"), [(OrderedViews, "in another order"), (EmptyViews, "has fewer pictures views")]
)
def test_a_model_that_does_not_pool_is_named(task: type[SeveralViews], said: str) -> None:
    with pytest.raises(WardroundError, match=said) as refused:
        contract.check(task())
    assert refused.value.code is Code.CONFIGURATION
    assert "several_pictures" in refused.value.remedy


def test_a_declaration_says_how_several_pictures_are_pooled() -> None:
    with pytest.raises(ValueError, match="pooling"):
        Image("views", "any view", 8, 8, most=2)
    with pytest.raises(ValueError, match="pooling"):
        Image("views", "any view", 8, 8, pooling="max")
    several = Image("views", "any view", 8, 8, most=2, pooling="max")
    with pytest.raises(ValueError, match="several"):
        Schema((), "mask", "a mask", images=(several,), masked="views")
    made = Schema((), "y", "a label", images=(several,)).made_up(20)["views"]
    assert made.shape == (20, 2, 8, 8)
    assert made[:, 0].any(axis=(1, 2)).all()
    assert not made[:, 1].any(axis=(1, 2)).all()
