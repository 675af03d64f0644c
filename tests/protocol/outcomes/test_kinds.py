"""What every kind of outcome promises: what one patient changes, and metrics that fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as exact

from protocol.document import canonical
from protocol.errors import WardroundError
from protocol.outcomes.base import BaseKind
from protocol.outcomes.binary import Binary
from protocol.outcomes.kinds import METRICS
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.regression import Regression
from protocol.outcomes.time_to_event import TimeToEvent
from protocol.privacy.releases import pooled_evaluation
from protocol.privacy.word_size import word_bits_needed
from protocol.study.study import Study
from protocol.study.vector_layout import Sections, histogram_variance
from tests.protocol.study_document import document

KINDS: tuple[BaseKind, ...] = (
    Binary(),
    Multiclass(classes=3),
    Multiclass(classes=10),
    Regression(low=-5, high=40),
    TimeToEvent(ends=(10, 20, 50)),
    TimeToEvent(ends=(1, 2, 3, 4, 5, 6, 7, 8)),
)
NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0, 0.5, math.nan, math.inf, -math.inf])


def study(kind: BaseKind) -> Study:
    return Study.parse(canonical(document(outcome=kind.model_dump(mode="json"))))


@given(st.data(), st.sampled_from(KINDS), st.integers(2, 12))
def test_one_patient_changes_no_more_than_is_stated(
    data: st.DataObject, kind: BaseKind, bins: int
) -> None:
    low, high = kind.extremes
    label = data.draw(st.floats(low, high))
    label = float(round(label)) if kind.whole else label
    size = math.prod(kind.scores_of_one)
    given_ = data.draw(st.lists(NUMBERS, min_size=size, max_size=size))
    range_low, range_high = kind.score_range
    cut = np.clip(given_, range_low, range_high)  # as the site's trainer does; NaN stays
    scores = cut.reshape(1, *kind.scores_of_one)
    added = kind.counts(scores, np.array([label]), bins)
    assert added.shape == (kind.cells(bins),)
    assert (added >= 0).all()
    assert int((added**2).sum()) <= kind.squared_sensitivity
    assert int(added.max()) <= kind.largest
    assert int(added.sum()) <= kind.added
    if not isinstance(kind, TimeToEvent):
        assert int((added**2).sum()) == kind.squared_sensitivity
        assert int(added.max()) == kind.largest
        assert int(added.sum()) == kind.added


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_noise_and_epsilon_are_of_what_one_patient_changes(kind: BaseKind) -> None:
    of = study(kind)
    event = pooled_evaluation(of)
    assert event is not None
    norm = math.sqrt(kind.squared_sensitivity) * of.evaluation.scale
    assert event.sensitivity.l2 == pytest.approx(norm)
    assert event.dimension == kind.cells(of.evaluation.bins)
    assert Sections(of, False, True).length == event.dimension
    sites = len(of.roster)
    drawn = histogram_variance(of, sites) * (sites - of.aggregation.colluding_sites)
    assert drawn == pytest.approx((norm * of.evaluation.noise_multiplier) ** 2)


def test_sums_of_larger_counts_need_larger_words() -> None:
    """A patient adds 8 to a cell of 64 classes' matrix."""
    plain = document()
    plain["evaluation"] |= {"scale": 2**14}
    binary = Study.parse(canonical(plain))
    many = Study.parse(canonical(plain | {"outcome": {"kind": "multiclass", "classes": 64}}))
    assert many.outcome.largest == 8
    assert word_bits_needed(many) >= word_bits_needed(binary)


def test_a_study_of_two_labels_states_no_outcome() -> None:
    """As releases without the field."""
    assert "outcome" not in Study.parse(canonical(document())).model_dump(mode="json")
    assert b'"outcome"' in study(Multiclass(classes=3)).document


@pytest.mark.parametrize(
    "outcome",
    [
        {"kind": "multiclass", "classes": 2},
        {"kind": "multiclass", "classes": 65},
        {"kind": "regression", "low": 1.0, "high": 1.0},
        {"kind": "time_to_event", "ends": [1.0]},
        {"kind": "time_to_event", "ends": [0.0, 1.0]},
        {"kind": "time_to_event", "ends": [2.0, 2.0]},
        {"kind": "another"},
        {"kind": "binary", "classes": 3},
    ],
    ids=str,
)
def test_an_outcome_that_makes_no_sense_is_refused(outcome: dict[str, object]) -> None:
    with pytest.raises(WardroundError, match=r"not valid|does not know"):
        Study.parse(canonical(document(outcome=outcome)))


def test_a_study_stops_by_a_metric_of_its_outcome() -> None:
    plain = document(outcome={"kind": "multiclass", "classes": 3})
    plain["evaluation"] |= {"every": 1}
    plain["optimisation"] |= {"stop": {"metric": "auc"}}
    with pytest.raises(WardroundError, match="stop looks at auc, and this outcome has"):
        Study.parse(canonical(plain))
    plain["optimisation"]["stop"]["metric"] = "macro_auc"
    Study.parse(canonical(plain))


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_no_metric_has_a_name_of_its_own(kind: BaseKind) -> None:
    """Others could name a hospital (`server.outcome`)."""
    assert set(kind.metrics) <= METRICS
    assert set(kind.compared) <= set(kind.metrics)


def test_bad_labels_are_found_and_missing_ones_left() -> None:
    labels = np.array([0.0, 1.0, 2.0, 0.5, -1.0, np.nan, np.inf])
    assert Binary().bad(labels)[0].tolist() == [False, False, True, True, True, False, True]
    assert Multiclass(classes=3).bad(labels)[0].tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert Regression(low=0, high=1).bad(labels)[0].tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_a_site_hears_of_labels_that_look_wrong() -> None:
    assert Multiclass(classes=4).doubts(np.array([0.0, 2.0])) == [
        "No row has the label 1, 3: is the view right?"
    ]
    (doubt,) = Regression(low=0, high=10).doubts(np.array([1.0, 2.0, 30.0, 4.0]))
    assert doubt.startswith("25.0% of the labels are beyond the public range 0 to 10")
    assert Regression(low=0, high=10).labels_of(np.array([-3.0, 5.0, 30.0])).tolist() == [0, 5, 10]


def patients(seed: int = 0, count: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) probabilities and labels drawn from them."""
    rng = np.random.default_rng(seed)
    odds = np.exp(rng.normal(0, 1.5, (count, 3)))
    scores = odds / odds.sum(axis=1, keepdims=True)
    labels = (rng.random((count, 1)) > np.cumsum(scores, axis=1)).sum(axis=1).clip(0, 2)
    return scores, labels.astype(np.float64)


def test_exact_counts_of_classes_give_the_metrics_of_the_scores() -> None:
    kind, (scores, labels) = Multiclass(classes=3), patients()
    found = kind.pooled(kind.counts(scores, labels, 128).astype(np.float64), 128)
    hot = labels[:, None] == np.arange(3)
    expected = {
        "macro_auc": exact.roc_auc_score(labels, scores, multi_class="ovr"),
        "micro_auc": exact.roc_auc_score(hot, scores, average="micro"),
        "macro_average_precision": exact.average_precision_score(hot, scores),
        "accuracy": exact.accuracy_score(labels, scores.argmax(1)),
        "auc_2": exact.roc_auc_score(hot[:, 2], scores[:, 2]),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=3e-3), name
        assert found[name].low < value < found[name].high
    assert list(found) == list(kind.metrics)
    own = kind.figures_of(scores, labels)
    assert own["macro_auc"] == pytest.approx(expected["macro_auc"], abs=1e-4)
    assert own["accuracy"] == expected["accuracy"]
    matrix = kind.confusion(kind.counts(scores, labels, 8).astype(np.float64), 8)
    assert matrix == exact.confusion_matrix(labels, scores.argmax(1)).tolist()
    points = kind.calibration(kind.counts(scores, labels, 32).astype(np.float64), 32)
    assert max(abs(score - observed) for score, observed in points) < 0.05


def test_exact_counts_of_numbers_give_the_errors_of_the_predictions() -> None:
    rng, kind = np.random.default_rng(0), Regression(low=-5, high=40)
    scores = rng.normal(15, 6, 4000).clip(-5, 40)
    labels = (scores + rng.normal(1, 5, 4000)).clip(-5, 40)
    expected = {
        "rmse": exact.root_mean_squared_error(labels, scores),
        "mae": exact.mean_absolute_error(labels, scores),
        "r2": exact.r2_score(labels, scores),
        "bias": float(np.mean(scores - labels)),
        "calibration_slope": float(np.polyfit(scores, labels, 1)[0]),
    }
    for bins in (10, 32):
        found = kind.pooled(kind.counts(scores, labels, bins).astype(np.float64), bins)
        for name, value in expected.items():
            assert found[name].value == pytest.approx(value, rel=0.04), name
            assert found[name].low < value < found[name].high
    own = kind.figures_of(scores, labels)
    assert own == pytest.approx({"r2": expected["r2"], "mae": expected["mae"]})
    points = kind.calibration(kind.counts(scores, labels, 10).astype(np.float64), 10)
    assert all(observed == pytest.approx(score + 1, abs=2) for score, observed in points)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_counts_of_nobody_have_no_metrics_or_finite_ones(kind: BaseKind) -> None:
    nothing = np.zeros(kind.cells(6))
    assert kind.pooled(nothing, 6) == {}
    noise = np.random.default_rng(0).normal(0, 2, kind.cells(6))
    for of in kind.pooled(noise, 6, 4.0).values():
        assert of.low <= of.value <= of.high
