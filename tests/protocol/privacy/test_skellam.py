"""Skellam noise: exact probabilities, the right sum over sites, what colluders can take away."""

import mpmath
import numpy as np
import pytest
from scipy import stats

from protocol.errors import Code, WardroundError
from protocol.privacy.randomness import Stream
from protocol.privacy.skellam import (
    DIVERGENCE,
    MAX_VARIANCE,
    RELATIVE_ERROR,
    _table,
    log_probability,
    poisson,
    skellam,
)
from protocol.secagg.aggregate import ShareSum
from protocol.secagg.party import Party
from tests.protocol.federation import context, identity, names

CHANCE = 1e-6
RATES = [0.01, 0.7, 3.2, 17.5, 90.0, 1000.3, 2e4, 1e5 + 0.5, 1e7, 2.0**28 * 1.37, 2.0**40, 2.0**50]


@pytest.mark.parametrize("rate", RATES)
def test_log_probabilities_agree_with_fifty_digits(rate: float) -> None:
    """The largest error within 8 deviations, and the mean square under the law itself; the height
    of a block and the comparison with a uniform add an error of the same size each."""
    draw = np.random.default_rng(0)
    under_the_law = draw.poisson(rate, 300).astype(np.int64)
    wide = np.rint(rate + draw.uniform(-8, 8, 100) * np.sqrt(rate)).astype(np.int64)

    def errors(values: np.ndarray) -> np.ndarray:
        found = []
        with mpmath.workdps(50):
            exact_rate = mpmath.mpf(rate)
            for value, logarithm in zip(values, log_probability(values, rate), strict=True):
                n = mpmath.mpf(int(value))
                exact = n * mpmath.log(exact_rate) - exact_rate - mpmath.loggamma(n + 1)
                exact += mpmath.log(2 * mpmath.pi * exact_rate) / 2
                found.append(float(mpmath.mpf(float(logarithm)) - exact))
        return np.array(found)

    assert np.abs(errors(np.maximum(wide, 0))).max() < RELATIVE_ERROR
    assert 3 * (errors(under_the_law) ** 2).mean() < DIVERGENCE


def test_what_is_impossible_has_no_probability() -> None:
    assert log_probability(np.array([-3, -1]), 5.0).tolist() == [-np.inf] * 2


@pytest.mark.parametrize("rate", RATES)
def test_the_table_keeps_every_integer_with_its_own_probability(rate: float) -> None:
    """Rejection is exact when each block's height is above every p(k) in it, block probability
    over height is one constant, and the height kept unseen is below every p(k)."""
    table = _table(rate)
    edges = [*(int(edge) for edge in table.upper), 2**64]
    probability = np.diff(np.array([0, *edges], dtype=object)) / 2**64
    assert (probability > 0).all()
    constant = np.log(probability.astype(float)) - table.ceiling
    assert np.ptp(constant) < 1e-14 * max(1, np.abs(table.ceiling).max())
    width = 1 << table.bits
    steps = np.unique(np.linspace(0, width - 1, 9).astype(np.int64))
    for step in steps:
        ratio = log_probability(table.start + step, rate) - table.ceiling
        assert (ratio <= 0).all()
        assert (np.log(table.sure) <= ratio + 1e-12).all()
    ends = table.start[[0, -1]].astype(np.int64) + np.array([0, width - 1])
    mass = np.exp(log_probability(ends, rate))
    assert mass[1] < 1e-35
    assert table.start[0] == 0 or mass[0] < 1e-35


@pytest.mark.parametrize("rate", [3.2, 1000.3, 1e7])
def test_keeping_unseen_changes_no_draw(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick acceptance is the slow one's answer, foreseen: same bits, same values."""
    quick = poisson(rate, 100_000, Stream(b"k" * 32))
    careful = _table(rate)._replace(sure=np.zeros_like(_table(rate).sure))
    monkeypatch.setattr("protocol.privacy.skellam._table", lambda _: careful)
    assert (poisson(rate, 100_000, Stream(b"k" * 32)) == quick).all()


@pytest.mark.parametrize("rate", [0.3, 2.5, 30.0, 700.0, 3e4, 1e6, 2.0**33])
def test_poisson_draws_pass_chi_square(rate: float) -> None:
    size = 400_000
    values = poisson(rate, size, Stream())
    edges = np.unique(stats.poisson.ppf(np.linspace(0.002, 0.998, 80), rate))
    expected = np.diff(np.concatenate([[0], stats.poisson.cdf(edges, rate), [1]])) * size
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(expected))
    enough = expected > 5
    # What is rare is pooled into one class, so that the counts still add up.
    pooled = [np.append(x[enough], x[~enough].sum() + 1e-9) for x in (counts, expected)]
    statistic = ((pooled[0] - pooled[1]) ** 2 / pooled[1])[:-1].sum()
    assert stats.chi2.sf(statistic, enough.sum()) > CHANCE


@pytest.mark.parametrize("variance", [0.5, 4.0, 60.0])
def test_skellam_draws_pass_chi_square_against_the_exact_law(variance: float) -> None:
    size = 400_000
    values = skellam(variance, size)
    reach = int(4 * np.sqrt(variance)) + 1
    k = np.arange(-reach, reach + 1)
    inside = np.bincount(
        np.clip(values, -reach - 1, reach + 1) + reach + 1, minlength=2 * reach + 3
    )
    law = stats.skellam(variance / 2, variance / 2)
    expected = np.concatenate([[law.cdf(-reach - 1)], law.pmf(k), [law.sf(reach)]]) * size
    keep = expected > 5
    statistic = ((inside - expected) ** 2 / expected)[keep].sum()
    assert stats.chi2.sf(statistic, keep.sum() - 1) > CHANCE


@pytest.mark.parametrize("variance", [100.0, 2.0**36, MAX_VARIANCE])
def test_mean_variance_and_fourth_moment(variance: float) -> None:
    size = 500_000
    values = skellam(variance, size) / np.sqrt(variance)
    assert abs(values.mean()) < 6 / np.sqrt(size)
    assert abs(values.var() - 1) < 6 * np.sqrt(2 / size)
    assert abs((values**4).mean() - 3 - 1 / variance) < 6 * np.sqrt(96 / size)


def test_variances_at_the_edges() -> None:
    assert not skellam(0.0, 5).any()
    assert skellam(10.0, 0).shape == (0,)
    for variance in (-1.0, float("nan"), float("inf"), MAX_VARIANCE * 1.01):
        with pytest.raises(WardroundError) as refusal:
            skellam(variance, 3)
        assert refusal.value.code is Code.CONFIGURATION


def test_two_calls_draw_different_noise() -> None:
    assert np.count_nonzero(skellam(2.0**40, 1000) == skellam(2.0**40, 1000)) <= 1


@pytest.mark.parametrize("some", [3, 4, 6])
def test_an_opened_sum_has_the_planned_noise_and_colluders_leave_mu(some: int) -> None:
    """Variance mu |U| / (|U| - x) in the opened sum; x sites that subtract their own leave mu."""
    mu, colluders, length = 2.0**20, 2, 60_000
    sites = names(6)
    agreed = context(sites)
    parties = {site: Party.begin(agreed, site, identity(site)) for site in sites[:some]}
    readys = [party.ready for party in parties.values()]
    drawn: dict[str, np.ndarray] = {}
    opening = ShareSum(list(parties), length, 32)
    for site, party in parties.items():

        def noise(participants: int, site: str = site) -> np.ndarray:
            drawn[site] = skellam(mu / (participants - colluders), length)
            return drawn[site]

        opening.fold(site, [party.share(np.zeros(length, dtype=np.uint32), readys, 3, noise)])
    total = opening.open().astype(np.float64)
    error = 6 * np.sqrt(2 / length)
    assert abs(total.var() / (mu * some / (some - colluders)) - 1) < error
    for site in sites[:colluders]:
        total -= drawn[site]
    assert abs(total.var() / mu - 1) < error
