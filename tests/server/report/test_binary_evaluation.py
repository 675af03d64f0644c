"""Curves and tables of an opened histogram agree with its metrics and claim no more than it has."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protocol.outcomes.binary import METRICS
from protocol.outcomes.estimates import Counts
from server.outcome import OpenedScores
from server.report import binary_evaluation
from server.report.binary_evaluation import (
    calibration,
    counts_of,
    precision_recall,
    roc,
    threshold_table,
    thresholds,
)

HISTOGRAMS: st.SearchStrategy[Counts] = arrays(
    np.float64, (2, 20), elements=st.integers(0, 50).map(float)
).filter(lambda counts: bool(counts.sum(axis=1).all()))


def opened(counts: Counts, variance: float = 0.0) -> OpenedScores:
    return OpenedScores(tuple(counts.ravel().tolist()), variance)


@given(HISTOGRAMS)
def test_the_area_under_the_roc_curve_is_the_metric(counts: Counts) -> None:
    false_alarms, hits = roc(counts)
    assert (false_alarms[0], hits[0]) == (0.0, 0.0)
    assert (false_alarms[-1], hits[-1]) == pytest.approx((1.0, 1.0))
    area = np.trapezoid(hits, false_alarms)
    assert area == pytest.approx(float(METRICS["auc"].of(counts)))


@given(HISTOGRAMS)
def test_the_steps_of_precision_and_recall_sum_to_the_metric(counts: Counts) -> None:
    recall, precision = precision_recall(counts)
    steps = np.diff(np.concatenate([[0.0], recall]))
    assert steps @ precision == pytest.approx(float(METRICS["average_precision"].of(counts)))


@given(HISTOGRAMS)
def test_thresholds_agree_with_the_metrics_at_one_half(counts: Counts) -> None:
    (half,) = [row for row in thresholds(counts) if row.threshold == 0.5]
    assert half.sensitivity == pytest.approx(float(METRICS["sensitivity"].of(counts)))
    assert half.specificity == pytest.approx(float(METRICS["specificity"].of(counts)))


def test_a_calibration_group_says_how_many_and_how_sure() -> None:
    counts = np.zeros((2, 10))
    counts[:, 2], counts[:, 7] = (75, 25), (1, 3)
    few, many = sorted(calibration(opened(counts)), key=lambda group: group.patients)
    assert (many.patients, many.observed, many.score) == (100, 0.25, 0.25)
    assert many.high - many.low == pytest.approx(0.1685, abs=1e-4)  # Agresti & Coull 1998
    assert few.high - few.low > 3 * (many.high - many.low)


def test_a_group_without_a_case_is_not_said_to_be_free_of_them() -> None:
    counts = np.zeros((2, 10))
    counts[0, 2] = 5
    (group,) = calibration(opened(counts))
    assert (group.observed, group.low) == (0.0, 0.0)
    assert group.high > 0.3


def test_noise_widens_the_interval_of_a_calibration_group() -> None:
    counts = np.zeros((2, 10))
    counts[:, 2] = (75, 25)
    (exact,), (noised,) = calibration(opened(counts)), calibration(opened(counts, 100.0))
    assert noised.low < exact.low < exact.high < noised.high


def test_its_interval_covers_with_noise() -> None:
    """95% of 1,000 drawn cohorts with noise, within what 1,000 draws can tell."""
    generator = np.random.default_rng(0)
    truth, covered = 0.3, 0
    for _ in range(1000):
        ill = generator.binomial(200, truth)
        counts = np.zeros((2, 10))
        counts[:, 4] = np.array([200 - ill, ill]) + generator.normal(0, 5, 2)
        (group,) = calibration(opened(counts, 25.0))
        covered += group.low <= truth <= group.high
    assert covered >= 930


def test_noise_leaves_no_negative_count_and_no_fault() -> None:
    counts = np.random.default_rng(1).normal(0, 3, (2, 32))
    drawn = opened(counts, 9.0)
    assert counts_of(drawn).min() >= 0
    assert binary_evaluation.figures(drawn).keys() >= {"calibration", "scores"}
    assert "about" in binary_evaluation.markdown(drawn)


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_label_there_is_no_curve(label: int) -> None:
    counts = np.zeros((2, 8))
    counts[label] = 4
    assert set(binary_evaluation.figures(opened(counts))) == {"calibration", "scores"}
    assert "nan" in threshold_table(counts).decode()


def test_the_table_of_thresholds_is_csv() -> None:
    rows = list(csv.reader(io.StringIO(threshold_table(np.ones((2, 20))).decode())))
    assert rows[0][:3] == ["threshold", "sensitivity", "specificity"]
    assert [float(row[0]) for row in rows[1:]] == pytest.approx([n / 10 for n in range(1, 10)])
