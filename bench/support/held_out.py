"""A released model on the patients who were kept from training, counted here: they are public."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from client.data.cohort import Cohort
from protocol.vectors import Vector
from tasks.base import Task
from tasks.flat_model import FlatModel


def scored(
    task: Task, weights: Vector, cohorts: Mapping[str, Cohort]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Labels and scores, (M,) each, of the evaluation parts of all cohorts."""
    model = FlatModel(task, 0)
    model.load(weights)
    rows = np.concatenate([c.features[~c.in_training] for c in cohorts.values()])
    labels = np.concatenate([c.labels[~c.in_training] for c in cohorts.values()])
    with torch.no_grad():
        return labels, task.scores(model.module(torch.from_numpy(rows).float())).numpy()
