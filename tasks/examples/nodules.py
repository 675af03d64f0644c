"""A nodule in a volume of slices, by a network in 2.5 dimensions.

Of generated volumes, made here: they say how a method works, and nothing about patients. In a
single slice a nodule looks like a vessel that is cut across. A vessel goes on in the slices above
and below, and a nodule ends there, so that the network sees three slices at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from protocol.outcomes.binary import Binary
from tasks.base import Task
from tasks.models import several_pictures
from tasks.schema import PATIENT, Image, Schema, Table

_SLICES, _SIDE = 8, 16
_SPACING = 5.0
"""Millimetres between two places."""
_SITES = {"coast": 500, "plain": 400, "valley": 300}
_SEED = 20_271
_MIDDLE, _SPREAD = 127.5, 127.5
_VESSELS = 3


class TwoAndAHalf(nn.Module):
    """(B, slices, rows, columns) grey levels in [0, 255] -> (B, 1): each slice with those below and
    above as three channels of one small network, and the largest of what is found; 1,457
    parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.of_three = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.GroupNorm(2, 8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.GroupNorm(2, 16),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(16, 1)

    def forward(self, volumes: Tensor) -> Tensor:
        present = several_pictures.there(volumes)
        scaled = (volumes - _MIDDLE) / _SPREAD
        beyond = torch.full_like(scaled[:, :1], -1.0)
        high = torch.cat([beyond, scaled, beyond], 1)
        three = torch.stack([high[:, :-2], scaled, high[:, 2:]], 2)
        of_each = self.of_three(three.flatten(0, 1)).unflatten(0, present.shape)
        answer: Tensor = self.head(several_pictures.pooled(of_each, present, "max"))
        return answer


class Nodules(Task):
    """Whether a volume has a nodule."""

    name = "nodules"
    title = "Nodules in generated volumes"
    schema = Schema(
        (),
        "nodule",
        "1: there is a nodule, 0: there are vessels alone",
        images=(
            Image(
                "slices",
                "computed tomography of the chest",
                _SIDE,
                _SIDE,
                hounsfield=(-1000.0, 400.0),
                most=_SLICES,
                spacing=_SPACING,
            ),
        ),
    )
    outcome = Binary()
    parts = (several_pictures,)

    def model(self) -> nn.Module:
        return TwoAndAHalf()

    def features(self, table: Table) -> npt.NDArray[Any]:
        """The slices as they are, (N, slices, rows, columns) uint8."""
        return table["slices"]

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        """Three sites of 500, 400 and 300 volumes. `root` is not used."""
        return {
            name: _site(name, count, np.random.default_rng((_SEED, number)))
            for number, (name, count) in enumerate(_SITES.items())
        }


def _site(name: str, count: int, draw: np.random.Generator) -> Table:
    there = draw.random(count) < 0.5
    return {
        PATIENT: np.array([f"{name}-{row:04d}" for row in range(count)], dtype=object),
        "slices": np.stack([_volume(bool(nodule), draw) for nodule in there]),
        "nodule": there.astype(np.float64),
    }


def _volume(nodule: bool, draw: np.random.Generator) -> npt.NDArray[np.uint8]:
    """(slices, rows, columns) uint8: dark lung with bright vessels from the first slice to the
    last, and a nodule in one slice; in one volume of five the last slice is missing."""
    volume = draw.normal(60, 12, (_SLICES, _SIDE, _SIDE))
    for _ in range(_VESSELS):
        row, column = draw.uniform(3, _SIDE - 3, 2)
        drift = draw.uniform(-0.3, 0.3, 2)
        for at in range(_SLICES):
            volume[at] += 130 * _disc(row + drift[0] * at, column + drift[1] * at)
    if nodule:
        row, column = draw.uniform(3, _SIDE - 3, 2)
        volume[draw.integers(1, _SLICES - 1)] += 130 * _disc(row, column)
    made = np.clip(volume, 1, 255).astype(np.uint8)
    if draw.random() < 0.2:
        made[-1] = 0
    return made


def _disc(row: float, column: float) -> npt.NDArray[np.float64]:
    """(rows, columns) 1 inside, 0 outside, soft between."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    away = np.hypot(rows - row, columns - column)
    return np.asarray(1 / (1 + np.exp((away - 1.6) * 4)))
