"""Times to an event: labels of follow-up, and figures that agree with a count of pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.outcomes.time_to_event import TimeToEvent

KIND = TimeToEvent(ends=(10, 20, 50))
NAN = np.nan


def test_labels_say_what_was_survived_and_whether_the_event_came() -> None:
    follow_up = {
        (0, 1): 1,  # at once
        (10, 1): 1,  # at an interval's end: within it
        (10.1, 1): 3,
        (50, 1): 5,
        (50.1, 1): 6,  # after the last interval: it counts as none
        (0, 0): 0,  # never followed
        (4.9, 0): 0,
        (5, 0): 2,  # half an interval counts as one
        (34.9, 0): 4,
        (35, 0): 6,
        (900, 0): 6,
        (NAN, 1): NAN,
        (4, NAN): NAN,
    }
    columns = np.array(list(follow_up), dtype=np.float64)
    assert not KIND.bad(columns)[0].any()
    assert np.array_equal(KIND.labels_of(columns), list(follow_up.values()), equal_nan=True)


def test_follow_up_that_cannot_be_is_bad() -> None:
    columns = np.array([[-1.0, 1], [np.inf, 0], [3, 2], [3, 0.5], [3, 1]])
    assert KIND.bad(columns)[0].tolist() == [True, True, True, True, False]


def test_a_site_hears_of_times_in_another_unit() -> None:
    assert KIND.doubts(np.array([[1.0, 0], [2, 0]])) == ["No row has the event: is the view right?"]
    (late,) = KIND.doubts(np.array([[300.0, 1], [20, 1], [3, 0]]))
    assert late.startswith("50.0% of the events come after 50")
    assert KIND.doubts(np.array([[0.3, 1], [0.2, 1]])) == [
        "Every event is in the first interval: is the unit right?"
    ]
    assert KIND.doubts(np.array([[3.0, 1], [30, 1]])) == []


def followed(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) survival by a model that knows something, and labels, a third of them censored."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(0, 1, count)
    hazard = 1 / (1 + np.exp(2 - risk[:, None] - np.array([0.0, 0.3, 0.5])))
    came = rng.random((count, 3)) < hazard
    first = np.where(came.any(axis=1), came.argmax(axis=1), 3)
    censored = np.where(rng.random(count) < 0.5, rng.integers(0, 4, count), 3)
    event = (first < censored) & (first < 3)
    return np.cumprod(1 - hazard, axis=1), 2.0 * np.where(event, first, censored) + event


def by_pairs(risk: np.ndarray, labels: np.ndarray) -> float:
    """Harrell's concordance, pair by pair."""
    survived, event = labels // 2, labels % 2 == 1
    right = pairs = 0.0
    for i in np.flatnonzero(event):
        for j in np.flatnonzero(survived > survived[i]):
            pairs += 1
            right += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    return right / pairs


@given(st.integers(0, 1000))
def test_concordance_is_that_of_the_pairs(seed: int) -> None:
    scores, labels = followed(seed, 40)
    if (labels % 2 == 1).any() and (labels >= 2).any():
        own = KIND.figures_of(scores, labels)["concordance"]
        assert own == pytest.approx(by_pairs(1 - scores[:, -1], labels), nan_ok=True)


def graf(scores: np.ndarray, labels: np.ndarray) -> float:
    """The integrated Brier score, patient by patient (Graf 1999), with Kaplan and Meier's estimate
    of being followed."""
    survived, event = (labels // 2).astype(int), labels % 2 == 1
    followed_until = [1.0]
    for k in range(4):
        here = np.sum(survived >= k)
        left = np.sum((survived == k) & ~event)
        followed_until.append(followed_until[-1] * (1 - left / here if here else 1))
    total = 0.0
    for score, last, came in zip(scores, survived, event, strict=True):
        for k, width in enumerate(KIND.widths):
            if last > k:
                total += width * (1 - score[k]) ** 2 / followed_until[k + 1]
            elif came:
                total += width * score[k] ** 2 / followed_until[last + 1]
    return total / len(labels)


def test_the_integrated_brier_score_is_that_of_the_patients() -> None:
    scores, labels = followed(0, 600)
    counts = KIND.counts(scores, labels, 64).astype(np.float64)
    found = KIND.pooled(counts, 64)
    expected = graf(scores, labels)
    assert found["integrated_brier"].value == pytest.approx(expected, abs=1e-3)
    assert found["integrated_brier"].low < expected < found["integrated_brier"].high
    risk = 1 - scores[:, -1]
    assert found["concordance"].value == pytest.approx(by_pairs(risk, labels), abs=0.01)
    assert list(found) == list(KIND.metrics)


@pytest.mark.parametrize("kind", [KIND, TimeToEvent(ends=tuple(range(1, 9)))], ids=repr)
def test_patients_who_are_never_right_add_all_that_is_stated(kind: TimeToEvent) -> None:
    """The event in some interval, or none, where the model was sure of the contrary in each."""
    every = np.arange(kind.intervals)
    wrong = [((every >= j).astype(float), 2 * int(j) + 1) for j in every]
    wrong.append((np.zeros(kind.intervals), 2 * kind.intervals))
    each = [kind.counts(scores[None], np.array([code]), 8) for scores, code in wrong]
    assert max(int((added**2).sum()) for added in each) == kind.squared_sensitivity
    assert max(int(added.sum()) for added in each) == kind.added
    assert max(int(added.max()) for added in each) == kind.largest


def test_calibration_is_of_the_survival_that_was_seen() -> None:
    scores, labels = followed(1, 40_000)
    counts = KIND.counts(scores, labels, 16).astype(np.float64)
    points = KIND.calibration(counts, 16)
    assert len(points) > 4
    assert points == sorted(points)
    assert max(abs(predicted - observed) for predicted, observed in points) < 0.06


def test_everyone_censored_leaves_no_concordance() -> None:
    labels = np.zeros(50)
    found = KIND.pooled(KIND.counts(np.full((50, 3), 0.5), labels, 8).astype(np.float64), 8)
    assert "concordance" not in found
