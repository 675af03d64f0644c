"""Everything that may leave the round loop: aggregates only (invariant 4).

Tracking, progress display and `summary.json` take these types and nothing else. There is no field
in which one site's update, metric or count could stand: a metric's name is one of
`protocol.metrics.score_histogram.METRICS`, so not even a key can name a hospital.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from protocol.metrics.query_answers import Answer as Answer
from protocol.metrics.score_histogram import METRICS
from protocol.metrics.score_histogram import Estimate as Estimate
from protocol.study.study import Study

BASELINES = ("local", "federated", "pooled", "public")
"""Each hospital alone (their mean), this study, all data pooled, a score from the literature."""
Status = Literal["finished", "failed", "killed"]
COMPARED = ("auc", "accuracy", "lowest_auc", "highest_auc")


@dataclass(frozen=True)
class RoundReport:
    """One round, opened: pooled metrics of the model that it made, where that was evaluated.

    `epsilon` bounds what was spent by then; None in mode none.
    """

    round: int
    attempt: int
    participants: int
    seconds: float
    bytes_sent: int
    bytes_received: int
    epsilon: float | None
    metrics: dict[str, Estimate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_pooled(self.metrics)


@dataclass(frozen=True)
class CalibrationPoint:
    """Pooled patients of similar score: their mean score and their observed share of label 1."""

    score: float
    observed: float


@dataclass(frozen=True)
class Outcome:
    """A study at its end (or as far as it came)."""

    status: Status
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
    calibration: tuple[CalibrationPoint, ...] = ()
    answers: tuple[Answer, ...] = ()
    """What a query came to, noised and over all sites together."""

    def __post_init__(self) -> None:
        _require_pooled(self.metrics)
        asked = self.study.query.statistics if self.study.query is not None else ()
        if self.answers and [a.name for a in self.answers] != [s.name for s in asked]:
            raise ValueError("answers to other questions than the study's")


@dataclass(frozen=True)
class Baselines:
    """What else was trained on public data for comparison -> its figures on the same patients."""

    figures: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.figures) - set(BASELINES)):
            raise ValueError(f"not a baseline: {', '.join(unknown)}")
        if unknown := sorted({n for of in self.figures.values() for n in of} - set(COMPARED)):
            raise ValueError(f"not a figure of a baseline: {', '.join(unknown)}")


def _require_pooled(metrics: dict[str, Estimate]) -> None:
    if unknown := sorted(set(metrics) - set(METRICS)):
        raise ValueError(
            f"not a metric of protocol.metrics.score_histogram.METRICS: {', '.join(unknown)}"
        )
