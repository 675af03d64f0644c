"""Newton's method on opened integers: from one exact sum to the next iterate.

Coefficients are whole multiples of 2^-FRACTION_BITS, of covariates between -1 and 1. All is integer
arithmetic (Python's, of any length) in one order, so that every site comes to the same bits. A step
that does not lower the deviance is halved.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from protocol.errors import Code, WardroundError
from protocol.exact.linear_system import CollinearError, solve
from protocol.exact.sums import OpenedSums
from protocol.study.exact_analysis import ExactAnalysis

FRACTION_BITS = 48
CONVERGED_BITS = 33
"""A step below 2^-33 of the largest coefficient (or of 1) is the last."""
_SLACK_BITS = 36
"""Relative: what float sums of a deviance may be off by."""
Coefficients = tuple[int, ...]


@dataclass(frozen=True)
class Iterate:
    """at: where the next sum is taken. It lies `step` from `base`, whose deviance (penalised, in
    units of 2^-fraction_bits) is known; at the beginning all are 0 and none is."""

    at: Coefficients
    base: Coefficients
    step: Coefficients
    deviance: Fraction | None = None
    converged: bool = False
    sums: OpenedSums | None = None
    """The sums at the last accepted iterate."""

    @staticmethod
    def first(analysis: ExactAnalysis) -> Iterate:
        zeros = (0,) * analysis.coefficients
        return Iterate(zeros, zeros, zeros)


def advance(analysis: ExactAnalysis, iterate: Iterate, opened: OpenedSums) -> Iterate:
    """The next iterate, given the sums at `iterate.at`; once it has converged, the estimate.

    Raises WardroundError: CONFIGURATION for collinear covariates, DIVERGED where coefficients leave
    the study's range (separation), AGGREGATION for sums that no patients have.
    """
    deviance = _penalised(analysis, iterate.at, opened)
    if opened.patients < 0 or opened.groups < 0 or opened.patients % (1 << analysis.fraction_bits):
        raise WardroundError(Code.AGGREGATION, "An exact sum counts no whole number of patients.")
    slack = abs(deviance) / 2**_SLACK_BITS + 1
    if iterate.deviance is not None and deviance > iterate.deviance + slack:
        step = tuple(part // 2 for part in iterate.step)
        return Iterate(
            _moved(iterate.base, step), iterate.base, step, iterate.deviance, sums=iterate.sums
        )
    step = _newton(analysis, iterate.at, opened)
    at = _moved(iterate.at, step)
    largest = max(1 << FRACTION_BITS, *(abs(value) for value in at))
    converged = max(abs(part) for part in step) << CONVERGED_BITS <= largest
    _require_in_range(analysis, at)
    return Iterate(at, iterate.at, step, deviance, converged, opened)


def _newton(analysis: ExactAnalysis, at: Coefficients, opened: OpenedSums) -> Coefficients:
    ridge = Fraction(analysis.ridge) * 2**analysis.fraction_bits
    penalty = int(ridge)
    matrix = [
        [value + (penalty if i == j else 0) for j, value in enumerate(row)]
        for i, row in enumerate(opened.information)
    ]
    gradient = [
        slope - int(penalty * value / Fraction(2**FRACTION_BITS))
        for slope, value in zip(opened.gradient, at, strict=True)
    ]
    try:
        return solve(matrix, gradient, FRACTION_BITS)
    except CollinearError as error:
        name = analysis.names[error.column]
        raise WardroundError(
            Code.CONFIGURATION,
            f"{name} says what the terms before it say (collinearity), or nothing within the sites "
            "and strata.",
            remedy="Leave it out, or give a ridge penalty.",
        ) from None


def _penalised(analysis: ExactAnalysis, at: Coefficients, opened: OpenedSums) -> Fraction:
    squares = Fraction(sum(value * value for value in at), 4**FRACTION_BITS)
    return opened.deviance + Fraction(analysis.ridge) * squares * (1 << analysis.fraction_bits)


def _moved(base: Coefficients, step: Coefficients) -> Coefficients:
    return tuple(value + part for value, part in zip(base, step, strict=True))


def _require_in_range(analysis: ExactAnalysis, at: Coefficients) -> None:
    bound = int(Fraction(analysis.coefficient_range) * 2**FRACTION_BITS)
    for name, value in zip(analysis.names, at, strict=True):
        if abs(value) > bound:
            raise WardroundError(
                Code.DIVERGED,
                f"The coefficient of {name} leaves the study's range: patients with it all have, "
                "or all lack, the outcome (separation).",
                remedy="Join levels, leave the term out, or give a ridge penalty.",
            )


def not_converged(analysis: ExactAnalysis) -> WardroundError:
    """The error of a fit whose iterates are used up."""
    return WardroundError(
        Code.DIVERGED,
        f"The estimates did not settle in {analysis.iterates} iterates (separation, or too few).",
        remedy="Join levels, leave out terms, or give a ridge penalty; more iterates cost more "
        "exact releases.",
    )
