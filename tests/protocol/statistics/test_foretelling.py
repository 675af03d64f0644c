"""Concordance and Brier score of a table are those of its patients, and intervals know of noise."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.statistics.foretelling import brier, concordance, foretold
from protocol.statistics.noised_table import NoisedTable

PREDICTOR, BASELINE = np.array([-0.5, 0.0, 0.0, 0.8]), np.log(np.array([0.2, 0.3, 0.25]))
WIDTHS, JOINED = np.array([0.2, 0.3, 0.5]), (1, 2, 1)


def followed(seed: int, n: int) -> np.ndarray:
    """(4, 2, 4) of patients from the model, a part of whom depart early."""
    generator = np.random.default_rng(seed)
    row = generator.integers(0, 4, n)
    hazards = np.exp(PREDICTOR[row, None] + BASELINE)
    dies = generator.random((n, 3)) < 1 - np.exp(-hazards)
    death = np.where(dies.any(axis=1), dies.argmax(axis=1), 3)
    left = np.where(generator.random(n) < 0.4, generator.integers(0, 3, n), 3)
    cells = np.zeros((4, 2, 4))
    died = (death <= left) & (death < 3)
    np.add.at(cells, (row, np.where(died, 0, 1), np.minimum(death, left)), 1)
    return cells


def patients(cells: np.ndarray) -> list[tuple[int, int, int]]:
    """Combination, 0 where the event came, interval."""
    each = (np.repeat([place], int(count), axis=0) for place, count in np.ndenumerate(cells))
    return [(int(c), int(d), int(j)) for c, d, j in np.concatenate(list(each)).tolist()]


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_concordance_is_that_of_the_pairs(seed: int) -> None:
    cells, right, pairs = followed(seed, 60), 0.0, 0
    for (one, gone, at), (other, left, then) in product(patients(cells), repeat=2):
        if gone == 0 and at < 3 and (then > at or (then == at and left == 1)):
            pairs += 1
            lead = PREDICTOR[one] - PREDICTOR[other]
            right += 0.5 if lead == 0 else float(lead > 0)
    assert float(concordance(PREDICTOR, cells)) == pytest.approx(right / pairs)


def test_the_brier_score_is_that_of_the_patients() -> None:
    cells = followed(1, 400)
    stated = np.exp(-np.cumsum(np.exp(PREDICTOR[:, None] + BASELINE), axis=1))
    each, stays = patients(cells), [1.0]
    for j in range(3):
        here = sum(then > j or (then == j and left == 1) for _, left, then in each)
        gone = sum(then == j and left == 1 for _, left, then in each)
        stays.append(stays[-1] * (1 - gone / here))
    total = 0.0
    for row, left, then in each:
        for j, width in enumerate(WIDTHS):
            if then > j:
                total += width * (1 - stated[row, j]) ** 2 / stays[j + 1]
            elif left == 0:
                total += width * stated[row, j] ** 2 / stays[then]
    assert float(brier(stated, cells, WIDTHS)) == pytest.approx(total / 400)


def test_intervals_hold_the_figures_of_the_model() -> None:
    """Of 60 noised tables, the 95% intervals leave out the figures of a very large one in few."""
    truth = foretold(PREDICTOR, BASELINE, followed(0, 10**6), JOINED, WIDTHS, _table(np.zeros(1)))
    values = np.arange(-12.0, 13.0)
    noise, generator = _table(values), np.random.default_rng(5)
    held = []
    for seed in range(60):
        cells = followed(seed, 1500)
        for place, added in enumerate((*JOINED, 1)):
            cells[..., place] += noise.noise(generator, (4, 2, added)).sum(axis=-1)
        found = foretold(PREDICTOR, BASELINE, cells, JOINED, WIDTHS, noise)
        for name, of in found.items():
            low, value, high = (0.0 if end is None else end for end in (of.low, of.value, of.high))
            assert low < value < high
            held.append(low <= (truth[name].value or 0.0) <= high)
    assert len(held) == 180
    assert np.mean(held) > 0.88


def _table(values: np.ndarray) -> NoisedTable:
    return NoisedTable((), np.zeros(0), values, np.exp(-np.abs(values) / 3), 10)
