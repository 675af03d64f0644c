"""Exact analyses without sites: models of generated covariates, and sums as sites make them."""

from __future__ import annotations

from typing import Any

import numpy as np

from client.cohorts.exact_design import ExactDesign
from client.cohorts.exact_sums import glm_sums
from protocol.exact.newton import FRACTION_BITS, Iterate
from protocol.exact.sums import OpenedSums
from protocol.study.condition import Comparison
from protocol.study.exact_analysis import ConditionOutcome, ExactAnalysis, NumberCovariate
from protocol.study.query import ConditionAxis


def logistic(covariates: int, **changes: Any) -> ExactAnalysis:
    """A logistic model of so many number columns between -1 and 1."""
    condition = Comparison(column="y", order="=", value=1.0)
    fields: dict[str, Any] = {
        "model": "binomial",
        "outcome": ConditionOutcome(axis=ConditionAxis(condition=condition)),
        "covariates": tuple(
            NumberCovariate(column=f"x{at}", low=-1.0, high=1.0) for at in range(covariates)
        ),
        "terms": tuple((at,) for at in range(covariates)),
        "fraction_bits": 44,
    }
    return ExactAnalysis(**(fields | changes))


def design(x: np.ndarray, y: np.ndarray) -> ExactDesign:
    nothing = np.zeros(len(y), np.int64)
    return ExactDesign(x, y, nothing, nothing, np.zeros(len(y)), np.ones(len(y)))


def opened(analysis: ExactAnalysis, sites: list[ExactDesign], iterate: Iterate) -> OpenedSums:
    """What these sites add up to at an iterate."""
    at = np.array([value / 2**FRACTION_BITS for value in iterate.at])
    scaled = [
        np.rint(glm_sums("binomial", one, at)[0].flat(analysis) * 2.0**analysis.fraction_bits)
        for one in sites
    ]
    total = np.sum([one.astype(np.int64) for one in scaled], axis=0)
    return OpenedSums.read(analysis, [int(value) for value in total])
