"""A task with up to three pictures of a patient, one of which may show what is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from torch import nn

from protocol.study.study import Scalar
from tasks.base import Task
from tasks.models import networks, several_pictures
from tasks.schema import PATIENT, Image, Pooling, Schema, Table

VIEWS, MOST, SIDE = "views", 3, 12


class SeveralViews(Task):
    """A bright square, in a corner of any of the pictures, on noise."""

    name = "several_views"
    title = "A square on any of several pictures"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"pooling": ("mean", "max")}
    parts = (networks, several_pictures)

    def __init__(self, **options: Scalar) -> None:
        super().__init__(**options)
        self.pooling = cast(Pooling, self.options["pooling"])
        several = Image(VIEWS, "any view", SIDE, SIDE, most=MOST, pooling=self.pooling)
        self.schema = Schema((), "square", "1: there is a square", images=(several,))

    def model(self) -> nn.Module:
        of_each = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        return several_pictures.Pooled(networks.Scaled(of_each), self.pooling, nn.Linear(4, 1))

    def features(self, table: Table) -> npt.NDArray[Any]:
        return table[VIEWS]

    def public_sites(self, root: Path | None = None) -> dict[str, Table]:
        return {site: of_site(site, number) for number, site in enumerate(("east", "north", "w"))}


def of_site(site: str, seed: int, patients: int = 60) -> Table:
    drawn = np.random.default_rng((77, seed))
    pictures = drawn.integers(1, 90, (patients, MOST, SIDE, SIDE), dtype=np.uint8)
    label = drawn.integers(2, size=patients)
    number = drawn.integers(1, MOST + 1, patients)
    for patient in np.flatnonzero(label):
        row, column = drawn.integers(0, SIDE - 5, 2)
        pictures[patient, drawn.integers(number[patient]), row : row + 5, column : column + 5] = 250
    pictures[np.arange(MOST) >= number[:, None]] = 0
    names = np.array([f"{site}-{row}" for row in range(patients)], dtype=object)
    return {PATIENT: names, VIEWS: pictures, "square": label.astype(np.float64)}
