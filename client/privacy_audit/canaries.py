"""Canaries for an audit in one run: patients whose gradients point where nobody else's do.

A canary is a patient whose only feature is its own input of a layer beside the model, with weights
that are sent as zeros: its clipped gradient is a vector of the clip norm along its own coordinate
(a gradient canary: Nasr et al. 2023; "Dirac"), made by the training code from a record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.data.cohort import Cohort
from client.privacy_audit.released_sums import cohort_of
from protocol.study.study import Study
from tasks.base import Task
from tasks.flat_model import FlatModel

_STEEP = 30.0
"""Of a canary's feature, over the clip norm: its gradient is longer than that at any score."""


class _Beside(nn.Module):
    """(B, F + m) -> outputs of `model` on the first F, reshaped, with the canaries' part added to
    the first output."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...], canaries: int) -> None:
        super().__init__()
        self.model, self._shape = model, shape
        self.canaries = nn.Linear(canaries, 1, bias=False)
        nn.init.zeros_(self.canaries.weight)

    def forward(self, rows: Tensor) -> Tensor:
        width = rows.shape[1] - self.canaries.in_features
        outputs: Tensor = self.model(rows[:, :width].reshape(len(rows), *self._shape))
        own = self.canaries(rows[:, width:]).view(-1, *(1,) * (outputs.dim() - 1))
        first = outputs[:, :1] + own
        return torch.cat([first, outputs[:, 1:]], dim=1)


class CanaryTask(Task):
    """A task whose model has a place for canaries."""

    name = "canaries"

    def __init__(self, task: Task, shape: tuple[int, ...], canaries: int) -> None:
        super().__init__()
        self._task, self._shape, self._canaries = task, shape, canaries
        self.schema = task.schema
        self.outcome = task.outcome  # type: ignore[misc]  # one class, for tasks of every kind

    def model(self) -> nn.Module:
        return _Beside(self._task.model(), self._shape, self._canaries)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self._task.losses(outputs, labels)

    def slopes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self._task.slopes(outputs, labels)

    def scores(self, outputs: Tensor) -> Tensor:
        return self._task.scores(outputs)


@dataclass(frozen=True)
class Canaries:
    """A study's model and some patients, with canaries among them.

    included: (m,) bool by fair coins. where: the canaries' coordinates in the flat vector.
    """

    study: Study
    task: Task
    patients: Cohort
    included: npt.NDArray[np.bool_]
    where: slice


def plant(study: Study, task: Task, patients: Cohort, count: int, seed: int) -> Canaries:
    """`count` canaries beside the patients who train, each there with probability 1/2."""
    shape = patients.features.shape[1:]
    beside = CanaryTask(task, shape, count)
    layout = FlatModel(beside, study.optimisation.seed).layout
    included = np.random.default_rng([seed, 3]).random(count) < 0.5
    rows = patients.first(patients.members("train"), "train")
    flat = patients.features[rows].reshape(len(rows), -1).astype(np.float32)
    steep = _STEEP * max(study.privacy.clip_norm, 1.0)
    features = np.zeros((len(rows) + int(included.sum()), flat.shape[1] + count), np.float32)
    features[: len(rows), : flat.shape[1]] = flat
    features[len(rows) :, flat.shape[1] :] = steep * np.eye(count, dtype=np.float32)[included]
    known = patients.labels[rows]
    labels = np.concatenate([known, np.ones((int(included.sum()), *known.shape[1:]), known.dtype)])
    document = study.model_dump()
    document["model"] = {"parameters": layout.size, "layout": layout.digest}
    return Canaries(
        Study.model_validate(document),
        beside,
        cohort_of(features, labels, "training"),
        included,
        slice(layout.size - count, layout.size),
    )
