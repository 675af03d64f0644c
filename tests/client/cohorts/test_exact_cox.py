"""What a site adds to an exact Cox model, against the definitions, patient by patient."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.cohorts.exact_cox import cox_sums
from client.cohorts.exact_design import ExactDesign
from protocol.exact.sums import PAIRS

JOINED, WIDTHS = (0, 0, 1, 2), np.array([0.5, 0.2, 0.3])
AT = np.array([0.7, -0.4])


def drawn(seed: int, n: int = 40) -> ExactDesign:
    """Some have times before the first interval or beyond the last, some the same covariates."""
    generator = np.random.default_rng(seed)
    return ExactDesign(
        covariates=generator.integers(-2, 3, (n, 2)) / 2,
        outcome=generator.integers(0, 2, n).astype(float),
        interval=generator.integers(-1, 5, n),
        stratum=generator.integers(0, 2, n),
        offset=generator.integers(0, 2, n) / 4,
        weights=generator.integers(0, 4, n).astype(float),
    )


def taken(of: ExactDesign, rows: np.ndarray) -> ExactDesign:
    return ExactDesign(*(getattr(of, name)[rows] for name in ExactDesign.__dataclass_fields__))


def unweighted(of: ExactDesign) -> ExactDesign:
    return ExactDesign(
        of.covariates, of.outcome, of.interval, of.stratum, of.offset, np.ones(len(of.outcome))
    )


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_weight_of_three_is_three_patients(seed: int) -> None:
    design = drawn(seed)
    rows = np.repeat(np.arange(len(design.outcome)), design.weights.astype(int))
    repeated = unweighted(taken(design, rows))
    (sums, hazards), (wanted, each) = (
        cox_sums(of, AT, JOINED, WIDTHS) for of in (design, repeated)
    )
    assert sums.gradient == pytest.approx(wanted.gradient, abs=1e-9)
    assert sums.information == pytest.approx(wanted.information, abs=1e-9)
    assert sums.totals[:2] == pytest.approx(wanted.totals[:2], abs=1e-9)
    assert hazards.sum() == pytest.approx(each.sum())


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_scores_information_and_residuals_are_those_of_the_definitions(seed: int) -> None:
    """The sums over risk sets, one event after the other (Lin and Wei 1989, section 2)."""
    design = drawn(seed)
    sums, _ = cox_sums(design, AT, JOINED, WIDTHS)
    places = np.append(np.array(JOINED), 3)
    gradient, information, outer, likelihood = np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2)), 0.0
    for stratum in (0, 1):
        rows = (design.stratum == stratum) & (design.interval >= 0) & (design.weights > 0)
        of = taken(design, rows)
        place, x, w = places[of.interval], of.covariates, of.weights
        eta = x @ AT + of.offset
        residuals = np.zeros((len(place), 2))
        for i in range(len(place)):
            if not (of.outcome[i] > 0 and place[i] < 3):
                continue
            risk = place >= place[i]
            hazard = w * np.exp(eta) * risk
            mean = hazard @ x / hazard.sum()
            gradient += w[i] * (x[i] - mean)
            information += w[i] * ((x.T * hazard) @ x / hazard.sum() - np.outer(mean, mean))
            likelihood += w[i] * (eta[i] - math.log(hazard.sum()))
            residuals[i] += w[i] * (x[i] - mean)
            residuals -= w[i] * (hazard / hazard.sum())[:, None] * (x - mean)
        outer += residuals.T @ residuals
    assert sums.gradient == pytest.approx(gradient, abs=1e-9)
    assert sums.information == pytest.approx(information, abs=1e-9)
    assert sums.outer == pytest.approx(outer, abs=1e-9)
    assert sums.totals[1] == pytest.approx(likelihood, abs=1e-9)


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_pairs_are_counted_within_strata_and_ties_half(seed: int) -> None:
    design = unweighted(drawn(seed))
    right = pairs = 0.0
    places = np.append(np.array(JOINED), 3)
    risk = design.covariates @ AT + design.offset
    for i, j in product(range(len(risk)), repeat=2):
        if (
            design.stratum[i] != design.stratum[j]
            or min(design.interval[i], design.interval[j]) < 0
        ):
            continue
        one, other = places[design.interval[i]], places[design.interval[j]]
        dies = design.outcome[i] > 0 and one < 3
        if dies and (other > one or (other == one and not design.outcome[j] > 0)):
            pairs += 1
            right += 0.5 if abs(risk[i] - risk[j]) < 1e-9 else float(risk[i] > risk[j])
    sums, _ = cox_sums(design, AT, JOINED, WIDTHS)
    assert np.array(sums.totals[4:6]) * PAIRS == pytest.approx([right, pairs])


def test_equal_risks_are_half_a_pair_though_their_last_bits_differ() -> None:
    """Risks of .3 and of .1 + .2, which is .3 but for rounding: who of them has the event is one
    pair with the other, half of it right. Whoever has the same event in the same interval is none.
    """
    risk = np.array([0.3, 0.1 + 0.2, 0.1 + 0.2, 0.1, 0.5, 0.3])
    nothing = np.zeros(6)
    assert risk[0] != risk[1]
    design = ExactDesign(
        covariates=np.stack([risk, nothing], axis=1),
        outcome=np.array([1.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
        interval=np.array([0, 4, 0, 2, 4, 1]),
        stratum=nothing.astype(int),
        offset=nothing,
        weights=nothing + 1,
    )
    sums, _ = cox_sums(design, np.array([1.0, 0.0]), JOINED, WIDTHS)
    right, pairs = np.array(sums.totals[4:6]) * PAIRS
    # Each of the two events (both in the first joined interval): .1 right, .5 wrong, two ties.
    assert (right, pairs) == pytest.approx((2 * (1 + 0.5 + 0.5), 2 * 4))


def test_squared_errors_without_censoring_are_those_of_the_curve() -> None:
    """Ten patients, no covariate that matters: 5 die in the first interval, 3 in the second, 2
    never. Survival is .5, .2, .2; the squared error at each end is its S (1 - S)."""
    nothing = np.zeros(10)
    design = ExactDesign(
        covariates=np.zeros((10, 2)),
        outcome=np.array([1.0] * 8 + [0.0] * 2),
        interval=np.array([0] * 5 + [2] * 3 + [4] * 2),
        stratum=nothing.astype(int),
        offset=nothing,
        weights=nothing + 1,
    )
    sums, _ = cox_sums(design, np.zeros(2), JOINED, WIDTHS)
    wanted = 10 * (0.5 * 0.25 + 0.2 * 0.16 + 0.3 * 0.16)
    assert sums.totals[7] == pytest.approx(wanted)
    breslow = np.exp(-np.cumsum([0.5, 0.6, 0.0]))
    dead = np.array([0.5, 0.8, 0.8])
    errors = 10 * (dead * breslow**2 + (1 - dead) * (1 - breslow) ** 2)
    assert sums.totals[6] == pytest.approx(float(errors @ WIDTHS))


def test_those_who_are_followed_stand_for_those_who_left() -> None:
    """Of ten, 4 leave in the first interval and 6 are followed to the end, of whom 3 die in the
    second: each of these weighs 10/6 there (Graf 1999)."""
    nothing = np.zeros(10)
    design = ExactDesign(
        covariates=np.zeros((10, 2)),
        outcome=np.array([0.0] * 4 + [1.0] * 3 + [0.0] * 3),
        interval=np.array([0] * 4 + [2] * 3 + [4] * 3),
        stratum=nothing.astype(int),
        offset=nothing,
        weights=nothing + 1,
    )
    sums, _ = cox_sums(design, np.zeros(2), JOINED, WIDTHS)
    assert sums.totals[7] == pytest.approx((0.2 + 0.3) * 6 * 0.25 * 10 / 6)
