"""Intervals of ROC area, log loss, Brier score and calibration from few noised bins, for a
model that is perfectly calibrated: 95% intervals must cover the truth about 95 times in 100.

Kind of fault: an interval around an estimate that noise and few patients bias upwards, as they did
the calibration error, in whose place slope and intercept now stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from protocol.outcomes.binary import Binary, histogram, pooled_metrics

REPEATS = 60
LEAST = 0.88
"""Of a 95% interval's coverage in 60 runs."""


@dataclass(frozen=True)
class Setting:
    """Scored patients, noise on each bin, and the deviation of their log odds."""

    patients: int
    noise: float
    spread: float

    def __str__(self) -> str:
        return f"{self.patients} patients"


SETTINGS = (Setting(266, 2.585, 3.0), Setting(174, 2.0, 6.0), Setting(2000, 2.585, 3.0))
METRICS = ("auc", "log_loss", "brier", "calibration_slope", "calibration_intercept")


def _truth(spread: float) -> dict[str, float]:
    """Of 200,000 patients; the scores are the probabilities, so the model is calibrated."""
    z = np.random.default_rng(1).normal(0, spread, 200000)
    p = 1 / (1 + np.exp(-z))
    y = (np.random.default_rng(2).random(200000) < p).astype(int)
    return {
        "auc": roc_auc_score(y, p),
        "log_loss": log_loss(y, p),
        "brier": brier_score_loss(y, p),
        "calibration_slope": 1.0,
        "calibration_intercept": 0.0,
    }


@pytest.fixture(scope="module")
def coverage() -> dict[tuple[Setting, str], float]:
    """Share of runs whose interval holds the truth. One seed for all: the same each time."""
    r = np.random.default_rng(0)
    hits: dict[tuple[Setting, str], list[bool]] = {}
    for of in SETTINGS:
        bins, truth = Binary().bins_for(of.patients, of.noise), _truth(of.spread)
        for repeat in range(REPEATS):
            s = 1 / (1 + np.exp(-r.normal(0, of.spread, of.patients)))
            label = (r.random(of.patients) < s).astype(int)
            counts = histogram(s, label, bins).astype(float) + r.normal(0, of.noise, (2, bins))
            found = pooled_metrics(counts, of.noise**2, seed=repeat)
            for name, value in truth.items():
                if name in found:
                    held = found[name].low <= value <= found[name].high
                    hits.setdefault((of, name), []).append(held)
    return {key: float(np.mean(held)) for key, held in hits.items()}


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_covers_the_truth(
    coverage: dict[tuple[Setting, str], float], setting: Setting, metric: str
) -> None:
    assert coverage.get((setting, metric), 0.0) >= LEAST
