"""Regression: without noise the reference's, with noise standard errors that know of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize

from protocol.statistics.estimation import NoFitError
from protocol.statistics.regression import fit, inverse_link
from protocol.statistics.regression_tables import regression_tables
from protocol.statistics.results import Figure
from protocol.study.analysis import Family, Regression, check
from protocol.study.query import Cells, Query
from tests.protocol.statistics.tables import SEX, Floats, bins, holds, laplace, table

TRUE = np.array([-0.4, 0.8, -0.5, 0.0])
DESIGN = np.array([(1, *bits) for bits in product((0.0, 1.0), repeat=3)])
OUTCOMES: dict[Family, Floats] = {
    "binomial": np.array([1.0, 0.0]),
    "gaussian": np.arange(-3.75, 4.0, 0.5),
    "poisson": np.arange(0.0, 10.0),
}


def counted(family: Family, n: int, generator: np.random.Generator) -> Floats:
    """(8, Y) patients by combination of factors and by outcome."""
    row = generator.integers(0, 8, n)
    mean, _ = inverse_link(family, DESIGN[row] @ TRUE)
    values = OUTCOMES[family]
    drawn: dict[Family, Callable[[], Floats]] = {
        "binomial": lambda: (generator.random(n) < mean).astype(float),
        "gaussian": lambda: generator.normal(mean, 1.0),
        "poisson": lambda: generator.poisson(mean).astype(float),
    }
    nearest = np.abs(drawn[family]()[:, None] - values).argmin(axis=1)
    counts = np.zeros((8, len(values)))
    np.add.at(counts, (row, nearest), 1)
    return counts


@pytest.mark.parametrize("family", ["binomial", "gaussian", "poisson"])
def test_without_noise_it_is_the_maximum_of_the_likelihood(family: Family) -> None:
    counts, values = counted(family, 3000, np.random.default_rng(0)), OUTCOMES[family]
    number, total = counts.sum(axis=1), counts @ values

    def loss(beta: Floats) -> float:
        linear = DESIGN @ beta
        cumulant = {
            "binomial": np.logaddexp(0, linear),
            "gaussian": linear**2 / 2,
            "poisson": np.exp(linear),
        }[family]
        return float((number * cumulant - total * linear).sum())

    found = fit(family, DESIGN, values, counts, noise=0.0)
    reference = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    assert found.coefficients == pytest.approx(reference.x, abs=1e-5)
    mean, weight = inverse_link(family, DESIGN @ found.coefficients)
    squared = (counts * (values - mean[:, None]) ** 2).sum()
    phi = squared / (counts.sum() - 4) if family == "gaussian" else 1.0
    information = (DESIGN * (number * weight)[:, None]).T @ DESIGN
    assert found.errors**2 == pytest.approx(phi * np.diag(np.linalg.inv(information)), rel=1e-9)
    assert np.array_equal(found.errors, found.sampling)


@pytest.mark.parametrize("family", ["binomial", "gaussian", "poisson"])
@pytest.mark.parametrize("robust", [False, True])
def test_intervals_of_noised_tables_hold_the_truth(family: Family, robust: bool) -> None:
    """At so small an epsilon that much of the error is noise."""
    generator, runs = np.random.default_rng(1), 400
    values, chances = laplace(1.0 if family == "poisson" else 0.3)
    noise = float(np.dot(values**2, chances))
    held, fits = np.zeros(4), 0
    for _ in range(runs):
        counts = counted(family, 800, generator)
        counts += generator.choice(values, size=counts.shape, p=chances)
        found = fit(family, DESIGN, OUTCOMES[family], counts, noise)
        errors = found.robust if robust else found.errors
        held += np.abs(found.coefficients - TRUE) <= 1.96 * errors
        fits += 1
        assert np.all(found.errors > found.sampling)
    assert held.min() / fits >= 0.92, held / fits


def test_an_interaction_is_the_ratio_of_two_odds_ratios() -> None:
    counts = np.array([[[40, 60], [50, 50]], [[60, 40], [90, 30]]])
    whole = np.zeros((3, 3, 3))
    whole[:2, :2, :2] = counts
    axes = [SEX, bins("age", 30, 50, 70), holds("event")]
    analysis = Regression(references=("0", "under 50"), interactions=((0, 1),))
    coefficients = regression_tables(analysis, table(axes, whole)).tables[0]
    row = coefficients.rows[-1]
    assert row.label == "sex: 1 : age: 50 or more"
    odds = counts[..., 0] / counts[..., 1]
    wanted = np.log(odds[1, 1] / odds[1, 0] / (odds[0, 1] / odds[0, 0]))
    assert isinstance(beta := row.cells[1], Figure)
    assert isinstance(error := row.cells[2], Figure)
    assert beta.value == pytest.approx(wanted, rel=1e-6)
    assert error.value == pytest.approx(np.sqrt((1 / counts).sum()), rel=1e-6)  # Woolf 1955


@pytest.mark.parametrize("interactions", [((0,),), ((1, 0),), ((0, 2),), ((0, 1), (0, 1))])
def test_what_is_no_interaction_is_no_analysis(interactions: tuple[tuple[int, ...], ...]) -> None:
    axes = [SEX, bins("age", 30, 50, 70), holds("event")]
    cells = Cells.model_validate({"kind": "cells", "name": "x", "axes": axes})
    analysis = Regression(references=("0", "under 50"), interactions=interactions)
    with pytest.raises(ValueError, match="interaction"):
        check(analysis, Query(statistics=(cells,), mechanism="laplace"))


def regressed(counts: Floats, epsilon: float | None = 5.0) -> tuple[str, ...]:
    axes = [SEX, bins("age", 30, 50, 70), holds("event")]
    whole = np.zeros((3, 3, 3))
    whole[:2, :2, :2] = counts
    analysis = Regression(references=("0", "under 50"))
    return regression_tables(analysis, table(axes, whole, epsilon)).notes


def test_terms_name_their_levels_and_effects_are_odds_ratios() -> None:
    counts = np.array([[[40, 60], [50, 50]], [[60, 40], [70, 30]]])
    axes = [SEX, bins("age", 30, 50, 70), holds("event")]
    whole = np.zeros((3, 3, 3))
    whole[:2, :2, :2] = counts
    whole[2] = 500  # of unknown sex: left out
    analysis = Regression(references=("1", "under 50"))
    coefficients, numbers = regression_tables(analysis, table(axes, whole)).tables
    assert [row.label for row in coefficients.rows] == ["(intercept)", "sex: 0", "age: 50 or more"]
    odds, beta = coefficients.rows[1].cells[:2]
    assert isinstance(odds, Figure)
    assert isinstance(beta, Figure)
    assert odds.value == pytest.approx(np.exp(beta.value or 0.0))
    assert (odds.value or 1.0) < 0.5
    assert isinstance(number := numbers.rows[0].cells[0], Figure)
    assert number.value == counts.sum()


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([[[0, 60], [0, 50]], [[60, 40], [70, 30]]], "separation"),
        ([[[40, 60], [0, 0]], [[0, 0], [70, 30]]], "collinearity"),
        ([[[0, 0], [0, 0]], [[60, 40], [70, 30]]], "hardly anybody has this level"),
        ([[[3, 60], [4, 50]], [[3, 40], [5, 30]]], "more parameters than events allow"),
    ],
)
def test_what_hinders_a_regression_is_diagnosed(counts: list[object], said: str) -> None:
    assert any(said in note for note in regressed(np.array(counts, float))), regressed(
        np.array(counts, float)
    )


def test_noise_alone_has_no_estimates() -> None:
    with pytest.raises(NoFitError):
        fit("binomial", DESIGN, OUTCOMES["binomial"], np.full((8, 2), -1.0), 4.0)


def test_a_number_in_bins_has_the_slope_of_the_number_itself() -> None:
    """In eight bins, for 20,000 patients without noise: within a tenth of a standard error that a
    study of 2,000 would have."""
    generator, n = np.random.default_rng(3), 20_000
    number = np.clip(generator.normal(10, 4, n), 0, 24)
    happened = generator.random(n) < inverse_link("binomial", 0.2 * number - 2)[0]
    whole = np.zeros((9, 3))
    np.add.at(whole, (np.minimum(number // 3, 7).astype(int), np.where(happened, 0, 1)), 1)
    axes = [bins("x", *range(0, 25, 3)), holds("event")]
    analysis = Regression(references=("under 3",), numbers=(0,))
    coefficients = regression_tables(analysis, table(axes, whole)).tables[0]
    each = np.column_stack([np.ones(n), number])
    wanted = fit("binomial", each, OUTCOMES["binomial"], np.eye(2)[1 - happened], 0.0)
    assert [row.label for row in coefficients.rows] == ["(intercept)", "x"]
    assert isinstance(beta := coefficients.rows[1].cells[1], Figure)
    error = float(wanted.errors[1]) * np.sqrt(10)
    assert beta.value == pytest.approx(float(wanted.coefficients[1]), abs=error / 10)


def test_an_offset_is_added_and_weights_are_patients() -> None:
    """A Poisson model of rates: with the offset the levels have one rate, without it the rate is
    that of their exposure. A weight of 2 is two patients."""
    whole = np.zeros((3, 3, 6))
    exposed = {0: [60, 30, 8, 2, 0], 1: [37, 37, 18, 6, 2]}  # means of .52 and .99
    for level, counts in exposed.items():
        whole[level, level, :5] = counts
    axes = [SEX, bins("log_years", -0.35, 0.35, 1.05), bins("y", *range(6))]
    coefficients = regression_tables(
        Regression(family="poisson", references=("0",), offset=True), table(axes, whole)
    ).tables[0]
    assert [row.label for row in coefficients.rows] == ["(intercept)", "sex: 1"]
    assert isinstance(beta := coefficients.rows[1].cells[1], Figure)
    assert beta.value == pytest.approx(np.log(99 / 52) - 0.7, abs=1e-6)

    weighted = np.zeros((3, 3, 3))
    weighted[:2, 0, :2], weighted[:2, 1, :2] = [[30, 20], [25, 40]], [[5, 10], [20, 4]]
    axes = [SEX, bins("w", 0.5, 1.5, 2.5), holds("event")]
    result = regression_tables(Regression(references=("0",), weighted=True), table(axes, weighted))
    assert isinstance(beta := result.tables[0].rows[1].cells[1], Figure)
    counted = weighted[:2, 0, :2] + 2 * weighted[:2, 1, :2]
    odds = counted[:, 0] / counted[:, 1]
    assert beta.value == pytest.approx(np.log(odds[1] / odds[0]), abs=1e-6)
    assert result.tables[0].rows[1].cells[2] == result.tables[0].rows[1].cells[3]
    assert any("robust ones" in note for note in result.notes)


def test_intervals_of_numbers_hold_the_truth() -> None:
    """Against the coefficients by which outcomes were drawn from the numbers themselves."""
    generator, runs, held = np.random.default_rng(2), 150, np.zeros(2)
    values, chances = laplace(1.0)
    for _ in range(runs):
        number = np.clip(generator.normal(size=1500), -3, 3)
        happened = generator.random(1500) < inverse_link("binomial", 0.8 * number - 0.3)[0]
        counts = np.zeros((8, 2))
        place = np.minimum((number + 3) // 0.75, 7).astype(int)
        np.add.at(counts, (place, np.where(happened, 0, 1)), 1)
        counts += generator.choice(values, size=counts.shape, p=chances)
        whole = np.zeros((9, 3))
        whole[:8, :2] = counts
        axes = [bins("x", *(0.75 * np.arange(9) - 3)), holds("event")]
        analysis = Regression(references=("under -2.25",), numbers=(0,))
        rows = regression_tables(analysis, table(axes, whole, 1.0)).tables[0].rows
        for at, true in enumerate((-0.3, 0.8)):
            beta = rows[at].cells[1]
            assert isinstance(beta, Figure)
            held[at] += (beta.low or 0.0) <= true <= (beta.high or 0.0)
    assert held.min() / runs > 0.89, held / runs


@pytest.mark.parametrize(("slope", "told"), [(0.3, False), (1.5, True)])
def test_a_slope_that_its_bins_cannot_hold_is_told(slope: float, told: bool) -> None:
    generator, whole = np.random.default_rng(0), np.zeros((7, 3))
    number = generator.uniform(-3, 3, 3000)
    happened = generator.random(3000) < inverse_link("binomial", slope * number)[0]
    place = np.minimum(number + 3, 5).astype(int)
    np.add.at(whole, (place, np.where(happened, 0, 1)), 1)
    axes = [bins("x", *range(-3, 4)), holds("event")]
    notes = regression_tables(
        Regression(references=("under -2",), numbers=(0,)), table(axes, whole)
    ).notes
    assert any("give more bins" in note for note in notes) is told


@pytest.mark.parametrize("numbers", [(0,), (2,), (1, 1)])
def test_only_bins_among_the_factors_enter_as_numbers(numbers: tuple[int, ...]) -> None:
    axes = [SEX, bins("age", 30, 50, 70), holds("event")]
    cells = Cells.model_validate({"kind": "cells", "name": "x", "axes": axes})
    analysis = Regression(references=("0", "under 50"), numbers=numbers)
    with pytest.raises(ValueError, match="number"):
        check(analysis, Query(statistics=(cells,), mechanism="laplace"))
