"""The cohort schema: which columns a task reads, with public ranges that no cohort decides.

A site maps its own data to these columns. Numbers are clipped to their public clinical range and
missing values become a constant with an indicator beside it, so that nothing is ever fitted on a
cohort (normalising with a hospital's own mean is a release of data).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError

Table = Mapping[str, npt.NDArray[Any]]
"""Columns of equal length. Numbers: float with NaN where missing. Categories: str, None missing."""

PATIENT = "patient"
"""The column that names the patient, in every table; the unit of privacy."""
SPLIT = "split"
"""Optional column: "train" or "evaluation", for studies whose split is the cohort's own."""


@dataclass(frozen=True)
class Column:
    """One column of a cohort. `low` and `high` are public, in `unit` (UCUM)."""

    name: str
    meaning: str
    kind: Literal["number", "category"] = "number"
    unit: str = "1"
    low: float = 0.0
    high: float = 1.0
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "number" and not self.low < self.high:
            raise ValueError(f"column {self.name}: low must be below high")
        if self.kind == "category" and len(set(self.categories)) < 2:
            raise ValueError(f"column {self.name}: needs at least two categories")

    @property
    def width(self) -> int:
        """How many features the column becomes."""
        return 2 if self.kind == "number" else len(self.categories)

    def features(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(N,) values -> (N, width) float32 in [-1, 1].

        A number becomes its place in the public range and a flag "missing"; a category becomes a
        one-hot row, all zeros where missing.
        """
        if self.kind == "number":
            numbers = values.astype(np.float64)
            missing = ~np.isfinite(numbers)
            placed = 2 * (np.clip(numbers, self.low, self.high) - self.low) / (self.high - self.low)
            return np.stack([np.where(missing, 0.0, placed - 1), missing], axis=1).astype(
                np.float32
            )
        return np.stack([values == category for category in self.categories], axis=1).astype(
            np.float32
        )


@dataclass(frozen=True)
class Schema:
    """Input columns and a binary label (0 or 1) of a cohort."""

    columns: tuple[Column, ...]
    label: str
    label_meaning: str

    @property
    def width(self) -> int:
        """Number of features F."""
        return sum(column.width for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Every column a cohort must have."""
        return (PATIENT, *(column.name for column in self.columns), self.label)

    def features(self, table: Table) -> npt.NDArray[np.float32]:
        """Table of N rows -> (N, F) float32. Raises WardroundError(MALFORMED_DATA)."""
        for column in self.columns:
            if column.name not in table:
                raise WardroundError(
                    Code.MALFORMED_DATA,
                    f"The cohort lacks the column {column.name} ({column.meaning}).",
                    remedy="Add it to the site's view; NULL stands for a missing value.",
                )
        return np.concatenate([c.features(table[c.name]) for c in self.columns], axis=1)
