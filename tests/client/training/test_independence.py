"""Every layer and every shipped model: the same bits in any company, or refused before anything.

Public reports of batches that change their rows are among them, as tiny layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from opacus.layers import DPGRU, DPLSTM, DPRNN, DPMultiheadAttention
from torch import Tensor, nn

from client.training.dp_trainer import DPTrainer
from client.training.independence import _prints, dependent_features, threads
from client.training.layer_gradients import RULES
from client.training.sampling import Batch, invented_labels
from client.training.self_check import invented_features
from protocol.errors import Code, WardroundError
from tasks import registry
from tasks.base import Task
from tasks.models.per_patient import LearnedPositions
from tests.client.training.test_bookkeeping import random, task
from tests.tasks.several_views import SeveralViews


class Mean(nn.Module):
    """(n, ...) -> (n, 1): what a patient has, in the middle."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).tanh().mean(1, keepdim=True)


class Series(nn.Module):
    """A recurrent layer's or an attention's answer for a series."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        series = x.view(-1, 3, 4)
        attends = isinstance(self.layer, DPMultiheadAttention)
        answer, _ = self.layer(series, series, series) if attends else self.layer(series)
        out: Tensor = self.head(answer[:, -1])
        return out


class Codes(nn.Module):
    """An embedding of each of a row's codes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer((x.abs() * 4).long() % 5)
        return out


def shaped(shape: tuple[int, ...], *layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, shape), *layers, Mean())


LAYERS: Mapping[str, tuple[Callable[[], nn.Module], int]] = {
    "Linear": (lambda: nn.Sequential(nn.Linear(13, 7), nn.SiLU(), nn.Linear(7, 1)), 13),
    "Conv1d": (lambda: shaped((2, 6), nn.Conv1d(2, 5, 3)), 12),
    "Conv2d": (lambda: shaped((2, 5, 4), nn.Conv2d(2, 3, 3, padding=1)), 40),
    "Conv3d": (lambda: shaped((1, 3, 4, 4), nn.Conv3d(1, 3, 2)), 48),
    "GroupNorm": (lambda: shaped((4, 3, 3), nn.GroupNorm(2, 4)), 36),
    "LayerNorm": (lambda: nn.Sequential(nn.LayerNorm(9), Mean()), 9),
    "RMSNorm": (lambda: nn.Sequential(nn.RMSNorm(9), Mean()), 9),
    "InstanceNorm1d": (lambda: shaped((3, 5), nn.InstanceNorm1d(3, affine=True)), 15),
    "InstanceNorm2d": (lambda: shaped((3, 4, 4), nn.InstanceNorm2d(3, affine=True)), 48),
    "InstanceNorm3d": (lambda: shaped((2, 2, 3, 3), nn.InstanceNorm3d(2, affine=True)), 36),
    "Embedding": (lambda: nn.Sequential(Codes(nn.Embedding(5, 3)), Mean()), 6),
    "DPRNN": (lambda: Series(DPRNN(4, 4, batch_first=True)), 12),
    "DPGRU": (lambda: Series(DPGRU(4, 4, batch_first=True)), 12),
    "DPLSTM": (lambda: Series(DPLSTM(4, 4, batch_first=True)), 12),
    "LearnedPositions": (lambda: shaped((3, 4), LearnedPositions(torch.ones(3, 4))), 12),
    "DPMultiheadAttention": (lambda: Series(DPMultiheadAttention(4, 2, batch_first=True)), 12),
    # Reported in public: PyTorch 136338, 134908, 81694, 51276, and Opacus 578.
    "a row alone and beside its copy": (lambda: nn.Linear(1000, 20), 1000),
    "8 x 6, three outputs": (lambda: shaped((4, 8, 6), nn.Conv2d(4, 3, 3)), 192),
    "a short series of many channels": (
        lambda: shaped((256, 10), nn.Conv1d(256, 16, 5, padding=2)),
        2560,
    ),
    "ninety features": (lambda: nn.Linear(90, 1), 90),
    "several pictures of a patient": (
        lambda: nn.Sequential(nn.Unflatten(1, (3, 6, 6)), SeveralViews(pooling="max").model()),
        108,
    ),
    "a normalisation that is used twice": (lambda: Twice(), 9),
}


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner, self.head = nn.LayerNorm(9), nn.Linear(9, 9), nn.Linear(9, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(torch.tanh(self.inner(self.norm(x)))))
        return out


def test_no_layer_is_forgotten() -> None:
    """Of those that have a rule here or in Opacus: some are parts of recurrent layers and of
    DPMultiheadAttention, and EmbeddingBag's gradients are not those that autograd finds."""
    known = {*RULES, *GradSampleModule.GRAD_SAMPLERS}
    others = {"RNNLinear", "SequenceBias", "EmbeddingBag"}
    assert {layer.__name__ for layer in known} - others <= set(LAYERS)
    bag = task(lambda: nn.Sequential(Codes(nn.EmbeddingBag(5, 3, mode="sum")), Mean()))
    with pytest.raises(WardroundError) as refused:
        DPTrainer(bag, 1).try_out(random(0, 64, 6), in_floats=False)
    assert refused.value.code is Code.CONFIGURATION


def computed(learner: DPTrainer, weights: Any, patients: Batch) -> dict[str, Tensor]:
    """(n, ...) by name: prints of all that each patient's terms are made of; its score."""
    learner.model.load(weights)
    gradients = learner._gradients
    passed, blocks = gradients._settled(patients.shape), gradients.blocks(patients.shape)
    prints = _prints(lambda block: gradients._computed(passed, block), blocks, patients)
    return prints | {"score": torch.from_numpy(learner.scores(weights, patients.features))}


def check(learner: DPTrainer, invented: Tensor, seed: int, size: int) -> None:
    """One patient in other places, beside others, fewer and zeros, with other threads."""
    scale = float(np.random.default_rng(seed).choice([0.1, 1.0, 3.0, 6.0]))
    drawn = random(seed, learner.model.layout.size)
    hostile = learner.model.weights() * torch.exp(scale * drawn).numpy() + np.float32(1e-3)
    generator = torch.Generator().manual_seed(seed)
    places = torch.randint(len(invented), (size,), generator=generator)
    labels = invented_labels(torch.arange(size), learner.task.outcome.label_shape)
    patients = Batch(invented[places], labels)
    whole = computed(learner, hostile, patients)
    order = torch.randperm(size, generator=generator)
    at = int(order[0])
    others = Batch(torch.zeros_like(patients.features), patients.labels.clone())
    others.features[at] = patients.features[at]
    for company, kept in (
        (Batch(patients.features[order], patients.labels[order]), order),
        (Batch(patients.features[at:], patients.labels[at:]), torch.arange(at, size)),
        (others, at),
        (Batch(patients.features[at : at + 1], patients.labels[at : at + 1]), [at]),
    ):
        with threads(1 + int(kept is order)):
            found = computed(learner, hostile, company)
        for name, prints in whole.items():
            same = found[name][at] if company is others else found[name]
            assert torch.equal(same, prints[kept]), name


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 70))
def test_a_layer_gives_a_patient_the_same_bits_in_any_company(
    name: str, seed: int, size: int
) -> None:
    built, width = LAYERS[name]
    learner, invented = DPTrainer(task(built), 1), random(0, 64, width)
    learner.try_out(invented, in_floats=False)
    check(learner, invented, seed, size)


def shipped() -> Iterator[Task]:
    """Every task with every model and kind of features that it has."""
    for name in sorted(registry.installed()):
        choices = type(registry.load(name)).choices
        for chosen in [{o: v} for o in ("model", "picture") for v in choices.get(o, ())] or [{}]:
            task = registry.load(name, chosen)
            if task.schema.label and not task.keeps_features:  # needs a file: see chest_xray's
                yield task


SHIPPED = {f"{task.name} {' '.join(map(str, task.options.values()))}": task for task in shipped()}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
@settings(max_examples=1, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 24))
def test_a_shipped_model_gives_a_patient_the_same_bits_in_any_company(
    name: str, seed: int, size: int
) -> None:
    made = SHIPPED[name]
    learner, invented = DPTrainer(made, 1), invented_features(made)  # refuses dependent features
    learner.try_out(invented, in_floats=True)
    check(learner, invented, seed, size)


class OfTheCohort(Task):
    """Takes the cohort's mean away."""

    name, title = "of_the_cohort", "made for a test"
    schema = registry.load("breast_cancer").schema

    def features(self, table: Mapping[str, Any]) -> np.ndarray:
        features = super().features(table)
        features -= np.float32(1e-6) * features.mean(axis=0, dtype=np.float32)
        return features

    def model(self) -> nn.Module:
        return nn.Linear(self.schema.width, 1)


def test_features_that_a_cohort_decides_are_refused() -> None:
    with pytest.raises(WardroundError, match="which other records") as refused:
        invented_features(OfTheCohort())
    assert refused.value.code is Code.CONFIGURATION


@given(offset=st.sampled_from([0.0, 1e-7]), late=st.integers(1, 8))
def test_features_whose_last_rows_are_made_otherwise_are_found(offset: float, late: int) -> None:
    """As vector registers make them: the rows behind the last full register differ."""

    def features(table: Mapping[str, Any]) -> np.ndarray:
        rows = np.array(table["a"], dtype=np.float32)[:, None]
        rows[len(rows) // 8 * 8 :][:late] += np.float32(offset)
        return rows

    table = {"a": np.linspace(0, 1, 27)}
    assert dependent_features(features, table) == (offset > 0)
