"""Everything that may leave the round loop: aggregates only (invariant 4).

Tracking, progress display and `summary.json` take these types and nothing else. There is no field
in which one site's update, metric or count could stand: a metric's name is one of
`protocol.outcomes.kinds.METRICS`, so not even a key can name a hospital.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from protocol.metrics.query_answers import Answer as Answer
from protocol.metrics.subgroup_figures import SubgroupFigures as SubgroupFigures
from protocol.outcomes.estimates import Estimate as Estimate
from protocol.outcomes.kinds import COMPARED, METRICS
from protocol.statistics.results import AnalysisResult as AnalysisResult
from protocol.study.study import Study

BASELINES = ("local", "federated", "pooled", "public")
"""Each hospital alone (their mean), this study, all data pooled, a score from the literature."""
Status = Literal["finished", "failed", "killed"]
Released = Literal["finished", "unfinished", "nothing"]


@dataclass(frozen=True)
class RoundReport:
    """One round, opened: pooled metrics of the model that it made, where that was evaluated.

    `epsilon` bounds what was spent by then; None where nothing is noised.
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
    """Pooled patients of similar score: their mean score, and the mean of what was observed (of a
    binary outcome, the share of label 1)."""

    score: float
    observed: float


@dataclass(frozen=True)
class OpenedScores:
    """What the evaluation of the model scored last opened: (cells,) counts over all sites together,
    as the study's kind of outcome reads them, and the variance of each one's noise (0 where they
    are exact)."""

    counts: tuple[float, ...]
    variance: float

    @property
    def total(self) -> float:
        """How many patients, about."""
        return sum(self.counts)


@dataclass(frozen=True)
class Approvals:
    """How many sites accepted the study by a person's decision, and how many by their rules; those
    of 0.1.0 do not say."""

    by_hand: int = 0
    by_rule: int = 0


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
    confusion: tuple[tuple[float, ...], ...] = ()
    """Of an outcome with classes: patients by their own class (row) and the likeliest (column);
    noised where evaluation is."""
    scores: OpenedScores | None = None
    approvals: Approvals = Approvals()
    analysis: AnalysisResult | None = None
    """What the answers were read as, where the study is an analysis."""
    subgroups: tuple[SubgroupFigures, ...] = ()
    """Of the model that was scored last, by each partition of the study."""

    def __post_init__(self) -> None:
        _require_pooled(self.metrics)
        _require_subgroups(self.subgroups, self.study)
        asked = self.study.query.statistics if self.study.query is not None else ()
        if self.answers and [a.name for a in self.answers] != [s.name for s in asked]:
            raise ValueError("answers to other questions than the study's")

    @property
    def released(self) -> Released:
        """What `weights` are: the model of the whole study; the last one that was paid for, where
        it ended early; or nothing that was learned."""
        if self.status == "finished":
            return "finished"
        return "unfinished" if self.rounds and self.weights.size else "nothing"

    def figures(self) -> dict[str, Any]:
        """The outcome as plain values, without its study, weights and rounds."""
        return {
            "status": self.status,
            "metrics": {name: asdict(of) for name, of in self.metrics.items()},
            "epsilon": self.epsilon,
            "epsilon_broken": self.epsilon_broken,
            "uncovered": self.uncovered,
            "seconds": self.seconds,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "calibration": [asdict(point) for point in self.calibration],
            "answers": [asdict(answer) for answer in self.answers],
            "confusion": self.confusion,
            "scores": None if self.scores is None else asdict(self.scores),
            "approvals": asdict(self.approvals),
            **({} if self.analysis is None else {"analysis": asdict(self.analysis)}),
            **({"subgroups": [asdict(of) for of in self.subgroups]} if self.subgroups else {}),
        }

    @staticmethod
    def of_figures(
        plain: Mapping[str, Any],
        study: Study,
        weights: npt.NDArray[np.float32],
        rounds: tuple[RoundReport, ...],
    ) -> Outcome:
        """The inverse of `figures`; null is read as NaN in metrics and calibration.

        Raises AttributeError, KeyError, TypeError or ValueError where `plain` is malformed.
        """
        return Outcome(
            status=plain["status"],
            study=study,
            weights=weights,
            rounds=rounds,
            metrics=read_metrics(plain["metrics"]),
            epsilon=plain["epsilon"],
            epsilon_broken=plain["epsilon_broken"],
            uncovered=str(plain["uncovered"]),
            seconds=float(plain["seconds"]),
            bytes_sent=int(plain["bytes_sent"]),
            bytes_received=int(plain["bytes_received"]),
            calibration=tuple(
                CalibrationPoint(_number(point["score"]), _number(point["observed"]))
                for point in plain["calibration"]
            ),
            answers=tuple(Answer.read(answer) for answer in plain["answers"]),
            confusion=tuple(tuple(map(float, row)) for row in plain.get("confusion", ())),
            scores=_read_scores(plain.get("scores")),
            approvals=Approvals(**{k: int(v) for k, v in plain.get("approvals", {}).items()}),
            analysis=AnalysisResult.read(plain["analysis"]) if plain.get("analysis") else None,
            subgroups=tuple(SubgroupFigures.read(of) for of in plain.get("subgroups", ())),
        )


@dataclass(frozen=True)
class Baselines:
    """What else was trained on public data for comparison -> its figures on the same patients."""

    figures: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.figures) - set(BASELINES)):
            raise ValueError(f"not a baseline: {', '.join(unknown)}")
        if unknown := sorted({n for of in self.figures.values() for n in of} - set(COMPARED)):
            raise ValueError(f"not a figure of a baseline: {', '.join(unknown)}")


def read_metrics(plain: Mapping[str, Any]) -> dict[str, Estimate]:
    """Metrics as `dataclasses.asdict` writes them, by name; null is read as NaN."""
    return {
        str(name): Estimate(*(_number(of[end]) for end in ("value", "low", "high")))
        for name, of in plain.items()
    }


def _read_scores(plain: Mapping[str, Any] | None) -> OpenedScores | None:
    """None of an outcome that 0.1.0 wrote."""
    if plain is None:
        return None
    return OpenedScores(tuple(map(float, plain["counts"])), float(plain["variance"]))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _require_subgroups(subgroups: tuple[SubgroupFigures, ...], study: Study) -> None:
    """Raises ValueError unless partitions and levels have the names that the study gives them."""
    names = {of.name: of.levels for of in study.evaluation.subgroups}
    for of in subgroups:
        if tuple(one.level for one in of.levels) != names.get(of.name):
            raise ValueError("subgroups that the study does not name")
        for one in of.levels:
            _require_pooled(one.metrics)


def _require_pooled(metrics: dict[str, Estimate]) -> None:
    if unknown := sorted(set(metrics) - set(METRICS)):
        raise ValueError(f"not a metric of protocol.outcomes.kinds.METRICS: {', '.join(unknown)}")
