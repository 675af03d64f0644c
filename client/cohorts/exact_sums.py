"""What a site adds to an exact sum: derivatives of the log-likelihood at one iterate, or counts of
survival curves (`client.cohorts.exact_times`).

Intercepts of the site's strata are estimated here, for the iterate, and taken out (the profile
likelihood; of its information the Schur complement), so that none of the site's own totals stands
in a sum. Cox's model: `client.cohorts.exact_cox`.

A site ends the study where its weights say that the sum is about few patients: Kish's effective
sample size, (sum w)^2 / sum w^2, is below the least count; or where a number is so large that n
such could wrap around. It gives one answer for all of these, after it was debited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import assert_never

import numpy as np
import numpy.typing as npt

from client.cohorts.exact_cox import cox_sums
from client.cohorts.exact_design import ExactDesign, Floats
from client.cohorts.exact_times import ExactTimes
from client.cohorts.query_counts import QueryContributor, QueryRecords
from protocol.errors import Code, WardroundError
from protocol.exact.least_counts import interval_widths
from protocol.exact.newton import FRACTION_BITS
from protocol.exact.sums import SiteSums
from protocol.exact.transcript import Past
from protocol.study.analysis import Family
from protocol.study.exact_analysis import ExactAnalysis, ExactSurvival, covariate_columns
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from tasks.base import Task
from tasks.query_schema import records_schema
from tasks.schema import Table

_STEPS, _TIGHT = 200, 1e-14


@dataclass(frozen=True)
class ExactContributor(QueryContributor):
    """One site's records for one exact analysis: counts with noise first, then exact sums."""

    adds: Callable[[Past], tuple[Floats, float]]
    """What follows from the sums so far -> (cells,) whole numbers, as floats, and the effective
    number of patients that they are about."""
    rows: str
    """Identifies the row set (SHA-256), at this site alone."""

    @staticmethod
    def prepared(study: Study, records: QueryRecords) -> ExactContributor:
        """Reads all that the analysis reads, before anything is debited. Raises
        WardroundError(MALFORMED_DATA)."""
        if study.exact is None or study.query is None:
            raise WardroundError(Code.INTERNAL, "The study has no exact analysis.")
        for name in covariate_columns(study.exact):
            records.values(name)
        where = study.query.where
        rows = records.first(records.truth(where).true)
        adds: Callable[[Past], tuple[Floats, float]]
        match study.exact:
            case ExactSurvival():
                adds = ExactTimes.of(study.exact, where, records).counts
            case ExactAnalysis():
                design = ExactDesign.of(study.exact, where, records)
                adds = partial(_derivatives, study.exact, design)
            case never:
                assert_never(never)
        return ExactContributor(study, records, adds, records.row_set(rows))

    def exact_sums(self, past: Past) -> npt.NDArray[np.int64]:
        """(cells,) integers at what follows from `past`. The ledger has been debited for them.
        Raises WardroundError(REVOKED) where the site ends the study."""
        least = self.study.query.least_count if self.study.query else 0
        scaled, effective = self.adds(past)
        most = (2**63 - 1) // len(self.study.roster)
        if effective < least or not np.all(np.abs(scaled) < most):
            raise WardroundError(
                Code.REVOKED,
                "This site has ended an exact analysis whose next sum would have been about few of "
                "its patients, or too large for its words.",
                remedy="It counts as one exact release. Nothing is to be done here.",
            )
        return scaled.astype(np.int64)

    def noise(self, sections: Sections, participants: int) -> npt.NDArray[np.int64]:
        """As a query's; none for an exact sum."""
        if sections.evaluate:
            return super().noise(sections, participants)
        return np.zeros(sections.length, dtype=np.int64)


def _derivatives(analysis: ExactAnalysis, design: ExactDesign, past: Past) -> tuple[Floats, float]:
    """The sums of a model at the iterate that follows from `past`, in units of 2^-fraction_bits."""
    if past.iterate is None:
        raise WardroundError(Code.INTERNAL, "The exact analysis has no iterate.")
    at = np.array([value / 2**FRACTION_BITS for value in past.iterate.at])
    match analysis.model:
        case "cox":
            widths = interval_widths(analysis, past.intervals)
            sums, weights = cox_sums(design, at, past.intervals, widths)
        case "gaussian" | "binomial" | "poisson" as family:
            sums, weights = glm_sums(family, design, at)
    squares = float(weights @ weights)
    effective = float(weights.sum()) ** 2 / squares if squares > 0 else 0.0
    return np.rint(sums.flat(analysis) * 2.0**analysis.fraction_bits), effective


def contributor_of(study: Study, task: Task, table: Table) -> QueryContributor:
    """One site's records for a query, or for the exact analysis that follows it. Raises as
    `QueryContributor.of` and `ExactContributor.prepared`."""
    schema = records_schema(task.schema, task.outcome)
    counts = QueryContributor.of(study, schema, table)
    return counts if study.exact is None else ExactContributor.prepared(study, counts.records)


def glm_sums(family: Family, design: ExactDesign, at: Floats) -> tuple[SiteSums, Floats]:
    """(P,) coefficients -> the site's part of the profile likelihood's derivatives, and (N,) the
    weights of its patients in the information. Strata in which nothing can be told from the
    intercept (nobody has the outcome, or everybody) add nothing."""
    p = len(at)
    sums = SiteSums(np.zeros(p), np.zeros((p, p)), np.zeros((p, p)), (0.0, 0.0, 0.0, 0.0))
    weights = np.zeros(len(design.outcome))
    for rows in design.strata():
        x, y, prior = design.covariates[rows], design.outcome[rows], design.weights[rows]
        rest = x @ at + design.offset[rows]
        intercept = _intercept(family, y, prior, rest)
        if intercept is None:
            continue
        mean, variance = _mean(family, rest + intercept)
        residual, weight = prior * (y - mean), prior * variance
        weights[rows] = weight
        centred = x - (weight @ x) / weight.sum()
        deviance, likelihood = _fit_of(family, y, mean, prior)
        part = (deviance, likelihood, float(len(y)), 1.0)
        scores = centred * residual[:, None]
        sums = replace(
            sums,
            gradient=sums.gradient + scores.sum(axis=0),
            information=sums.information + centred.T @ (centred * weight[:, None]),
            outer=sums.outer + scores.T @ scores,
            totals=tuple(one + other for one, other in zip(sums.totals, part, strict=True)),
        )
    return sums, weights


def _mean(family: Family, predictor: Floats) -> tuple[Floats, Floats]:
    """Mean and variance function, by the canonical link."""
    match family:
        case "binomial":
            small = np.exp(-np.abs(predictor))
            mean = np.where(predictor >= 0, 1 / (1 + small), small / (1 + small))
            return mean, small / (1 + small) ** 2
        case "poisson":
            mean = np.exp(np.clip(predictor, -700, 700))
            return mean, mean
        case "gaussian":
            return predictor, np.ones_like(predictor)
    assert_never(family)


def _intercept(family: Family, y: Floats, prior: Floats, rest: Floats) -> float | None:
    """Where the prior-weighted residuals add up to 0; None where nowhere."""
    whole, events = float(prior.sum()), float(prior @ y)
    if whole <= 0:
        return None
    match family:
        case "gaussian":
            return float(prior @ (y - rest)) / whole
        case "poisson":
            if events <= 0:
                return None
            top = float(rest.max())
            return float(np.log(events) - np.log(prior @ np.exp(rest - top)) - top)
        case "binomial":
            return _log_odds(y, prior, rest) if 0 < events < whole else None
    assert_never(family)


def _log_odds(y: Floats, prior: Floats, rest: Floats) -> float:
    """By Newton's method, kept within a bracket."""
    low, high = -float(rest.max()) - 50.0, -float(rest.min()) + 50.0
    odds = float(prior @ y) / float(prior @ (1 - y))
    guess = float(np.log(odds)) - float(prior @ rest) / float(prior.sum())
    for _ in range(_STEPS):
        mean, variance = _mean("binomial", rest + guess)
        slope, excess = float(prior @ variance), float(prior @ (y - mean))
        low, high = (guess, high) if excess > 0 else (low, guess)
        moved = guess + excess / slope if slope > 0 else np.inf
        if not low < moved < high:
            moved = (low + high) / 2
        if abs(moved - guess) <= _TIGHT * max(1.0, abs(guess)):
            break
        guess = moved
    return guess


def _fit_of(family: Family, y: Floats, mean: Floats, prior: Floats) -> tuple[float, float]:
    """Deviance, and log-likelihood (0 for gaussian, whose deviance says it)."""
    from scipy.special import gammaln, xlogy  # .1 s: not for whoever only trains

    match family:
        case "binomial":
            likelihood = float(prior @ (xlogy(y, mean) + xlogy(1 - y, 1 - mean)))
            return -2 * likelihood, likelihood
        case "poisson":
            deviance = 2 * float(prior @ (xlogy(y, y / mean) - (y - mean)))
            return deviance, float(prior @ (xlogy(y, mean) - mean - gammaln(y + 1)))
        case "gaussian":
            return float(prior @ (y - mean) ** 2), 0.0
    assert_never(family)
