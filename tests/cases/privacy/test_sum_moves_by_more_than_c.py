"""One more patient moves a clipped sum by the clip norm C at most: in every mode, at every size.

Kind of fault: a patient's float32 activations depend on how many others are in the batch, since
matrix kernels then add in another order. Weights that cancel make that last bit decide the loss,
so that the terms of the sum are no functions of one patient each, for which C is claimed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.cases.privacy.neighbours import (
    BOUND,
    MODES,
    MOST,
    Mode,
    alike,
    cancelling,
    features,
    learner_of,
    moved,
    moved_at_any_size,
    needs_heart,
)

_SIZES = (3, 7, 11, 15, 31, 63)
_TRIALS = 300
_AT_ANY_SIZE = 30
"""Further trials, since which sizes matter is up to the processor."""


@pytest.fixture(scope="module")
def farthest_moved() -> dict[Mode, float]:
    """Clip norms by mode, over batches of patients who are alike."""
    task, learner = learner_of("heart_disease")
    patients, begin = features(task), learner.model.weights()
    rng, worst = np.random.default_rng(0), dict.fromkeys(MODES, 0.0)
    for trial in range(_TRIALS + _AT_ANY_SIZE):
        learner.model.load(begin)
        one = patients[int(rng.integers(len(patients)))][None]
        weights = cancelling(learner, one, rng)
        size = int(rng.choice(_SIZES)) + 1 if trial < _TRIALS else MOST
        labels = torch.full((size,), float(rng.integers(2)))
        distance = moved if trial < _TRIALS else moved_at_any_size
        for mode in MODES:
            seen = distance(learner, weights, alike(one, size), labels, mode)
            worst[mode] = max(worst[mode], seen)
    return worst


@needs_heart
@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_one_more_patient_moves_the_sum_by_c_at_most(
    mode: Mode, farthest_moved: dict[Mode, float]
) -> None:
    assert farthest_moved[mode] <= BOUND
