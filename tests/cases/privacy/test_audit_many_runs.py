"""No attack on many runs learns more than the epsilon that is reported for one of them.

What the fault of test_sum_moves_by_more_than_c.py costs: a reported epsilon must never be
optimistic. One attempt in mode distributed, rounded by patient, everyone sampled, with the
project's own clipped sum, noise and accounting. A coordinator that chose the weights tells two
neighbouring batches apart by a threshold on the noised sum; the threshold is chosen on one half of
the runs and tested on the other (Clopper and Pearson 1934 for the rates of error).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats

from client.training.dp_trainer import DPTrainer
from client.training.sampling import Batch
from protocol.privacy.accounting import Event, calibrate, epsilon
from protocol.privacy.skellam import skellam
from protocol.vectors import Vector
from tests.cases.privacy.neighbours import (
    MOST,
    alike,
    cancelling_on_everyone,
    features,
    learner_of,
    moved,
    needs_heart,
    summed,
)

pytestmark = needs_heart
_PARAMETERS = 27
_SCALE = 1 << 16
_DELTA = 1e-5
_RUNS = 20000
_TRIALS = 400
_AT_ANY_SIZE = 40
"""Further trials, since which sizes matter is up to the processor."""

Runs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Neighbours:
    """Two batches, one of them with one patient more, and the weights that they are trained on."""

    learner: DPTrainer
    weights: Vector
    few: Batch
    more: Batch


def event(noise_multiplier: float) -> Event:
    return Event(
        "skellam",
        noise_multiplier,
        1.0,
        1,
        dimension=_PARAMETERS,
        scale=float(_SCALE),
        rounding="patient",
    )


def audited(neighbours: Neighbours, target: float) -> tuple[float, float]:
    """Epsilon as reported, and a 95% lower bound of what is learned, at noise for `target`."""
    noise_multiplier = calibrate(target, _DELTA, event(1))
    few, more = (
        summed(neighbours.learner, neighbours.weights, batch, "patient", _SCALE) * _SCALE
        for batch in (neighbours.few, neighbours.more)
    )
    direction = (more - few) / np.linalg.norm(more - few)

    def runs(total: Runs) -> Runs:
        """(_RUNS,) noised sums along the line from one to the other."""
        noise = skellam((noise_multiplier * _SCALE) ** 2, _PARAMETERS * _RUNS)
        return np.asarray((noise.reshape(_RUNS, _PARAMETERS) + total) @ direction)

    chosen_few, chosen_more = runs(few), runs(more)
    places = np.quantile(np.concatenate([chosen_few, chosen_more]), np.linspace(0.02, 0.98, 49))
    threshold = max(places, key=lambda place: estimate(chosen_few, chosen_more, place))
    reported = epsilon([event(noise_multiplier)], _DELTA)
    return reported, lower_bound(runs(few), runs(more), threshold)


def estimate(few: Runs, more: Runs, threshold: float) -> float:
    """Epsilon as these runs suggest, without confidence."""
    above = ((more > threshold).mean() - _DELTA) / max((few > threshold).mean(), 1 / _RUNS)
    below = ((few <= threshold).mean() - _DELTA) / max((more <= threshold).mean(), 1 / _RUNS)
    return math.log(max(above, below, 1e-9))


def lower_bound(few: Runs, more: Runs, threshold: float) -> float:
    """What epsilon cannot lie below, at 95% confidence, as fresh runs show."""
    bound = 0.0
    for hits, false in (
        (int((more > threshold).sum()), int((few > threshold).sum())),
        (int((few <= threshold).sum()), int((more <= threshold).sum())),
    ):
        if hits:
            least = stats.beta.ppf(0.025, hits, _RUNS - hits + 1)
            most = stats.beta.ppf(0.975, false + 1, _RUNS - false)
            bound = max(bound, math.log(max((least - _DELTA) / most, 1e-9)))
    return bound


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def honest(rng: np.random.Generator) -> Neighbours:
    """Ordinary weights, 40 patients and one more."""
    task, learner = learner_of("heart_disease")
    patients = features(task)
    weights = rng.normal(size=_PARAMETERS).astype(np.float32) * np.float32(0.1)
    drawn = torch.rand(len(patients), generator=torch.Generator().manual_seed(1))
    labels = (drawn < 0.5).float()
    few, more = (Batch(patients[:n], labels[:n]) for n in (40, 41))
    return Neighbours(learner, weights, few, more)


@pytest.fixture(scope="module")
def hostile(rng: np.random.Generator, honest: Neighbours) -> Neighbours:
    """The worst weights of a search, and patients who are alike."""
    task, learner = learner_of("heart_disease")
    patients, longest, worst = features(task), -1.0, honest
    for trial in range(_TRIALS + _AT_ANY_SIZE):
        weights = cancelling_on_everyone(rng)
        one = patients[int(rng.integers(len(patients)))][None]
        label = float(rng.integers(2))
        for size in (7,) if trial < _TRIALS else range(MOST):
            rows, labels = alike(one, size + 1), torch.full((size + 1,), label)
            distance = moved(learner, weights, rows, labels, "patient", _SCALE)
            if distance > longest:
                few, more = (Batch(rows[:n], labels[:n]) for n in (size, size + 1))
                longest, worst = distance, Neighbours(learner, weights, few, more)
    return worst


def test_honest_weights_show_no_more_than_is_reported(honest: Neighbours) -> None:
    reported, bound = audited(honest, 1.0)
    assert bound <= reported


@pytest.mark.parametrize("target", [1.0, 3.0])
def test_hostile_weights_show_no_more_than_is_reported(target: float, hostile: Neighbours) -> None:
    reported, bound = audited(hostile, target)
    assert bound <= reported
