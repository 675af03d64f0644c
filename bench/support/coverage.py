"""How often the printed 95% intervals of a kind of outcome hold the truth.

Nothing is trained: patients are drawn from a population whose metrics are known, counted as a site
does, and noised as the opened sum is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocol.outcomes.base import BaseKind
from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent

Values = npt.NDArray[np.float64]
_POPULATION = 400_000
_FINE = {
    "binary": 4096,
    "multiclass": 512,
    "multilabel": 4096,
    "ordinal": 512,
    "regression": 256,
    "eventcount": 512,
    "timetoevent": 512,
    "segmentation": 2,
}
"""Bins that cost the truth nothing."""


@dataclass(frozen=True)
class Setting:
    """`patients` scored; `noise`: deviation on each cell of the opened sum, over what one patient
    changes; `spread` of what the model knows: log odds, a share of the range, or of pixels that it
    knows nothing of."""

    kind: BaseKind
    patients: int
    noise: float
    spread: float

    @property
    def name(self) -> str:
        of = type(self.kind).__name__.lower()
        return f"{of}, {self.patients} patients, noise {self.noise:g}, spread {self.spread:g}"


SETTINGS = (
    Setting(Binary(), 174, 2.0, 6.0),
    Setting(Binary(), 266, 2.585, 3.0),
    Setting(Binary(), 2000, 2.585, 1.0),
    Setting(Binary(), 500, 0.0, 2.0),
    Setting(Multiclass(classes=3), 600, 1.5, 2.0),
    Setting(Multiclass(classes=10), 2000, 1.5, 2.0),
    Setting(Multiclass(classes=5), 600, 0.0, 2.0),
    Setting(MultiLabel(labels=4), 1500, 1.5, 2.0),
    Setting(MultiLabel(labels=4), 500, 0.0, 2.0),
    Setting(Ordinal(levels=3), 2000, 1.5, 1.0),
    Setting(Ordinal(levels=4), 600, 0.0, 1.0),
    Setting(EventCount(most=14), 2000, 1.2, 0.5),
    Setting(EventCount(most=14), 500, 0.0, 0.5),
    Setting(TimeToEvent(ends=(180, 360, 540, 720, 900, 1080)), 640, 1.5, 1.0),
    Setting(TimeToEvent(ends=(180, 360, 540, 720, 900, 1080)), 640, 0.0, 1.0),
    Setting(Segmentation(classes=3, rows=6, columns=6), 100, 1.5, 0.1),
    Setting(Segmentation(classes=3, rows=6, columns=6), 600, 1.5, 0.1),
    Setting(Segmentation(classes=3, rows=6, columns=6), 200, 0.0, 0.1),
    Setting(Regression(low=0, high=360), 132, 1.2, 0.15),
    Setting(Regression(low=0, high=360), 1000, 1.2, 0.15),
    Setting(Regression(low=0, high=360), 500, 0.0, 0.15),
)


def population(setting: Setting, seed: int) -> tuple[Values, Values]:
    """Scores and labels of many patients; the model is calibrated."""
    rng, many = np.random.default_rng(seed), _POPULATION
    match setting.kind:
        case Binary():
            scores = 1 / (1 + np.exp(-rng.normal(0, setting.spread, many)))
            return scores, (rng.random(many) < scores).astype(np.float64)
        case MultiLabel(labels=many_labels):
            shape = (many, many_labels)
            shared = rng.normal(0, 0.5, (many, 1))
            odds = np.exp(shared - 1 + rng.normal(0, setting.spread, shape))
            scores = odds / (1 + odds)
            own = (rng.random(shape) < scores).astype(np.float64)
            own[rng.random(shape) < 0.1] = np.nan
            labels = setting.kind.labels_of(own)
            return scores[~np.isnan(labels)], labels[~np.isnan(labels)]
        case EventCount(most=most):
            scores = np.exp(rng.normal(1.2, setting.spread, many)).clip(0, most)
            return scores, rng.poisson(scores).clip(0, most).astype(np.float64)
        case TimeToEvent():
            intervals = setting.kind.intervals
            risk = rng.normal(0, setting.spread, (many, 1))
            hazard = np.repeat(1 / (1 + np.exp(3.2 - risk)), intervals, axis=1)
            came = rng.random(hazard.shape) < hazard
            first = np.where(came.any(axis=1), came.argmax(axis=1), intervals)
            left = np.where(rng.random(many) < 0.4, rng.integers(1, intervals + 1, many), intervals)
            event = (first < left) & (first < intervals)
            code = 2.0 * np.where(event, first, left) + event
            return np.asarray(np.cumprod(1 - hazard, axis=1), dtype=np.float64), code
        case Multiclass() | Ordinal():
            classes = setting.kind.number
            odds = np.exp(rng.normal(0, setting.spread, (many, classes)))
            scores = odds / odds.sum(axis=1, keepdims=True)
            below = np.cumsum(scores, axis=1) < rng.random((many, 1))
            return scores, below.sum(axis=1).clip(0, classes - 1).astype(np.float64)
        case Segmentation(classes=classes, rows=rows, columns=columns):
            row, size = np.arange(rows)[:, None], (many, rows, columns)
            edge = rng.integers(0, rows, (many, 1, 1))
            labels = np.broadcast_to((row < edge) + 2 * (row > edge), size).astype(np.uint8)
            wrong = rng.random(size) < rng.gamma(1.0, setting.spread, (many, 1, 1))
            return np.where(wrong, rng.integers(classes, size=size), labels), labels
        case Regression(low=low, high=high):
            width = high - low
            scores = (low + width * rng.normal(0.42, setting.spread, many)).clip(low, high)
            labels = scores + width * rng.normal(0, setting.spread, many)
            return scores, labels.clip(low, high)
    raise AssertionError(setting.kind)


def truth(setting: Setting, scores: Values, labels: Values) -> dict[str, float]:
    """The metrics of the population."""
    bins = _FINE[type(setting.kind).__name__.lower()]
    counts = setting.kind.counts(scores, labels, bins).astype(np.float64)
    return {name: of.value for name, of in setting.kind.pooled(counts, bins).items()}


def coverage(setting: Setting, runs: int) -> Iterator[tuple[str, float]]:
    """Each metric and the share of runs whose interval holds the truth; a run without the metric
    is not counted. One seed for all: the same each time."""
    scores, labels = population(setting, 1)
    true, kind, rng = truth(setting, scores, labels), setting.kind, np.random.default_rng(0)
    noise = setting.noise * kind.sensitivity
    bins = kind.bins_for(setting.patients, noise)
    held: dict[str, list[bool]] = {}
    for run in range(runs):
        drawn = rng.integers(len(labels), size=setting.patients)
        counts = kind.counts(scores[drawn], labels[drawn], bins).astype(np.float64)
        opened = counts + (rng.normal(0, noise, counts.shape) if noise else 0.0)
        for name, of in kind.pooled(opened, bins, noise**2, seed=run).items():
            held.setdefault(name, []).append(of.low <= true[name] <= of.high)
    for name, shares in held.items():
        yield name, float(np.mean(shares))
