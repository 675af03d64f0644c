"""A baseline takes the steps that suit its own patients, and sees no patient who evaluates."""

from __future__ import annotations

import numpy as np
import pytest

from client.data.cohort import Cohort, identities
from launch.config.compose import load
from launch.config.schema import Config
from launch.studies.baseline_steps import FACTORS, held_out, suited
from protocol.vectors import Vector

PATIENTS = 40


def cohort() -> Cohort:
    """Two records a patient; every fourth patient evaluates."""
    patient, evaluates = np.repeat(np.arange(PATIENTS), 2), np.arange(PATIENTS) % 4 == 0
    return Cohort(
        features=np.zeros((2 * PATIENTS, 3), np.float32),
        labels=(patient % 2).astype(np.float32),
        patient=patient,
        identity=identities(map(str, range(PATIENTS))),
        u=np.arange(PATIENTS) / PATIENTS,
        in_training=~evaluates[patient],
        train=~evaluates,
        evaluation=evaluates,
    )


def test_who_evaluates_is_not_looked_at_while_steps_are_chosen() -> None:
    whole = cohort()
    held = held_out(whole)
    assert not (held.train & held.evaluation).any()
    assert np.array_equal(held.train | held.evaluation, whole.train)
    assert np.array_equal(held.in_training, held.train[held.patient])
    assert 0 < held.evaluation.sum() < held.train.sum()


@pytest.mark.parametrize("best", FACTORS)
def test_the_learning_rate_that_does_best_is_taken(best: float) -> None:
    config = load(["privacy=none", "server_lr=2", "tracking=off"])

    def train(tried: Config, part: Cohort) -> Vector:
        assert not (part.train & ~cohort().train).any()
        return np.array([tried.optimiser.lr], np.float32)

    def score(weights: Vector, _: Cohort) -> float:
        return -abs(float(weights[0]) - 2 * best)

    chosen = suited(config, cohort(), train, score)
    assert chosen.optimiser.lr == pytest.approx(2 * best)
    assert config.optimiser.lr == 2


def test_the_studys_own_rate_stays_where_nothing_can_be_compared() -> None:
    config = load(["privacy=none", "tracking=off"])
    chosen = suited(config, cohort(), lambda *_: np.zeros(1, np.float32), lambda *_: float("nan"))
    assert chosen.optimiser.lr == config.optimiser.lr
