"""Between-site sums: Cochran's Q by hand and against its published form, and what noise does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from protocol.privacy import discrete_laplace
from protocol.statistics.harmonisation.between_sites import (
    between,
    figures,
    groups,
    opened,
    to_integers,
)
from protocol.statistics.harmonisation.tables import Seen, harmonisation_tables
from protocol.statistics.noised_table import NoisedTable
from protocol.statistics.results import Figure
from protocol.study.query import FIGURE_UNIT, LARGEST_FIGURE, Categories, Differing, Reference

Floats = npt.NDArray[np.float64]
NOTHING = np.zeros(1), np.ones(1)


def asked(released: Floats, variance: float = 0.0, sites: int = 4, name: str = "x") -> Differing:
    labels = tuple(f"c{place}" for place in range(len(released) - 1))
    return Differing(
        name=name,
        axis=Categories(column="x", categories=labels),
        released=Reference(counts=tuple(released), variances=(variance,) * len(released)),
        groups=groups(released, np.full(len(released), variance), sites),
    )


def laplace(epsilon: float) -> tuple[Floats, Floats]:
    values, chances = discrete_laplace.distribution(epsilon, 1, 1.0)
    return values.astype(float), chances / chances.sum()


def cell(of: Differing, noise: tuple[Floats, Floats]) -> NoisedTable:
    return NoisedTable((of.axis,), np.zeros(0), *noise, 0)


def compared(of: Differing, seen: Floats, noise: tuple[Floats, Floats], draws: int = 20_000) -> Any:
    table = cell(of, noise)
    sums = figures(of, seen, table.variance).sum(axis=0)
    declared = [int(site.sum()) for site in seen]
    return between(of, sums, declared, table, np.random.default_rng(0), draws)


def test_without_noise_q_is_the_chi_square_of_homogeneity() -> None:
    """Pearson's statistic of the table of sites by cells (scipy), since the weights are the sizes
    of the samples then."""
    seen = np.array([[60.0, 30, 10], [90, 40, 70], [30, 30, 40], [200, 100, 33]])
    found = compared(asked(seen.sum(axis=0)), seen, NOTHING)
    pearson = chi2_contingency(seen, correction=False)
    assert (found.sites, found.degrees) == (4, pearson.dof)
    assert found.q == pytest.approx(pearson.statistic, rel=1e-12)
    assert found.explained[0] == pytest.approx(1 - found.degrees / found.q, abs=0.01)
    assert found.p < 0.001


def test_the_index_is_the_mean_stability_index_of_a_site() -> None:
    """Two sites of 1,000, shares .4 and .6: sum over cells of (.1)^2 / .5, at each."""
    seen = np.array([[400.0, 600.0], [600.0, 400.0]])
    found = compared(asked(seen.sum(axis=0), sites=2), seen, NOTHING)
    value, low, high = found.index
    assert value == pytest.approx(0.04, abs=0.002)
    assert 0.01 < low < value < high < 0.09


def test_an_error_of_what_was_released_is_no_difference() -> None:
    """All sites lie equally far from the reference: they do not differ from one another."""
    seen = np.array([[300.0, 600.0, 100.0]] * 4)
    found = compared(asked(np.array([2000.0, 1000.0, 1000.0])), seen, NOTHING)
    assert found.q == pytest.approx(0.0, abs=1e-9)
    assert found.index[0] == found.explained[0] == 0.0
    assert found.p > 0.9


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_noise_is_not_taken_for_a_difference(epsilon: float) -> None:
    """Q has its mean, (K - 1)(G - 1), and 5% of p-values are below 5%, however large the noise."""
    noise, generator = laplace(epsilon), np.random.default_rng(3)
    qs, ps = [], []
    for _ in range(80):
        true = generator.multinomial([200, 400, 400, 1000], [0.6, 0.3, 0.1])
        noised = true + generator.choice(noise[0], size=true.shape, p=noise[1])
        released = true.sum(axis=0) + generator.choice(noise[0], size=3, p=noise[1])
        of = asked(released, cell(asked(released), noise).variance)
        found = compared(of, noised, noise, 500)
        qs.append(found.q / found.degrees)
        ps.append(found.p)
    assert np.mean(qs) == pytest.approx(1.0, abs=0.25)
    assert np.mean(np.array(ps) < 0.05) < 0.12


def test_a_rare_column_is_compared_by_its_commonest_value() -> None:
    released = np.array([1.0, 3997.0, 2.0])
    assert groups(released, np.full(3, 2.0), 4) == (1, 0, 1)
    seen = np.array([[0.0, 999.0, 1.0]] * 3 + [[0.0, 500.0, 500.0]])
    assert compared(asked(released), seen, laplace(1.0)).p < 0.001
    seen[3] = [0, 998, 2]
    assert compared(asked(released), seen, laplace(1.0)).p > 0.05


@given(
    st.lists(st.floats(-100, 1e6), min_size=2, max_size=40),
    st.floats(0, 1e6),
    st.integers(1, 200),
)
def test_groups_cover_every_cell_and_hold_patients(
    counts: list[float], variance: float, sites: int
) -> None:
    released, variances = np.array(counts), np.full(len(counts), variance)
    of = groups(released, variances, sites)
    assert sorted(set(of)) == list(range(max(of) + 1))
    assert max(of) >= 1
    if list(of) == sorted(of) and max(of) > 1:
        assert min(np.bincount(of, weights=released)) >= 5 * sites
    asked(released, variance, sites)


@given(st.lists(st.floats(-1e7, 1e9), min_size=3, max_size=3), st.floats(0, 1e9))
def test_a_site_says_finite_figures_that_fit(counts: list[float], variance: float) -> None:
    said = to_integers(figures(asked(np.array([50.0, 1, 1])), np.array(counts), variance))
    assert np.abs(said).max() <= LARGEST_FIGURE
    words, sums = opened(np.concatenate([[512, 256, 0], said]), 256)
    assert words == (2, 1, 0)
    assert sums[0] == 1.0
    assert said[0] == FIGURE_UNIT


def test_a_report_has_a_line_for_each_column_and_says_where_nothing_can_be_told() -> None:
    seen = np.array([[400.0, 600.0, 0], [600.0, 400.0, 0]])
    of = asked(seen.sum(axis=0), sites=2, name="height")
    sums = figures(of, seen, 0.0).sum(axis=0)
    empty = np.zeros_like(sums)
    columns = [
        Seen(of, (2, 0, 0), sums, cell(of, NOTHING)),
        Seen(of.model_copy(update={"name": "weight"}), (0, 0, 2), empty, cell(of, NOTHING)),
    ]
    (table,) = harmonisation_tables(columns, (1000, 1000)).tables
    height, weight = table.rows
    assert (height.label, height.cells[-1]) == ("height", "DIFFER")
    assert (weight.label, weight.cells[-1]) == ("weight", "cannot tell")
    assert height.cells[table.columns.index("hospitals that differ")] == Figure(2.0)
    assert all(len(row.cells) == len(table.columns) for row in table.rows)


def test_silence_means_nothing_where_noise_could_make_a_large_index() -> None:
    released = np.array([100.0, 100.0])
    of = asked(released, 1.0, sites=2)
    noise = laplace(0.05)
    sums = figures(of, np.array([[50.0, 50], [50, 50]]), cell(of, noise).variance).sum(axis=0)
    (table,) = harmonisation_tables([Seen(of, (0, 0, 2), sums, cell(of, noise))], (50, 50)).tables
    assert table.rows[0].cells[-1] == "cannot tell"
