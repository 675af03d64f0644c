"""A package of tasks as a user would write it. Synthetic data: wounds in three hospitals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.regression import Regression
from tasks.base import Task
from tasks.schema import Column, Schema, Table

COLUMNS = (
    Column("temp", "temperature", unit="Cel", low=34, high=42, flag_missing=False),
    Column("crp", "C-reactive protein", unit="mg/L", low=0, high=300),
    Column("site_of", "place", "category", categories=("leg", "arm", "trunk")),
)


def data(
    kind: Literal["binary", "multi", "number"] = "binary", n: int = 1200
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Hospital -> table, always the same. `kind`: of the label."""
    r, out = np.random.default_rng(0), {}
    for k, s in enumerate(("north", "east", "south")):
        m = n // (k + 2)
        y = r.integers(0, 3, m)
        t = r.normal(36.5 + 0.9 * y, 0.6)
        c = np.clip(r.normal(30 + 60 * y, 30), 0, 400)
        p = r.choice(["leg", "arm", "trunk"], m).astype(object)
        labels: dict[str, npt.NDArray[Any]] = {
            "binary": (y > 0).astype(np.int64),
            "multi": y.astype(np.int64),
            "number": 3 + 4.0 * y + r.normal(0, 1, m),
        }
        patients = np.array([f"{s}{i}" for i in range(m)], dtype=object)
        out[s] = {"patient": patients, "temp": t, "crp": c, "site_of": p, "label": labels[kind]}
    return out


class Wound(Task):
    """Infected or not."""

    name, title = "wound", "Wound infection"
    schema = Schema(COLUMNS, "label", "1: infected")

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.schema.width, 16), nn.Tanh(), nn.Linear(16, 1))

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        return data()


class WoundClass(Wound):
    """Three classes: clean, contaminated, infected."""

    name, title = "wound_class", "Wound class"
    schema = Schema(COLUMNS, "label", "0 clean, 1 contaminated, 2 infected")
    outcome = Multiclass(classes=3)

    def model(self) -> nn.Module:
        return nn.Linear(self.schema.width, 3)

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        return data("multi")


class StayDays(Wound):
    """A number."""

    name, title = "stay_days", "Days of stay"
    schema = Schema(COLUMNS, "label", "days")
    outcome = Regression(low=0, high=40)

    def public_sites(self, root: Path | None) -> Mapping[str, Table]:
        return data("number")


class BigScore(Wound):
    """A slip: scores are not in [0, 1]."""

    name = "x_bigscore"

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs[:, 0] * 5


class NaNScore(Wound):
    """A slip: scores are not numbers."""

    name = "x_nanscore"

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs[:, 0] * float("nan")


class NaNLoss(Wound):
    """A slip: losses are not numbers."""

    name = "x_nanloss"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().losses(outputs, labels) * float("nan")


class _Net(nn.Module):
    """Each column is a token of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(self.block(self.embed(x[..., None])).mean(1))
        return logits


class Attention(Wound):
    """A transformer block."""

    name = "x_attention"

    def model(self) -> nn.Module:
        return _Net()
