"""The sum of one iterate: derivatives of the log-likelihood, as integers in a fixed order.

    [gradient (P,) | information, lower triangle | outer products of scores, likewise | totals]

in units of 2^-fraction_bits. Totals: deviance (of Cox's model -2 log partial likelihood),
log-likelihood, patients, groups (`exact_analysis.TOTALS`), and what says how well Cox's model
orders and foretells (`exact_analysis.COX_TOTALS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocol.study.exact_analysis import ExactAnalysis

Floats = npt.NDArray[np.float64]
PAIRS = 2.0**20
"""Pairs of patients are summed in millions or so: a site of a million patients has 10^12 of them.
"""


@dataclass(frozen=True)
class SiteSums:
    """What one site adds, as floats: gradient (P,), information (P, P), outer products of patients'
    scores (P, P), totals in the order of the analysis's."""

    gradient: Floats
    information: Floats
    outer: Floats
    totals: tuple[float, ...]

    def flat(self, analysis: ExactAnalysis) -> Floats:
        """(cells,)."""
        lower = np.tril_indices(analysis.coefficients)
        return np.concatenate(
            [self.gradient, self.information[lower], self.outer[lower], np.array(self.totals)]
        )


@dataclass(frozen=True)
class OpenedSums:
    """The sum over all sites, in integers of 2^-fraction_bits; matrices as (P, P) lists."""

    gradient: tuple[int, ...]
    information: tuple[tuple[int, ...], ...]
    outer: tuple[tuple[int, ...], ...]
    deviance: int
    log_likelihood: int
    patients: int
    groups: int
    concordant: int = 0
    pairs: int = 0
    errors: int = 0
    errors_without: int = 0

    @staticmethod
    def read(analysis: ExactAnalysis, total: Sequence[int]) -> OpenedSums:
        """(cells,) opened integers -> their meaning."""
        p, triangle = analysis.coefficients, analysis.triangle
        gradient, rest = total[:p], total[p:]
        information, rest = _square(rest[:triangle], p), rest[triangle:]
        outer, rest = _square(rest[:triangle], p), rest[triangle:]
        return OpenedSums(tuple(gradient), information, outer, *rest)


def _square(lower: Sequence[int], p: int) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(lower[max(i, j) * (max(i, j) + 1) // 2 + min(i, j)] for j in range(p))
        for i in range(p)
    )
