"""Hourly series: a column of a cohort for every hour of a window, declared in one line.

`Hourly("heart_rate", ...)` stands for heart_rate_00 to heart_rate_23: the value of each whole hour
after admission (its last measurement), NULL where nothing was measured in that hour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.encoders import Hinge
from tasks.schema import Column, Table

HOURS = 24


@dataclass(frozen=True)
class Hourly:
    """A series of `HOURS` hourly values. `low` and `high`: the public clinical range, in `unit`
    (UCUM); `normal`: the limits within which nobody worries."""

    name: str
    meaning: str
    unit: str
    low: float
    high: float
    normal: Hinge

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column an hour."""
        return tuple(
            Column(
                f"{self.name}_{hour:02d}",
                f"{self.meaning}, hour {hour} after admission",
                unit=self.unit,
                low=self.low,
                high=self.high,
                flag_missing=False,
            )
            for hour in range(HOURS)
        )

    def values(self, table: Table) -> npt.NDArray[np.float64]:
        """A table of N rows -> (N, HOURS) float64 clipped to the range, NaN where not measured.

        Raises WardroundError(MALFORMED_DATA)."""
        numbers = np.stack([c.numbers(table[c.name]) for c in self.columns], axis=1)
        return np.clip(numbers, self.low, self.high)

    def summary(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N, HOURS) values -> (N, sides) in [0, 1]: how far they lie outside the normal range,
        the mean of the worst, the average and the latest measurement; 0 where never measured."""
        sides = self.normal.encode(values.ravel(), self.low, self.high)
        hours = sides.reshape(*values.shape, -1)
        measured = ~np.isnan(values)
        count = np.maximum(measured.sum(axis=1), 1)[:, None]
        latest = np.where(measured.any(axis=1), HOURS - 1 - measured[:, ::-1].argmax(axis=1), 0)
        parts = (hours.max(axis=1), hours.sum(axis=1) / count, hours[np.arange(len(hours)), latest])
        return np.asarray(np.mean(parts, axis=0))

    def carried(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N, HOURS) values -> (N, HOURS) in [-1, 1]: the place in the range of the latest
        measurement until each hour; 0 before the first."""
        latest = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(HOURS)), axis=1)
        known = np.take_along_axis(values, np.maximum(latest, 0), axis=1)
        placed = 2 * (known - self.low) / (self.high - self.low) - 1
        return np.where(latest < 0, 0.0, placed)
