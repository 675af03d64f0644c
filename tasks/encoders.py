"""Encoders: declared constants that turn one clinical number into features in [0, 1].

Where a number's place in its range says too little, a column names one of these instead. Each is
a public constant of the task (clinical cut points, normal ranges), so that nothing is fitted on a
cohort, and each makes zeros of what is ordinary: the norm that clipping under differential
privacy has to cut is spent on what is unusual about a patient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


class Encoder(Protocol):
    """What a column of numbers may be encoded with."""

    def names(self, column: str) -> tuple[str, ...]:
        """What each of the K features is."""

    def encode(self, numbers: Numbers, low: float, high: float) -> Numbers:
        """(N,) numbers, NaN where missing, and the column's range -> (N, K); 0 where missing."""


@dataclass(frozen=True)
class Hinge:
    """How far a number lies outside its normal range: 0 inside, 1 at the end of the column's
    range. A side whose normal limit is the end of the range is left out."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low <= self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise ValueError("a normal range needs a limit, and its low must not exceed its high")

    def names(self, column: str) -> tuple[str, ...]:
        below = (f"{column} below {self.low:g}",) if math.isfinite(self.low) else ()
        above = (f"{column} above {self.high:g}",) if math.isfinite(self.high) else ()
        return below + above

    def encode(self, numbers: Numbers, low: float, high: float) -> Numbers:
        sides = []
        if math.isfinite(self.low):
            sides.append((self.low - numbers) / (self.low - low))
        if math.isfinite(self.high):
            sides.append((numbers - self.high) / (high - self.high))
        return np.nan_to_num(np.clip(np.stack(sides, axis=1), 0, 1))


@dataclass(frozen=True)
class Bands:
    """Which of the bands between public cut points a number lies in, as a one-hot row. With
    `usual`, the lowest band is the usual state and a row of zeros."""

    edges: tuple[float, ...]
    usual: bool = False

    def __post_init__(self) -> None:
        if not self.edges or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("bands need edges in rising order")

    def names(self, column: str) -> tuple[str, ...]:
        pairs = zip(self.edges, self.edges[1:], strict=False)
        inner = (f"{column} {a:g} to {b:g}" for a, b in pairs)
        names = (f"{column} below {self.edges[0]:g}", *inner, f"{column} from {self.edges[-1]:g}")
        return names[self.usual :]

    def encode(self, numbers: Numbers, low: float, high: float) -> Numbers:
        band = np.digitize(numbers, self.edges)
        rows = np.eye(len(self.edges) + 1)[band]
        rows[np.isnan(numbers)] = 0
        return rows[:, self.usual :]
