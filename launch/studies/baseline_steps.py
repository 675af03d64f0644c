"""How far a model that is trained without the federation moves in a round.

A federation's step sizes suit what it trains on. One hospital has the same noise over fewer
patients: with the federation's steps it is thrown about, may end below chance, and says nothing of
what federating is worth. So each baseline tries a few learning rates of the server on its own
patients, and trains on all of them with that which did best on those left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from client.data.cohort import Cohort
from launch.config.schema import Config
from protocol.vectors import Vector

FACTORS = (1.0, 0.25, 0.0625)
"""Of the study's server learning rate; the first wins where none is better."""
HELD_OUT = 0.2
"""Of a baseline's training patients, while it chooses."""


def suited(
    config: Config,
    cohort: Cohort,
    train: Callable[[Config, Cohort], Vector],
    score: Callable[[Vector, Cohort], float],
) -> Config:
    """The configuration with the learning rate that suits the cohort's training patients.

    train: a model of the training patients. score: what it is worth on those who evaluate, more
    being better; NaN counts as nothing. Patients who evaluate in the study play no part.
    """
    held = held_out(cohort)
    if not held.train.any() or not held.evaluation.any():
        return config
    tried = [_slower(config, factor) for factor in FACTORS]
    scores = np.nan_to_num([score(train(one, held), held) for one in tried], nan=-np.inf)
    return tried[int(np.argmax(scores))]


def held_out(cohort: Cohort) -> Cohort:
    """The training patients alone, some of whom evaluate, always the same ones."""
    drawn = np.random.default_rng(0).random(cohort.patients) < HELD_OUT
    evaluates, trains = cohort.train & drawn, cohort.train & ~drawn
    return replace(
        cohort,
        train=trains,
        evaluation=evaluates,
        in_training=cohort.in_training & trains[cohort.patient],
    )


def _slower(config: Config, factor: float) -> Config:
    return replace(config, optimiser=replace(config.optimiser, lr=config.optimiser.lr * factor))
