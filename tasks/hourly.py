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
