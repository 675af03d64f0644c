"""Everything that may leave the round loop: aggregates only (invariant 4).

Tracking, progress display and `summary.json` take these types and nothing else. There is no field
in which one site's update, metric or count could stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from protocol.study import Study


@dataclass(frozen=True)
class Estimate:
    """A pooled metric with its bootstrap interval (95%)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RoundReport:
    """One round, opened: pooled metrics of the model that came in, where it was evaluated."""

    round: int
    attempt: int
    participants: int
    seconds: float
    bytes_sent: int
    bytes_received: int
    epsilon: float | None
    metrics: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A study at its end (or as far as it came)."""

    status: Literal["finished", "failed", "killed"]
    study: Study
    weights: npt.NDArray[np.float32]
    rounds: tuple[RoundReport, ...]
    metrics: dict[str, Estimate]
    epsilon: float | None
    epsilon_broken: float | None
    uncovered: str
    """Which patients epsilon does not cover, in words; empty where it covers all."""
    seconds: float
    bytes_sent: int
    bytes_received: int
