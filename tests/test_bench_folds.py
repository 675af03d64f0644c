"""Folds of the benchmarks: every patient is tested once, and no fold's noise reaches another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from support.cross_validation import Data, Fold, auc, federated, gain_interval, within
from tasks.schema import Table
from tasks.shipped.breast_cancer import BreastCancer


class Scored(BreastCancer):
    """With a public score, to see that it stays with its patients."""

    def public_score(self, table: Table) -> npt.NDArray[np.float64]:
        return np.clip(table["mean_radius"] / 30, 0, 1)


TASK = Scored()
DATA = Data(TASK, TASK.public_sites(None))


def test_every_patient_is_tested_once_and_never_where_he_trains() -> None:
    folds = DATA.folds(5, seed=3)
    tested = {site: np.zeros(c.patients, int) for site, c in folds[0].cohorts.items()}
    for fold in folds:
        for site, cohort in fold.cohorts.items():
            assert (cohort.train ^ cohort.evaluation).all()
            tested[site] += cohort.evaluation
        assert 0.15 < len(fold.part(training=False)[1]) / 569 < 0.25
        assert len(fold.part(True)[1]) + len(fold.part(False)[1]) == 569
    assert all((count == 1).all() for count in tested.values())


def test_a_public_score_stays_with_its_patient() -> None:
    fold = DATA.fold(0.0, 0.3, seed=1)
    features, _ = fold.part(training=False)
    radius = (features[:, 0] + 1) / 2 * (22 - 6) + 6
    inside = np.abs(features[:, 0]) < 1
    assert fold.public is not None
    assert np.allclose(fold.public[inside], radius[inside] / 30, atol=1e-5)


def test_what_shifts_a_whole_fold_leaves_the_auc_within_folds_alone() -> None:
    generator = np.random.default_rng(0)
    labels = [generator.integers(0, 2, 50).astype(np.float32) for _ in range(3)]
    scores = [y + generator.normal(0, 1, 50) for y in labels]
    shifted = [s + 10 * k for k, s in enumerate(scores)]
    assert within(labels, scores) == pytest.approx(within(labels, shifted))
    assert auc(np.concatenate(labels), np.concatenate(shifted)) < within(labels, shifted) - 0.05


def test_the_interval_of_a_gain_is_of_patients_not_of_their_records() -> None:
    task = Scored()
    once = Data(task, task.public_sites(None)).fold(0.0, 0.3, seed=1)
    known, labels = once.public, once.part(training=False)[1]
    assert known is not None
    assert gain_interval([once], [known], 20) == (0.0, 0.0)
    low, high = gain_interval([once], [labels], 50)
    assert 0 < low < 1 - auc(labels, known) < high
    doubled = {
        site: replace(
            cohort,
            features=np.repeat(np.asarray(cohort.features, np.float32), 2, axis=0),
            labels=np.repeat(cohort.labels, 2),
            patient=np.repeat(cohort.patient, 2),
            in_training=np.repeat(cohort.in_training, 2),
        )
        for site, cohort in once.cohorts.items()
    }
    twice = Fold(doubled, once.share, np.repeat(known, 2))
    again = gain_interval([twice], [np.repeat(labels, 2)], 50)
    assert again == pytest.approx((low, high))


def test_a_study_of_a_fold_scores_its_own_patients() -> None:
    task = BreastCancer()
    fold = Data(task, task.public_sites(None)).fold(0.0, 0.3, seed=1)
    assert fold.public is None
    scores, spent = federated(task, fold, ["privacy=none", "rounds=5"])
    assert spent == 0
    assert auc(fold.part(training=False)[1], scores) > 0.97
