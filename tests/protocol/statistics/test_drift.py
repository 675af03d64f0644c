"""Drift: how often it cries without cause, what it finds, and what its intervals hold."""

from __future__ import annotations

import numpy as np
import pytest

from protocol.statistics.drift import Comparison, compare, compare_commonest
from protocol.statistics.drift_tables import LARGE, drift_tables, verdict
from protocol.statistics.noised_table import TOO_FEW, NoisedTable
from protocol.statistics.results import Figure
from protocol.study.analysis import Drift
from protocol.study.query import Bins, Reference

BINS = 10
AXIS = Bins(column="predicted_score", edges=tuple(i / BINS for i in range(BINS + 1)))
THEN = np.array([300, 260, 180, 120, 90, 70, 60, 50, 40, 30, 0.0])
"""Shares of scores in a model's evaluation; the last cell counts what is missing."""
RUNS = 400


def laplace(scale: float) -> tuple[np.ndarray, np.ndarray]:
    values = np.linspace(-20 * scale, 20 * scale, 2001)
    chances = np.exp(-np.abs(values) / scale)
    return values, chances / chances.sum()


def table(counts: np.ndarray, scale: float) -> NoisedTable:
    return NoisedTable((AXIS,), counts, *laplace(scale), 10)


def simulated(
    now: np.ndarray, patients: int, scale: float, seed: int, sd_then: float = 5.0
) -> tuple[list[Comparison], float]:
    """RUNS comparisons of `patients` shared out as `now` with 1,200 shared out as THEN, all drawn
    anew and noised; and the true index, over the mean of both shares."""
    generator = np.random.default_rng(seed)
    p, q = THEN / THEN.sum(), now / now.sum()
    found = []
    for _ in range(RUNS):
        drawn = generator.multinomial(patients, q) + generator.laplace(0, scale, len(q))
        then = generator.multinomial(1200, p) + generator.normal(0, sd_then, len(p))
        compared = compare(
            table(drawn, scale), then, np.full(len(p), sd_then**2), np.random.default_rng(1)
        )
        assert compared is not None
        found.append(compared)
    weights = (patients * q + 1200 * p) / (patients + 1200)
    known = weights > 0
    return found, float(((q - p)[known] ** 2 / weights[known]).sum())


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.statistics.drift.DRAWS", 1000)


@pytest.mark.parametrize(("patients", "scale"), [(1000, 2.0), (1000, 8.0), (300, 4.0)])
def test_without_drift_it_seldom_cries_and_intervals_hold_nothing(
    patients: int, scale: float
) -> None:
    found, _ = simulated(THEN, patients, scale, seed=patients)
    false = np.mean([one.p < 0.05 for one in found])
    assert 0.02 < false < 0.085
    assert np.mean([one.low == 0 for one in found]) >= 0.92
    assert np.mean([verdict(one, 1) in ("ALARM", "warning") for one in found]) < 0.03


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_intervals_hold_the_true_index_under_drift(shift: int) -> None:
    now = np.concatenate([np.roll(THEN[:-1], shift), [0.0]])
    found, true = simulated(now, 1000, 2.0, seed=shift)
    # cells are joined, so that a little of the true index is not seen
    assert np.mean([one.low <= true for one in found]) >= 0.95
    assert np.mean([one.high >= 0.8 * true for one in found]) >= 0.95


def test_a_large_change_is_an_alarm_and_a_small_one_a_warning() -> None:
    large, _ = simulated(np.concatenate([THEN[:-1][::-1], [0.0]]), 1000, 2.0, seed=1)
    assert {verdict(one, 1) for one in large} == {"ALARM"}
    tilted = THEN * np.linspace(0.8, 1.6, len(THEN))
    small, true = simulated(tilted, 4000, 2.0, seed=2)
    assert true < 0.1
    said = [verdict(one, 1) for one in small]
    assert said.count("warning") > 0.6 * RUNS
    assert "ALARM" not in said


def test_noise_that_would_hide_a_change_is_not_taken_for_silence() -> None:
    found, _ = simulated(THEN, 200, 8.0, seed=3, sd_then=12.0)
    hidden = [one for one in found if one.limit > LARGE]
    assert len(hidden) > RUNS / 2
    assert "no sign of drift" not in {verdict(one, 1) for one in hidden}


def test_too_few_patients_are_compared_with_nothing() -> None:
    generator = np.random.default_rng(0)
    few = np.full(BINS + 1, 1.0)
    assert compare(table(few, 5.0), THEN, np.ones(BINS + 1), generator) is None
    assert compare(table(THEN, 5.0), few, np.full(BINS + 1, 400.0), generator) is None


NEARLY_ONE = np.array([1194.0, 1, 0, 2, 0, 0, 1, 0, 0, 2, 0])
"""A column that has hardly anything but one value."""


@pytest.mark.parametrize(
    ("others", "patients", "says"),
    [
        (6, 1200, "no sign of drift"),
        (70, 1000, "warning"),
        (250, 1000, "ALARM"),
        (2, 60, "cannot tell"),
    ],
)
def test_a_column_of_nearly_one_value_is_judged_by_it(
    others: int, patients: int, says: str
) -> None:
    variances = np.full(11, 9.0)
    now = np.zeros(11)
    now[0], now[3:8] = patients - others, others / 5
    reference = Reference(counts=tuple(NEARLY_ONE), variances=tuple(variances))
    assert compare(table(now, 2.0), NEARLY_ONE, variances, np.random.default_rng(0)) is None
    (summary, *shares) = drift_tables(
        Drift(references=(reference,)), ["site"], [table(now, 2.0)]
    ).tables
    assert summary.rows[0].cells[-1] == says
    assert len(shares) == 1


def test_a_column_of_nearly_one_value_seldom_cries() -> None:
    generator, cried = np.random.default_rng(4), []
    p = NEARLY_ONE / NEARLY_ONE.sum()
    for _ in range(RUNS):
        now = generator.multinomial(1000, p) + generator.laplace(0, 2.0, len(p))
        then = generator.multinomial(1200, p) + generator.normal(0, 3.0, len(p))
        found = compare_commonest(
            table(now, 2.0), then, np.full(len(p), 9.0), np.random.default_rng(1)
        )
        assert found is not None
        cried.append(found.p < 0.05)
    assert np.mean(cried) < 0.085


def test_values_that_are_missing_now_are_drift() -> None:
    now = THEN * 0.7
    now[-1] = 0.3 * THEN.sum()
    found = compare(table(now, 2.0), THEN, np.ones(BINS + 1), np.random.default_rng(0))
    assert found is not None
    assert verdict(found, 1) == "ALARM"


def test_tables_say_verdict_and_shares() -> None:
    reference = Reference(counts=tuple(THEN), variances=(4.0,) * (BINS + 1))
    nobody = Reference(counts=(1.0,) * (BINS + 1), variances=(400.0,) * (BINS + 1))
    tables = [table(THEN[::-1].copy(), 2.0), table(THEN, 2.0)]
    found = drift_tables(Drift(references=(reference, nobody)), ["score", "age"], tables)
    summary, shares = found.tables
    assert [row.label for row in summary.rows] == ["score", "age"]
    assert summary.rows[0].cells[-1] == "ALARM"
    assert summary.rows[1].cells[0] == TOO_FEW
    assert summary.rows[1].cells[-1] == "cannot tell"
    of_then = shares.rows[0].cells[1]
    assert isinstance(of_then, Figure)
    assert (of_then.value, of_then.low, of_then.high) == pytest.approx(
        (0.25, 0.25 - 3.92 / 1200, 0.25 + 3.92 / 1200)
    )
    assert any("26(5)" in note for note in found.notes)
