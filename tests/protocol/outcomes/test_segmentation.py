"""Masks: overlaps as others compute them, sums that bound one patient, and intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as exact

from protocol.outcomes.segmentation import UNKNOWN, Segmentation

KIND = Segmentation(classes=3, rows=12, columns=10)
Masks = npt.NDArray[np.uint8]


def masks(seed: int, count: int = 300) -> tuple[npt.NDArray[np.float32], Masks]:
    """What a model says and what is so: bands of varied height, the model's a row off at times."""
    rng = np.random.default_rng(seed)
    rows = np.arange(12)[:, None]
    top, off = rng.integers(1, 6, count), rng.integers(-1, 2, count)
    own = np.stack([np.broadcast_to((rows < t) + 2 * (rows > t + 3), (12, 10)) for t in top])
    said = np.stack([np.roll(one, o, axis=0) for one, o in zip(own, off, strict=True)])
    return said.astype(np.float32), own.astype(np.uint8)


def test_overlaps_are_those_of_scikit_learn() -> None:
    said, own = masks(0, 20)
    there, dice, jaccard = KIND.overlaps(said, own)
    assert there.all()
    for row in range(20):
        for k in (1, 2):
            a, b = (own[row] == k).ravel(), (said[row] == k).ravel()
            assert dice[row, k - 1] == pytest.approx(exact.f1_score(a, b))
            assert jaccard[row, k - 1] == pytest.approx(exact.jaccard_score(a, b))


def test_exact_sums_give_the_means_of_all_patients() -> None:
    said, own = masks(1)
    found = KIND.pooled(KIND.counts(said, own, 2).astype(np.float64), 2)
    _, dice, jaccard = KIND.overlaps(said, own)
    expected = {"dice": dice.mean(), "jaccard": jaccard.mean(), "dice_2": dice[:, 1].mean()}
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-3)
        assert found[name].low < value < found[name].high
    assert list(found) == list(KIND.metrics)
    own_figures = KIND.figures_of(said, own)
    assert own_figures == pytest.approx({k: expected[k] for k in ("dice", "jaccard")})


def test_a_structure_that_neither_has_counts_nowhere_and_one_imagined_counts_nothing() -> None:
    """Others print 1, 0 or NaN for both."""
    own = np.zeros((3, 12, 10), np.uint8)
    own[0, :4], said = 1, np.zeros((3, 12, 10), np.float32)
    said[0, :4], said[1, :2] = 1, 1
    there, dice, _ = KIND.overlaps(said, own)
    assert there[:, 0].tolist() == [1, 1, 0]
    assert dice[:, 0].tolist() == [1, 0, 0]
    found = KIND.pooled(KIND.counts(said, own, 2).astype(np.float64), 2)
    assert found["dice_1"].value == 0.5
    assert {"dice", "dice_2"}.isdisjoint(found)


def test_pixels_of_which_nobody_said_anything_count_nowhere() -> None:
    said, own = masks(2, 5)
    hidden, wrong = own.copy(), said.copy()
    hidden[:, 5:] = UNKNOWN
    wrong[:, 5:] = 2
    assert np.array_equal(KIND.counts(said, hidden, 2), KIND.counts(wrong, hidden, 2))
    assert KIND.missing(np.full((2, 12, 10), UNKNOWN, np.uint8)).all()
    assert not KIND.missing(hidden).any()


@given(
    arrays(np.uint8, (4, 12, 10), elements=st.sampled_from([0, 1, 2, UNKNOWN])),
    arrays(np.float32, (4, 12, 10), elements=st.sampled_from([0, 1, 2, np.nan, np.inf])),
)
def test_whatever_masks_say_one_patient_adds_what_is_stated(
    own: Masks, said: npt.NDArray[np.float32]
) -> None:
    with_, without = (KIND.counts(said[:n], own[:n], 2) for n in (4, 3))
    added = with_ - without
    assert (added >= 0).all()
    assert int((added**2).sum()) <= KIND.squared_sensitivity
    assert int(added.sum()) <= KIND.added
    assert int(added.max()) <= KIND.largest


def test_a_model_that_is_always_right_adds_all_that_is_stated() -> None:
    own = np.tile(np.arange(10, dtype=np.uint8) % 3, (1, 12, 1))
    added = KIND.counts(own.astype(np.float32), own, 2)
    assert int((added**2).sum()) == KIND.squared_sensitivity
    assert int(added.sum()) == KIND.added


def test_bad_masks_are_found_and_a_class_never_seen_is_said() -> None:
    own = masks(0, 3)[1].copy()
    own[1, 0, 0] = 7
    bad, what = KIND.bad(own)
    assert bad.tolist() == [False, True, False]
    assert "7" not in what
    assert KIND.doubts(own[[0]]) == []
    assert KIND.doubts(np.where(own == 2, 0, own)[[0]])[0].startswith("No mask has the class 2")


def test_a_table_says_how_large_each_structure_is() -> None:
    said, _ = masks(0, 4)
    areas = KIND.in_columns(said)
    assert areas.shape == (4, len(KIND.score_columns))
    assert areas[:, 0] == pytest.approx((said == 1).mean(axis=(1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_intervals_hold_the_mean_of_the_population(noise: float) -> None:
    said, own = masks(3, 4000)
    true = KIND.figures_of(said, own)
    rng, deviation = np.random.default_rng(0), noise * KIND.sensitivity
    held = []
    for run in range(300):
        drawn = rng.integers(len(own), size=200)
        counts = KIND.counts(said[drawn], own[drawn], 2).astype(np.float64)
        opened = counts + rng.normal(0, deviation, counts.shape)
        found = KIND.pooled(opened, 2, deviation**2, run)
        held.append([found[name].low <= true[name] <= found[name].high for name in true])
    assert np.mean(held, axis=0).min() > 0.91
