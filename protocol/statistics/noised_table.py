"""A table of patients as it was opened: counts by its axes, each with noise of one distribution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import numpy as np
import numpy.typing as npt

from protocol.study.query import Axis, Bins, Categories, ConditionAxis

Counts = npt.NDArray[np.float64]
TOO_FEW = "too few patients for their noise"


@dataclass(frozen=True)
class NoisedTable:
    """counts: one dimension for each axis, in patients, noised, some below 0. values, chances: the
    noise of one cell. least_count: of patients, below which nothing is said of a group."""

    axes: tuple[Axis, ...]
    counts: Counts
    values: Counts
    chances: Counts
    least_count: int

    @cached_property
    def variance(self) -> float:
        """Of the noise of one cell, in squared patients."""
        return float(np.dot(self.values**2, self.chances) / self.chances.sum())

    def noise(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Counts:
        """Independent draws of the noise of one cell."""
        return generator.choice(self.values, size=shape, p=self.chances / self.chances.sum())

    def within(self, cells: int) -> float:
        """About what 95% of the noise of a sum of so many cells stays within, in patients."""
        return float(1.96 * np.sqrt(cells * self.variance))

    def enough(self, patients: float, cells: int) -> bool:
        """Whether a sum of so many cells is of enough patients, whatever its noise."""
        return patients - self.within(cells) >= max(1, self.least_count)

    def levels(self, axis: int) -> tuple[str, ...]:
        """The labels of an axis without its last, which counts what is not known."""
        return self.axes[axis].labels[:-1]

    def names(self, axis: int) -> tuple[str, ...]:
        """What each level is, with its column: `sex: 1`, `age > 60`, `not (age > 60)`."""
        of = self.axes[axis]
        match of:
            case ConditionAxis():
                return of.column, f"not ({of.column})"
            case Bins() | Categories():
                return tuple(f"{of.column}: {level}" for level in self.levels(axis))
        assert_never(of)
