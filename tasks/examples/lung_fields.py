"""Which pixels of a radiograph are lung: segmentation by a small U-Net.

Of generated pictures, whose lung fields are known by construction
(tasks/datasets/generated_radiographs.py): they say how a method works, and nothing about patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import nn

from protocol.outcomes.segmentation import Segmentation
from tasks.base import Task
from tasks.datasets import generated_radiographs
from tasks.models import unet
from tasks.schema import Image, Schema, Table

_PICTURE = "radiograph"
_SIDE = generated_radiographs.SIDE


class LungFields(Task):
    """A U-Net of three levels, 29,000 parameters."""

    name = "lung_fields"
    title = "Lung fields on generated radiographs"
    schema = Schema(
        (),
        "lungs",
        "1: the patient's right lung, 2: the left one, 0: neither",
        images=(Image(_PICTURE, "frontal chest radiograph", _SIDE, _SIDE),),
        masked=_PICTURE,
    )
    outcome = Segmentation(classes=1 + generated_radiographs.LUNGS, rows=_SIDE, columns=_SIDE)
    parts = (generated_radiographs, unet)

    def model(self) -> nn.Module:
        return unet.UNet(self.outcome.classes)

    def features(self, table: Table) -> npt.NDArray[Any]:
        """The pictures as they are, (N, rows, columns) uint8."""
        return table[_PICTURE]

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        return generated_radiographs.sites(_PICTURE, self.schema.label)
