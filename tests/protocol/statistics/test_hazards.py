"""Proportional hazards: the likelihood's maximum without noise, honest intervals with it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize

from protocol.statistics.estimation import NoFitError
from protocol.statistics.hazard_tables import hazard_tables
from protocol.statistics.hazards import fit_hazards, join_intervals
from protocol.statistics.results import Figure
from protocol.study.analysis import Hazards
from tests.protocol.statistics.tables import SEX, Floats, bins, holds, laplace, table

TRUE = np.array([0.7, -0.4])
DESIGN = np.array(list(product((0.0, 1.0), repeat=2)))
J, WIDTH = 6, 250.0


def cohort(n: int, generator: np.random.Generator) -> Floats:
    """(4, 2, J + 1) patients of a Cox model in continuous time, by event or departure."""
    row = generator.integers(0, 4, n)
    until = generator.weibull(1.3, n) * 1200 * np.exp(-(DESIGN[row] @ TRUE) / 1.3)
    left = (generator.integers(1, 9, n)) * WIDTH  # visits lie at ends of intervals
    place = np.minimum(np.where(until <= left, until // WIDTH, left // WIDTH - 1), J).astype(int)
    cells = np.zeros((4, 2, J + 1))
    np.add.at(cells, (row, np.where(until <= left, 0, 1), place), 1)
    return cells


def test_without_noise_it_is_the_maximum_of_the_likelihood() -> None:
    cells = cohort(2000, np.random.default_rng(0))
    events = cells[:, 0, :-1]
    at_risk = cells.sum(axis=1)[:, ::-1].cumsum(axis=1)[:, ::-1][:, :-1]

    def loss(parameters: Floats) -> float:
        hazard = np.exp((DESIGN @ parameters[:2])[:, None] + parameters[2:])
        return float(((at_risk - events) * hazard - events * np.log(-np.expm1(-hazard))).sum())

    found = fit_hazards(DESIGN, cells, noise=0.0)
    start = np.concatenate([np.zeros(2), np.full(J, -2.0)])
    reference = minimize(loss, start, method="BFGS", options={"gtol": 1e-6})
    assert found.coefficients == pytest.approx(reference.x, abs=1e-4)
    step = 1e-3 * np.eye(len(found.coefficients))
    at = found.coefficients
    hessian = [
        [(loss(at + a + b) - loss(at + a - b) - loss(at - a + b) + loss(at - a - b)) for b in step]
        for a in step
    ]
    observed = np.sqrt(np.diag(np.linalg.inv(np.array(hessian) / 4e-6)))
    assert found.errors == pytest.approx(observed, rel=0.02)
    assert np.array_equal(found.errors, found.sampling)


@pytest.mark.parametrize("robust", [False, True])
def test_intervals_hold_the_hazard_ratios_of_coxs_model(robust: bool) -> None:
    """In continuous time, through public intervals and noise of which much of the error is."""
    generator, runs, (values, chances) = np.random.default_rng(1), 300, laplace(0.6)
    noise, held, wider = float(np.dot(values**2, chances)), [], []
    for _ in range(runs):
        cells = cohort(1000, generator)
        noised = cells + generator.choice(values, size=cells.shape, p=chances)
        found = fit_hazards(DESIGN, noised, noise)
        errors = found.robust if robust else found.errors
        held.append(np.abs(found.coefficients[:2] - TRUE) <= 1.96 * errors[:2])
        wider.append(found.errors[:2] / found.sampling[:2])
    assert np.mean(held, axis=0).min() >= 0.92
    assert np.median(wider) > 1.2


def test_intervals_with_few_events_are_joined() -> None:
    cells = np.zeros((1, 2, 6))
    cells[0, 0] = (3, 9, 20, 2, 1, 5)
    cells[0, 1] = (1, 1, 1, 1, 1, 7)
    joined, widths = join_intervals(cells, 0.0)
    assert widths == (2, 3)
    assert joined[0].tolist() == [[12, 23, 5], [2, 3, 7]]
    with pytest.raises(NoFitError, match="no events"):
        join_intervals(cells, 1000.0)


def test_the_table_names_hazard_ratios_and_leaves_out_who_is_unknown() -> None:
    cells = cohort(1500, np.random.default_rng(2)).reshape(2, 2, 2, J + 1)
    whole = np.full((3, 3, 3, J + 3), 400.0)
    whole[:2, :2, :2, 1:-1] = cells
    time = bins("days", *(WIDTH * np.arange(J + 1)), outside=True)
    axes = [SEX, bins("age", 30, 50, 70), holds("event"), time]
    analysis = Hazards(references=("0", "under 50"))
    coefficients, numbers, foretold = hazard_tables(analysis, table(axes, whole)).tables
    assert [row.label for row in coefficients.rows] == ["sex: 1", "age: 50 or more"]
    for row, true in zip(coefficients.rows, TRUE, strict=True):
        assert isinstance(ratio := row.cells[0], Figure)
        assert ratio.low is not None
        assert ratio.high is not None
        assert ratio.low < np.exp(true) < ratio.high
    assert isinstance(number := numbers.rows[0].cells[0], Figure)
    assert number.value == 1500
    found = {row.label: row.cells[0] for row in foretold.rows}
    assert isinstance(ordered := found["concordance"], Figure)
    assert ordered.value is not None
    assert 0.55 < ordered.value < 0.75
    assert "integrated Brier score" in found


def test_no_events_are_diagnosed() -> None:
    whole = np.zeros((3, 3, J + 3))
    whole[:2, 1, 2] = 200
    time = bins("days", *(WIDTH * np.arange(J + 1)), outside=True)
    made = table([SEX, holds("event"), time], whole, epsilon=3.0)
    result = hazard_tables(Hazards(references=("0",)), made)
    assert [one.title for one in result.tables] == ["Patients"]
    assert "no events" in result.notes[0]
    assert "spend more epsilon" in result.notes[0]
