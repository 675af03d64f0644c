"""What a query's answers say about their own uncertainty, on opened sums made here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protocol.metrics.query_answers import answers
from protocol.privacy.query_noise import pooled_noise
from protocol.study.study import Study
from tests.protocol.query_document import asked

SITES, RUNS = 4, 300
EDGES = [float(edge) for edge in np.linspace(30, 80, 33)]


def opened(study: Study, counts: np.ndarray, generator: np.random.Generator) -> Any:
    """Whole counts with the noise that the sites' shares add up to."""
    values, chances = pooled_noise(study, SITES)
    scale = study.evaluation.scale
    noise = generator.choice(values, size=len(counts), p=chances / chances.sum()) * scale
    return (counts * scale + noise).astype(np.int64)


@pytest.mark.slow
@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("quantile", [0.25, 0.5, 0.75])
def test_intervals_of_quantiles_of_whole_numbers_hold_them(quantile: float, outside: bool) -> None:
    """Ages in whole years: the truth is at the edge of what a bin holds, not in its middle."""
    generator = np.random.default_rng(5)
    axis = {"kind": "bins", "column": "age", "edges": EDGES, "outside": outside}
    of: dict[str, Any] = {"kind": "cells", "name": "age", "axes": [axis], "quantiles": [quantile]}
    study = asked({"statistics": [of]})
    held: list[bool] = []
    for _ in range(RUNS):
        age = np.clip(np.round(generator.normal(54, 9, 900)), 30, 79)
        counts = np.histogram(age, EDGES)[0]
        counts = np.array([0, *counts, 0, 0] if outside else [*counts, 0])
        (answer,) = answers(study, opened(study, counts, generator), SITES)
        found = answer.derived[f"q{100 * quantile:g}"]
        held.append(bool(found.low <= np.quantile(age, quantile) <= found.high))
    assert np.mean(held) >= 0.93
