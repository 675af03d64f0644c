"""Pneumonia, from a chest picture and the health record of the same patient: late fusion.

Each side (picture, record) has a branch that gives log odds, and the log odds add up, as for two
sources that are independent given the truth; a missing side (a picture of zeros, a record without
values) adds nothing. A patient's loss is the mean over "both", "picture alone" and "record alone"
with constant weights: modality dropout in expectation (Neverova et al. 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from protocol.study.study import Scalar
from tasks.base import Task
from tasks.datasets import generated_patients
from tasks.encoders import Hinge
from tasks.models import centred_linear, hog, networks
from tasks.schema import Column, Image, Schema, Table

RADIOGRAPH = "radiograph"
_SIDE = 28
_PIXELS = _SIDE * _SIDE
_BOTH, _ALONE = 0.5, 0.25
"""Weights of a patient's loss with both sides, and with each of them alone."""
_RECORD_SCALE = 0.7
"""Factor of the record's few features, whose learning it slows by its square: the learning rate
suits the picture's thousands."""
_SLOW = 0.1
"""Likewise for the constant features, which would oscillate at that rate."""


def _vital(name: str, meaning: str, unit: str, low: float, high: float, normal: Hinge) -> Column:
    return Column(
        name,
        f"{meaning}, nearest to the picture",
        unit=unit,
        low=low,
        high=high,
        flag_missing=False,
        encoder=normal,
    )


COLUMNS = (
    Column("age", "age", unit="a", low=0, high=90, flag_missing=False, encoder=Hinge(high=65)),
    Column("sex", "sex", "category", categories=("female", "male"), usual="female"),
    _vital("temperature", "body temperature", "Cel", 35, 40, Hinge(36, 37.5)),
    _vital("heart_rate", "heart rate", "/min", 40, 150, Hinge(50, 90)),
    _vital("respiratory_rate", "respiratory rate", "/min", 8, 40, Hinge(10, 20)),
    _vital("systolic_bp", "systolic blood pressure", "mm[Hg]", 70, 200, Hinge(110, 150)),
    _vital("spo2", "peripheral oxygen saturation", "%", 85, 100, Hinge(low=96)),
    _vital("wbc", "white blood cells", "10*3/uL", 1, 25, Hinge(4, 10)),
    _vital("crp", "C-reactive protein", "mg/L", 0, 150, Hinge(high=5)),
    _vital("bun", "blood urea nitrogen", "mg/dL", 2, 60, Hinge(high=20)),
)


class LateFusion(nn.Module):
    """(B, picture + 1 + record + 1) -> (B, 4): log odds by both sides, by the picture alone, by
    the record alone; and the loss that centres the picture's features.

    A row is the picture's numbers, 1 if there is one, the record's, 1 if there is one. The prior
    and the presence of a side are weights of the constant `_SLOW`.
    """

    def __init__(self, picture: nn.Module, width: int, record: int) -> None:
        super().__init__()
        self._width = width
        self.picture = picture
        self.record = nn.Linear(record, 1, bias=False)
        self.prior, self.seen, self.known = (nn.Linear(1, 1, bias=False) for _ in range(3))
        for linear in (self.record, self.prior, self.seen, self.known):
            nn.init.zeros_(linear.weight)

    def forward(self, rows: Tensor) -> Tensor:
        seen = rows[:, self._width : self._width + 1]
        known = rows[:, -1:]
        branch = self.picture(rows[:, : self._width])
        picture = seen * branch[:, :1] + self.seen(seen * _SLOW)
        record = self.record(rows[:, self._width + 1 : -1]) + self.known(known * _SLOW)
        prior = self.prior(torch.full_like(known, _SLOW))
        centring = seen * branch[:, 1:].sum(dim=1, keepdim=True)
        sides = (prior + picture + record, prior + picture, prior + record, centring)
        return torch.cat(sides, dim=1)


class Pixels(nn.Module):
    """The small network of grey pictures, for pictures that come as flat rows."""

    def __init__(self) -> None:
        super().__init__()
        self.network = networks.small_cnn()

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.network(rows.reshape(-1, _SIDE, _SIDE))
        return answer


class Fusion(Task):
    """Option `picture`: "hog" (gradient histograms and a linear branch) or "cnn" (a small
    convolutional net of the pixels). Option `sides`: "both", or one side as if no other were there.
    """

    name = "fusion"
    title = "Pneumonia, from a chest picture and the health record"
    schema = Schema(
        COLUMNS,
        "pneumonia",
        "1: pneumonia",
        images=(Image(RADIOGRAPH, "frontal chest radiograph", _SIDE, _SIDE),),
    )
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "picture": ("hog", "cnn"),
        "sides": ("both", "picture", "record"),
    }
    parts = (centred_linear, generated_patients, hog, networks)

    @property
    def width(self) -> int:
        """How many numbers stand for the picture."""
        return hog.WIDTH if self.options["picture"] == "hog" else _PIXELS

    def features(self, table: Table) -> npt.NDArray[np.float32]:
        """(N, F) float32 rows as `LateFusion` reads them."""
        pictures = np.asarray(table[RADIOGRAPH], dtype=np.uint8)
        flat = pictures.reshape(len(pictures), -1)
        numbers = hog.hog(pictures) if self.options["picture"] == "hog" else flat
        record = self.schema.features(table) * np.float32(_RECORD_SCALE)
        seen = np.asarray(flat.any(axis=1)) & (self.options["sides"] != "record")
        known = _known(table) & (self.options["sides"] != "picture")
        parts = (numbers * seen[:, None], seen[:, None], record * known[:, None], known[:, None])
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def without(self, rows: npt.NDArray[np.float32], side: str) -> npt.NDArray[np.float32]:
        """(N, F) features -> those of the same patients without "picture" or without "record"."""
        without = rows.copy()
        lost = slice(0, self.width + 1) if side == "picture" else slice(self.width + 1, None)
        without[:, lost] = 0
        return without

    def model(self) -> nn.Module:
        """Both branches start undecided."""
        if self.options["picture"] == "cnn":
            return LateFusion(Pixels(), self.width, self.schema.width)
        branch = centred_linear.CentredLinear(hog.WIDTH)
        branch.linear = nn.Linear(hog.WIDTH, 1, bias=False)
        nn.init.zeros_(branch.linear.weight)
        return LateFusion(branch, self.width, self.schema.width)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(B, 4), (B,) -> (B,): the weighted mean over which sides are there, and the centring."""
        targets = labels.to(outputs.dtype)[:, None].expand(-1, 3)
        each = nn.functional.binary_cross_entropy_with_logits(
            outputs[:, :3], targets, reduction="none"
        )
        return _BOTH * each[:, 0] + _ALONE * (each[:, 1] + each[:, 2]) + outputs[:, 3]

    def public_sites(self, root: Path | None = None) -> Mapping[str, Table]:
        """Five generated hospitals; `root` is not used: nobody's data is in them."""
        return generated_patients.sites()


def _known(table: Table) -> npt.NDArray[np.bool_]:
    """(N,) whether the record has any value."""
    known = np.zeros(len(table[RADIOGRAPH]), dtype=bool)
    for column in COLUMNS:
        values = column.numbers if column.kind == "number" else column.places
        known |= ~np.isnan(values(table[column.name]))
    return known
