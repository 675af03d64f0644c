"""Explanations: of a linear model exact, of any model whole, and where a picture matters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tasks import registry
from tasks.explanations import contributions, explained, has_contributions, occlusion_map
from tasks.flat_model import FlatModel
from tasks.schema import Image, Schema, Table
from tasks.scoring import ScoringModel
from tasks.shipped.chest_xray import ChestXray


def model_of(name: str, seed: int = 1, **options: Any) -> ScoringModel:
    task = registry.load(name, options)
    flat = FlatModel(task, 3)
    drawn = np.random.default_rng(seed).normal(size=flat.layout.size)
    flat.load((0.3 * drawn).astype(np.float32))
    return ScoringModel(task, flat)


def test_of_a_linear_model_contributions_are_weight_times_feature() -> None:
    model = model_of("breast_cancer")
    table = model.task.schema.made_up(12, seed=2)
    found = contributions(model, table)
    linear = next(m for m in model._model.module.modules() if isinstance(m, nn.Linear))
    each = model.task.features(table) * linear.weight.detach().numpy()[0]
    ends = np.cumsum([0, *(column.width for column in model.task.schema.columns)])
    by_column = np.add.reduceat(each, ends[:-1], axis=1)
    np.testing.assert_allclose(found, by_column, atol=2e-4)
    assert found.tolist() == contributions(model, table).tolist()


@pytest.mark.parametrize(
    "name", ["breast_cancer", "digits", "diabetes_progression", "heart_disease"]
)
def test_contributions_add_up_to_the_whole(name: str) -> None:
    model = model_of(name)
    table = model.task.schema.made_up(3, seed=4)
    features = model.task.features(table)
    for row, found in enumerate(contributions(model, table)):
        class_ = int(model.scores_of(features[row : row + 1]).argmax())
        ends = explained(model, np.stack([features[row], np.zeros_like(features[row])]), class_)
        assert found.sum() == pytest.approx(ends[0] - ends[1], abs=1e-3)


def test_a_record_with_nothing_but_what_is_usual_has_nothing_to_explain() -> None:
    model = model_of("breast_cancer")
    middle = {
        column.name: np.array([(column.low + column.high) / 2])
        for column in model.task.schema.columns
    }
    np.testing.assert_allclose(contributions(model, middle), 0, atol=1e-6)


class _Corner(nn.Module):
    """As bright as the upper left quarter is, so likely."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        side = round(pixels[0].numel() ** 0.5)
        square = pixels.reshape(-1, side, side)
        return square[:, : side // 2, : side // 2].mean(dim=(1, 2))[:, None] / 100


def test_a_map_shows_where_a_model_looks() -> None:
    model = model_of("chest_xray", model="cnn")
    model._model.module = _Corner()
    image = model.task.schema.images[0]
    picture = np.full((1, image.rows, image.columns), 60, dtype=np.uint8)
    half = image.rows // 2
    picture[0, :half, :half] = 220
    found = occlusion_map(model, {image.name: picture}, image)
    assert found.shape == (image.rows, image.columns)
    assert found[: half // 2, : half // 2].min() > 0.05
    np.testing.assert_allclose(found[half + 8 :, half + 8 :], 0, atol=1e-6)
    assert not has_contributions(model.task)


class _Red(nn.Module):
    """As red as the lower right quarter is, so likely."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        side = pixels.shape[1] // 2
        return pixels[:, side:, side:, 0].mean(dim=(1, 2))[:, None] / 100


class _Coloured(ChestXray):
    def __init__(self) -> None:
        super().__init__(model="cnn")
        self.schema = Schema((), "pneumonia", "", images=(Image("photo", "", 28, 28, colour=True),))

    def features(self, table: Table) -> np.ndarray:
        return np.asarray(table["photo"])


def test_a_map_of_a_picture_in_colour_has_one_value_a_pixel() -> None:
    task = _Coloured()
    model = ScoringModel(task, FlatModel(ChestXray(model="cnn"), 0))
    model._model.module = _Red()
    photo = np.full((1, 28, 28, 3), 60, np.uint8)
    photo[0, 14:, 14:, 0] = 220
    found = occlusion_map(model, {"photo": photo}, task.schema.images[0])
    assert found.shape == (28, 28)
    assert found[21:, 21:].min() > 0.05
    np.testing.assert_allclose(found[:6, :6], 0, atol=1e-6)


def test_a_task_with_features_of_its_own_has_no_contributions() -> None:
    assert has_contributions(registry.load("breast_cancer"))
    for other in ("chest_xray", "readmission"):
        assert not has_contributions(registry.load(other))
