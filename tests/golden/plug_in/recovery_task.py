"""A task as a hospital might add one: recovery within thirty days, of patients who never were.

The golden files hold studies of this task. Its digest is a constant, so that a release which
changes the code that all tasks rest on can still go on with them. Never change what is here, nor
the records: later golden files that need something else get a task of their own.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import nn

from tasks.base import Task
from tasks.schema import PATIENT, Column, Schema, Table

RECORDS = Path(__file__).with_name("records")
_NUMBERS = (
    Column("age", "age on admission", unit="a", low=18, high=98, flag_missing=False),
    Column("pressure", "systolic blood pressure on admission", unit="mm[Hg]", low=60, high=220),
)
_CATEGORIES = (
    Column("sex", "sex", kind="category", categories=("f", "m")),
    Column("ward", "first ward", kind="category", categories=("medical", "surgical", "other")),
)


class Recovery(Task):
    """A small network with a normalisation layer, so that every algorithm has something to do."""

    name = "recovery"
    title = "Recovery within thirty days of admission, of made-up patients"
    licence = "CC0 (made up)"
    schema = Schema((*_NUMBERS, *_CATEGORIES), "recovered", "1: recovered, 0: not")

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(self.schema.width, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)
        )

    def public_sites(self, root: Path | None = None) -> Mapping[str, Table]:
        """Four sites, from the CSV files beside this one."""
        return {path.stem: _table(path) for path in sorted(RECORDS.glob("*.csv"))}

    @classmethod
    def source_digest(cls) -> str:
        return "5ea1ed" + "0" * 58


def _table(path: Path) -> Table:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {
        name: np.array([float(row[name] or "nan") for row in rows])
        for name in ("age", "pressure", "recovered")
    }
    texts = {
        name: np.array([row[name] or None for row in rows], dtype=object)
        for name in (PATIENT, "sex", "ward")
    }
    return texts | numbers
