"""One more patient moves the histogram of scores by 1 at most (L2): it adds one to one cell.

Kind of fault: as in test_sum_moves_by_more_than_c.py, in evaluation: other patients' scores move.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from client.training.dp_trainer import DPTrainer
from protocol.outcomes.binary import histogram
from protocol.vectors import Vector
from tests.cases.privacy.neighbours import (
    alike,
    cancelling,
    farthest,
    features,
    learner_of,
    needs_heart,
)

_BINS = 32
_TRIALS = 600


def weights_that_cancel(
    learner: DPTrainer, patients: Tensor
) -> Iterator[tuple[Vector, Tensor, int]]:
    """Weights, a patient, and how many who are alike are joined by one more."""
    rng, begin = np.random.default_rng(0), learner.model.weights()
    for _ in range(_TRIALS):
        learner.model.load(begin)
        one = patients[int(rng.integers(len(patients)))][None]
        weights = cancelling(learner, one, rng)
        yield weights, one, int(rng.choice([3, 7, 15]))


def weights_on_an_edge(
    learner: DPTrainer, patients: Tensor
) -> Iterator[tuple[Vector, Tensor, int]]:
    """The same for a bias alone that puts everyone's score next to an edge between two bins: the
    sigmoid of the last few of a batch, for which a vector register is too wide, may round
    otherwise. No matrix is multiplied, so it does not matter which kernel would do it."""
    for edge in range(1, _BINS):
        bias = np.float32(math.log(edge / (_BINS - edge)))
        for step in range(-8, 9):
            weights = np.zeros(learner.model.layout.size, np.float32)
            weights[-1] = bias + np.float32(step) * np.spacing(bias)
            for count in (7, 15, 31, 63):
                yield weights, patients[:1], count


@needs_heart
def test_one_more_patient_moves_the_histogram_by_one_at_most() -> None:
    task, learner = learner_of("heart_disease")
    patients, farthest_yet = features(task), 0.0
    for hostile in (weights_that_cancel, weights_on_an_edge):
        for weights, one, count in hostile(learner, patients):
            few, more = (
                histogram(learner.scores(weights, alike(one, n)), np.zeros(n), _BINS)
                for n in (count, count + 1)
            )
            farthest_yet = max(farthest_yet, farthest((few, more)))
    assert farthest_yet <= 1.0
