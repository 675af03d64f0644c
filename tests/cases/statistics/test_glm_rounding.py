"""The prototype of a federated logistic regression by Newton's steps: sums of X'WX and X'(y-p),
rounded as the masked sum of 64-bit words needs it, give the pooled fit, standard errors included.

It says what a regression of the product has to reach: below 1e-8 of the pooled fit.
"""

from __future__ import annotations

import pytest

from tests.cases.statistics.prototypes.glm_rounding import WANTED, Fit, errors, irls, patients


@pytest.fixture(scope="module")
def pooled() -> Fit:
    return irls(*patients(), None)


@pytest.mark.parametrize("bits", [30, 40])
def test_30_bits_after_the_point_and_more_give_the_pooled_fit(pooled: Fit, bits: int) -> None:
    assert max(errors(irls(*patients(), bits), pooled)) < WANTED


@pytest.mark.parametrize(("bits", "most"), [(16, 3.6e-6), (20, 1.9e-7), (30, 7e-11), (40, 1e-12)])
def test_coefficients_are_as_close_as_the_table_says(pooled: Fit, bits: int, most: float) -> None:
    """At 40 bits nothing but the processor's own rounding is left, which differs by machine."""
    assert errors(irls(*patients(), bits), pooled)[0] < most
