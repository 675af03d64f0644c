"""The same bound on the clipped sum, C, with real patients no two of whom are alike.

Kind of fault: as in test_sum_moves_by_more_than_c.py. It needs no twins.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.cases.privacy.neighbours import (
    BOUND,
    MODES,
    MOST,
    ONE_HOT,
    Mode,
    cancelling_on_everyone,
    features,
    learner_of,
    moved,
    moved_at_any_size,
    needs_heart,
)

pytestmark = needs_heart
_SIZES = (7, 11, 15)
_TRIALS = 1500
_AT_ANY_SIZE = 20
"""Further trials, since which sizes matter is up to the processor."""


@pytest.fixture(scope="module")
def farthest_moved() -> dict[Mode, float]:
    """Clip norms by mode, over batches of different patients."""
    task, learner = learner_of("heart_disease")
    patients = features(task)
    rng, worst = np.random.default_rng(0), dict.fromkeys(MODES, 0.0)
    for trial in range(_TRIALS + _AT_ANY_SIZE):
        weights = cancelling_on_everyone(rng)
        size = int(rng.choice(_SIZES)) + 1 if trial < _TRIALS else MOST
        drawn = patients[rng.choice(len(patients), size, replace=False)]
        labels = torch.from_numpy((rng.random(size) < 0.5).astype(np.float32))
        distance = moved if trial < _TRIALS else moved_at_any_size
        for mode in MODES:
            worst[mode] = max(worst[mode], distance(learner, weights, drawn, labels, mode))
    return worst


def test_the_columns_of_one_category_add_up_to_one() -> None:
    """What the weights of these cases rest on: if the columns have moved, so must the weights."""
    task, learner = learner_of("heart_disease")
    assert torch.equal(features(task)[:, ONE_HOT].sum(1), torch.ones(len(features(task))))
    assert learner.model.layout.size == 27


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_one_more_patient_moves_the_sum_by_c_at_most(
    mode: Mode, farthest_moved: dict[Mode, float]
) -> None:
    assert farthest_moved[mode] <= BOUND
