"""Scores of records by a model that was released: at whoever loads it, and at the bedside.

Each record is scored by itself, from memory of its own. A matrix product may round a row otherwise
when others stand beside it or where it begins elsewhere in memory, and a patient's score must have
the same bits in any company and wherever the model is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from protocol.errors import Code, WardroundError
from protocol.study.study import Scalar
from protocol.vectors import pack
from tasks import registry
from tasks.base import Task
from tasks.flat_model import FlatModel
from tasks.schema import Table

Tensors = Mapping[str, npt.NDArray[np.float32]]


class ScoringModel:
    """A task's model with the weights of a study."""

    def __init__(self, task: Task, model: FlatModel) -> None:
        self.task, self._model = task, model
        model.module.eval()

    def scores(self, table: Table) -> npt.NDArray[np.float64]:
        """N rows of the task's columns -> (N, K) float64, K as `outcome.score_columns` has them.

        Raises WardroundError(MALFORMED_DATA) naming a column that is not there or is malformed.
        """
        return self.scores_of(self.task.features(table))

    def scores_of(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """As `scores`, of (N, ...) features."""
        found = np.empty((len(features), len(self.task.outcome.score_columns)), dtype=np.float64)
        for row, record in enumerate(features):
            found[row] = self.task.outcome.in_columns(self.said_of(record))
        return found

    def said_of(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(...) one record's features -> (1, ...) its score, in the shape of the kind of outcome:
        of a mask, the class of each pixel."""
        with torch.inference_mode():
            outputs = self._model.module(torch.from_numpy(features)[None].clone().float())
            said: npt.NDArray[np.float32] = self.task.scores(outputs).numpy()
        return said


def with_weights(task: Task, seed: int, weights: Tensors, frozen: Tensors, noted: str) -> FlatModel:
    """A task's model with parameters by name. noted: the study's digest of the frozen ones.

    Raises WardroundError: MESSAGE where the weights are not the model's, WEIGHTS where the frozen
    parameters are not the study's.
    """
    model = FlatModel(task, seed)
    model.load(pack(weights, model.layout))
    if noted:
        own = model.frozen  # views: what is written to them is the model's
        for name in own.keys() & frozen.keys():
            if frozen[name].shape == own[name].shape:
                own[name][...] = frozen[name]
        if model.frozen_digest != noted:
            raise WardroundError(
                Code.WEIGHTS,
                "The frozen parameters are not those of the study.",
                remedy="Do not use the model; take it from the coordinator again.",
            )
    return model


def installed(name: str, options: Mapping[str, Scalar], version: int, source: str) -> Task:
    """The task of a model. Warns where its source has changed since the model was trained.

    Raises WardroundError: UNKNOWN_TASK where it is not installed, CONFIGURATION where another
    version of it is.
    """
    task = registry.load(name, options)
    if task.version != version:
        raise WardroundError(
            Code.CONFIGURATION,
            f"The model was trained for version {version} of task {task.name}; "
            f"installed is version {task.version}.",
            remedy="Install the wardround release that the model's requirements.txt names.",
        )
    if task.source_digest() != source:
        warnings.warn(
            f"The source of task {task.name} has changed since this model was trained.",
            stacklevel=3,
        )
    return task
