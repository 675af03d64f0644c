"""Findings on a radiograph, several at once: a label with a column for each.

Of generated pictures (tasks/datasets/generated_radiographs.py): they say how a method works, and
nothing about patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from protocol.outcomes.multilabel import MultiLabel
from tasks.base import Task
from tasks.datasets import generated_radiographs
from tasks.models import centred_linear, hog
from tasks.schema import Image, Schema, Table

_PICTURE = "radiograph"
_SIDE = generated_radiographs.SIDE
_CELL = 2
"""Pixels of a side that become one number."""


class Findings(Task):
    """Logistic regression of each finding on the picture's means over small squares."""

    name = "findings"
    title = "Findings on generated radiographs"
    schema = Schema(
        (),
        "findings",
        "1: the finding is there, 0: it is not",
        images=(Image(_PICTURE, "frontal chest radiograph", _SIDE, _SIDE),),
        labels=generated_radiographs.FINDINGS,
    )
    outcome = MultiLabel(labels=len(generated_radiographs.FINDINGS))
    parts = (centred_linear, generated_radiographs, hog)

    def model(self) -> nn.Module:
        return centred_linear.CentredLinear((_SIDE // _CELL) ** 2, self.outcome.labels)

    def features(self, table: Table) -> npt.NDArray[Any]:
        """Pictures -> (N, F) float32 rows of norm 1, whose own mean is 0; zeros of no picture."""
        pictures = table[_PICTURE].astype(np.float32)
        cells = _SIDE // _CELL
        parts = pictures.reshape(len(pictures), cells, _CELL, cells, _CELL).mean(axis=(2, 4))
        rows = parts.reshape(len(pictures), cells * cells)
        return hog.unit(rows - rows.mean(axis=1, keepdims=True))

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """As usual, with the loss that moves the middle of the features
        (tasks/models/centred_linear.py)."""
        own = outputs[:, : self.outcome.labels]
        return super().losses(own, labels) + outputs[:, self.outcome.labels :].sum(dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        return super().scores(outputs[:, : self.outcome.labels])

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Three sites of 2,400, 1,600 and 1,000 pictures. `root` is not used."""
        return generated_radiographs.sites(_PICTURE)
