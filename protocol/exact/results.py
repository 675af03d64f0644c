"""What an exact analysis came to, as tables: from the last opened sums to standard errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from protocol.errors import Code, WardroundError
from protocol.exact.curves import curve_tables
from protocol.exact.least_counts import interval_labels
from protocol.exact.newton import FRACTION_BITS
from protocol.exact.sums import OpenedSums
from protocol.exact.transcript import Past
from protocol.statistics.regression_tables import EVENTS_PER_COEFFICIENT
from protocol.statistics.results import AnalysisResult, Figure, ResultRow, ResultTable
from protocol.study.exact_analysis import (
    ConditionOutcome,
    ExactAnalysis,
    ExactModel,
    ExactSurvival,
    NumberOutcome,
    TimeOutcome,
    honest,
)
from protocol.study.study import Study

Floats = npt.NDArray[np.float64]
_Z = 1.959963984540054
_EFFECT: dict[ExactModel, str] = {
    "binomial": "odds ratio",
    "gaussian": "difference",
    "poisson": "rate ratio",
    "cox": "hazard ratio",
}


@dataclass(frozen=True)
class ExactFit:
    """In the columns' own units: coefficients, errors, robust errors ((P,) each), dispersion,
    deviance and AIC (None where weights leave none). groups: intercepts, or events."""

    coefficients: Floats
    errors: Floats
    robust: Floats
    dispersion: float
    deviance: float
    aic: float | None
    patients: int
    groups: int


def exact_fit(analysis: ExactAnalysis, past: Past) -> ExactFit:
    """Of a past that has converged. Raises WardroundError(INTERNAL) for another."""
    iterate = past.iterate
    if iterate is None or iterate.sums is None or not iterate.converged:
        raise WardroundError(Code.INTERNAL, "The exact analysis has not converged.")
    opened, unit = iterate.sums, 2.0**-analysis.fraction_bits
    p, scales = analysis.coefficients, np.array(analysis.scales)
    stretch = 1.0
    if analysis.model == "gaussian" and isinstance(analysis.outcome, NumberOutcome):
        stretch = analysis.outcome.unit
    bread = _inverse(np.array(opened.information, float) * unit + analysis.ridge * np.eye(p))
    patients, groups = round(opened.patients * unit), round(opened.groups * unit)
    deviance = opened.deviance * unit
    dispersion = 1.0
    if analysis.model == "gaussian":
        dispersion = deviance / max(1, patients - p - groups)
    units = stretch / scales
    outer = np.array(opened.outer, float) * unit
    return ExactFit(
        np.array([value / 2**FRACTION_BITS for value in iterate.at]) * units,
        np.sqrt(np.diag(bread) * dispersion) * units,
        np.sqrt(np.diag(bread @ outer @ bread)) * units,
        dispersion * stretch**2,
        deviance * stretch**2,
        _aic(analysis, opened, stretch, patients, groups),
        patients,
        groups,
    )


def _inverse(matrix: Floats) -> Floats:
    scale = np.sqrt(np.diag(matrix))
    return np.asarray(np.linalg.inv(matrix / np.outer(scale, scale)) / np.outer(scale, scale))


def _aic(
    analysis: ExactAnalysis, opened: OpenedSums, stretch: float, patients: int, groups: int
) -> float | None:
    """-2 log-likelihood and twice the number of coefficients and intercepts."""
    unit, p = 2.0**-analysis.fraction_bits, analysis.coefficients
    if analysis.model == "cox":
        return -2 * opened.log_likelihood * unit + 2 * p
    if analysis.model != "gaussian":
        return -2 * opened.log_likelihood * unit + 2 * (p + groups)
    deviance = opened.deviance * unit * stretch**2
    if analysis.weights is not None or not deviance > 0:
        return None
    return patients * (math.log(2 * math.pi * deviance / patients) + 1) + 2 * (p + groups)


def exact_tables(study: Study, past: Past) -> AnalysisResult:
    """What the study's exact analysis came to."""
    match study.exact:
        case None:
            raise WardroundError(Code.INTERNAL, "The study has no exact analysis.")
        case ExactSurvival():
            return curve_tables(study, study.exact, past)
        case ExactAnalysis():
            return _model_tables(study, study.exact, past)
    assert_never(study.exact)


def _model_tables(study: Study, analysis: ExactAnalysis, past: Past) -> AnalysisResult:
    """Coefficients with intervals, and what the model says of itself."""
    found = exact_fit(analysis, past)
    shown = ResultTable(
        "Coefficients",
        (
            _EFFECT[analysis.model],
            *("coefficient", "standard error", "robust standard error", "z", "p"),
        ),
        tuple(_rows(analysis, found)),
        "forest",
    )
    groups = "events" if analysis.model == "cox" else "intercepts kept at the sites"
    numbers: list[tuple[str, float | None]] = [
        ("patients", float(found.patients)),
        (groups, float(found.groups)),
        ("exact sums", float(past.rounds - 1)),
        ("-2 log partial likelihood" if analysis.model == "cox" else "deviance", found.deviance),
        ("AIC", found.aic),
    ]
    if analysis.model == "gaussian":
        numbers.append(("dispersion", found.dispersion))
    if analysis.model == "cox":
        numbers += _foretold(analysis, past)
    about = tuple(
        ResultRow(label, (Figure(value) if value is not None else "not with weights",))
        for label, value in numbers
    )
    return AnalysisResult(
        (shown, ResultTable("Model", ("figure",), about)),
        tuple(_notes(study, analysis, past, found)),
    )


def _foretold(analysis: ExactAnalysis, past: Past) -> Iterator[tuple[str, float]]:
    """How well Cox's model orders and foretells the patients that it was fitted to."""
    if past.iterate is None or (sums := past.iterate.sums) is None:
        raise WardroundError(Code.INTERNAL, "The exact analysis has not converged.")
    if sums.pairs > 0:
        yield "concordance, within sites and strata", sums.concordant / sums.pairs
    patients = max(sums.patients, 1)
    yield "integrated Brier score", sums.errors / patients
    yield "the same of Kaplan-Meier curves without covariates", sums.errors_without / patients


def _rows(analysis: ExactAnalysis, found: ExactFit) -> Iterator[ResultRow]:
    from scipy.special import ndtr  # .1 s: not for whoever only trains

    for at, name in enumerate(analysis.names):
        beta, error = float(found.coefficients[at]), float(found.errors[at])
        ends = np.array([beta, beta - _Z * error, beta + _Z * error])
        ratio = np.exp(np.clip(ends, -50, 50)) if analysis.model != "gaussian" else ends
        z = beta / max(error, 1e-300)
        numbers = (error, float(found.robust[at]), z, float(2 * ndtr(-abs(z))))
        cells = (Figure(*map(float, ratio)), Figure(*map(float, ends)), *map(Figure, numbers))
        yield ResultRow(name, cells)


def _notes(study: Study, analysis: ExactAnalysis, past: Past, found: ExactFit) -> Iterator[str]:
    yield honest(analysis)
    yield (
        "Standard errors, intervals (95%) and p-values are of the partial likelihood; robust ones "
        "(Lin and Wei 1989) also hold where hazards are not proportional, or weights are of a "
        "sample."
        if analysis.model == "cox"
        else "Standard errors, intervals (95%) and p-values are of the model; robust ones (HC0, "
        "White 1980) also hold where it is wrong."
    )
    if analysis.ridge:
        yield (
            f"A ridge penalty of {analysis.ridge:g} draws coefficients to 0: intervals are around "
            "the penalised values."
        )
    events = None
    match analysis.outcome:
        case TimeOutcome():
            events = float(found.groups)
            ends = ", ".join(
                f"{end:g}" for end in interval_labels(analysis.outcome.time, past.intervals)
            )
            yield (
                f"Baseline hazards of each site and stratum apart; ties within intervals that end "
                f"at {ends} (Breslow)."
            )
            yield (
                "Concordance and Brier score are of the patients to whom the model was fitted, and "
                "flatter it; each patient counts once, weighted for censoring (Graf 1999)."
            )
        case ConditionOutcome():
            if study.query is not None:
                rare = np.array(past.counts[study.query.slices[1]])[:2] / study.evaluation.scale
                events = float(rare.min())
        case NumberOutcome():
            pass
    if events is not None and events < EVENTS_PER_COEFFICIENT * analysis.coefficients:
        yield (
            f"About {max(events, 0):.0f} events for {analysis.coefficients} coefficients: more "
            "parameters than events allow. Leave out terms or join levels."
        )
