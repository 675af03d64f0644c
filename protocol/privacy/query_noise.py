"""The noise of a query: how a site draws its share, and the distribution of the shares' sum."""

from __future__ import annotations

from functools import lru_cache
from typing import assert_never

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.privacy import discrete_laplace
from protocol.privacy.events import Event
from protocol.privacy.releases import pooled_evaluation
from protocol.privacy.skellam import skellam
from protocol.study.query import Query
from protocol.study.study import Study
from protocol.study.vector_layout import histogram_variance

_WRAP = 2.0**-41


def query_and_event(study: Study) -> tuple[Query, Event]:
    """The query, and the sum that one attempt at it opens.

    Raises WardroundError(INTERNAL) where the study trains instead.
    """
    event = pooled_evaluation(study)
    if study.query is None or event is None:
        raise WardroundError(Code.INTERNAL, "A study that trains is no query.")
    return study.query, event


def share(study: Study, participants: int) -> npt.NDArray[np.int64]:
    """(cells,) integers, fresh each time: one site's noise where |U| = `participants`. None of a
    query that compares sites, whose noise is in what each of them says (`own`)."""
    query, event = query_and_event(study)
    if query.compares_sites:
        return np.zeros(query.cells, dtype=np.int64)
    honest = participants - study.aggregation.colluding_sites
    match query.mechanism:
        case "skellam":
            return skellam(histogram_variance(study, participants), query.cells)
        case "laplace":
            epsilon = 1 / event.noise_multiplier  # of a patient who is at one site
            return discrete_laplace.share(epsilon, event.scale, honest, query.cells)
    assert_never(query.mechanism)


def own(study: Study, cells: int) -> npt.NDArray[np.int64]:
    """(cells,) integers, fresh each time: all the noise of counts that a site compares."""
    query, event = query_and_event(study)
    match query.mechanism:
        case "skellam":
            return skellam(event.variance, cells)
        case "laplace":
            return discrete_laplace.share(1 / event.noise_multiplier, event.scale, 1, cells)
    assert_never(query.mechanism)


def own_noise(study: Study) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Values, in patients, of `own` noise on one cell, and their probabilities."""
    return _noise(study, 1.0)


def pooled_noise(
    study: Study, participants: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Values, in patients, of the noise on one opened cell, and their probabilities."""
    query, _ = query_and_event(study)
    if query.compares_sites:
        return np.zeros(1), np.ones(1)
    return _noise(study, participants / (participants - study.aggregation.colluding_sites))


def _noise(study: Study, shape: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of so many times the noise that suffices."""
    query, event = query_and_event(study)
    match query.mechanism:
        case "skellam":
            values, chances = _skellam(event.variance * shape)
        case "laplace":
            values, chances = _laplace(1 / event.noise_multiplier, event.scale, shape)
        case never:
            assert_never(never)
    return values / event.scale, chances


def half_width(study: Study, participants: int) -> float:
    """The least w, in patients, with P(|noise| <= w) >= 95%."""
    return _half_width(*pooled_noise(study, participants))


def half_width_of_counts(study: Study) -> float:
    """Likewise of the counts that are noised: those of all sites, or each site's own where sites
    are compared."""
    query, _ = query_and_event(study)
    if query.compares_sites:
        return _half_width(*own_noise(study))
    return half_width(study, len(study.roster))


def _half_width(values: npt.NDArray[np.float64], chances: npt.NDArray[np.float64]) -> float:
    order = np.argsort(np.abs(values), kind="stable")
    enough = np.searchsorted(np.cumsum(chances[order]), 0.95 * chances.sum())
    return float(np.abs(values[order])[min(enough, len(values) - 1)])


def max_noise(study: Study) -> float:
    """What no cell's noise exceeds in the study, but with probability 2^-41; discrete Laplace."""
    query, event = query_and_event(study)
    if query.compares_sites:
        return 0.0
    least, x = study.aggregation.least_sites, study.aggregation.colluding_sites
    draws = query.cells * study.aggregation.attempts
    shape = max(n / (n - x) for n in (least, len(study.roster)))
    return float(
        discrete_laplace.tail(1 / event.noise_multiplier, event.scale, shape, _WRAP / draws)
    )


@lru_cache(maxsize=16)
def _laplace(
    epsilon: float, scale: float, shape: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    values, chances = discrete_laplace.distribution(epsilon, scale, shape)
    return values.astype(np.float64), chances


@lru_cache(maxsize=16)
def _skellam(variance: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """As a normal distribution of the same variance on a grid: it is within 1e-6 of it from a
    deviation of 256 on, and a query's is larger."""
    grid = np.linspace(-6.0, 6.0, 4801)
    chances = np.exp(-(grid**2) / 2)
    return grid * np.sqrt(variance), chances / chances.sum()
