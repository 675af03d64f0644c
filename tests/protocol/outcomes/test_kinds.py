"""What every kind of outcome promises: what one patient changes, and metrics that fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as exact

from protocol.document import canonical
from protocol.errors import WardroundError
from protocol.outcomes.base import BaseKind
from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import METRICS
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
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
    MultiLabel(labels=2),
    MultiLabel(labels=15),
    Ordinal(levels=3),
    Regression(low=-5, high=40),
    EventCount(most=14),
    TimeToEvent(ends=(10, 20, 50)),
    TimeToEvent(ends=(1, 2, 3, 4, 5, 6, 7, 8)),
    Segmentation(classes=2, rows=3, columns=4),
    Segmentation(classes=5, rows=3, columns=4),
)
NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0, 0.5, math.nan, math.inf, -math.inf])


def study(kind: BaseKind) -> Study:
    return Study.parse(canonical(document(outcome=kind.model_dump(mode="json"))))


@given(st.data(), st.sampled_from(KINDS), st.integers(2, 12))
def test_one_patient_changes_no_more_than_is_stated(
    data: st.DataObject, kind: BaseKind, bins: int
) -> None:
    low, high = kind.extremes
    drawn = data.draw(arrays(np.float64, (1, *kind.label_shape), elements=st.floats(low, high)))
    label = np.rint(drawn) if kind.whole else drawn
    size = math.prod(kind.scores_of_one)
    given_ = data.draw(st.lists(NUMBERS, min_size=size, max_size=size))
    range_low, range_high = kind.score_range
    cut = np.clip(given_, range_low, range_high)  # as the site's trainer does; NaN stays
    scores = cut.reshape(1, *kind.scores_of_one)
    added = kind.counts(scores, label, bins)
    assert added.shape == (kind.cells(bins),)
    assert (added >= 0).all()
    assert int((added**2).sum()) <= kind.squared_sensitivity
    assert int(added.max()) <= kind.largest
    assert int(added.sum()) <= kind.added
    cells, of_one = kind.counted(bins)
    if not isinstance(kind, MultiLabel):
        assert int(added[:cells].sum()) == of_one
    known = isinstance(kind, MultiLabel) and np.isnan(kind.digits(label)).any()
    if not isinstance(kind, TimeToEvent | Segmentation) and not known:
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


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_chance_is_what_scores_that_are_all_alike_come_to(kind: BaseKind) -> None:
    low, high = kind.extremes
    labels = np.random.default_rng(0).uniform(low, high, (400, *kind.label_shape))
    labels = np.round(labels) if kind.whole else labels
    alike = float(labels.mean()) if isinstance(kind, (Regression, EventCount)) else 0.25
    scores = np.full((len(labels), *kind.scores_of_one), alike)
    assert kind.figures_of(scores, labels)[kind.compared[0]] == pytest.approx(kind.chance, abs=1e-9)


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
        {"kind": "multilabel", "labels": 16},
        {"kind": "ordinal", "levels": 2},
        {"kind": "event_count", "most": 64},
        {"kind": "time_to_event", "ends": [1.0]},
        {"kind": "time_to_event", "ends": [0.0, 1.0]},
        {"kind": "time_to_event", "ends": [2.0, 2.0]},
        {"kind": "segmentation", "classes": 1, "rows": 8, "columns": 8},
        {"kind": "segmentation", "classes": 2, "rows": 8, "columns": 513},
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
    assert Ordinal(levels=3).bad(labels)[0].tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert EventCount(most=2).bad(labels)[0].tolist() == [0, 0, 0, 1, 1, 0, 1]
    pairs = np.stack([labels, np.zeros(7)], axis=1)
    assert MultiLabel(labels=2).bad(pairs)[0].tolist() == [0, 0, 1, 1, 1, 0, 1]


def test_a_site_hears_of_labels_that_look_wrong() -> None:
    assert Multiclass(classes=4).doubts(np.array([0.0, 2.0])) == [
        "No row has the label 1, 3: is the view right?"
    ]
    (doubt,) = Regression(low=0, high=10).doubts(np.array([1.0, 2.0, 30.0, 4.0]))
    assert doubt.startswith("25.0% of the labels are beyond the public range 0 to 10")
    assert Regression(low=0, high=10).labels_of(np.array([-3.0, 5.0, 30.0])).tolist() == [0, 5, 10]


def test_a_site_hears_of_counts_cut_off_and_of_findings_never_seen() -> None:
    (doubt,) = EventCount(most=3).doubts(np.array([1.0, 2, 30, 4]))
    assert doubt.startswith("50.0% of the labels are above 3")
    assert EventCount(most=3).labels_of(np.array([1.0, 3, 30])).tolist() == [1, 3, 3]
    (doubt,) = MultiLabel(labels=2).doubts(np.array([[0.0, 1], [1, 1], [0, np.nan]]))
    assert "place 2 never has both values" in doubt
    assert MultiLabel(labels=2).doubts(np.array([[0.0, 1], [1, 0]])) == []


@given(st.data(), st.integers(2, 15))
def test_the_labels_of_several_columns_are_read_as_they_were_in_float32(
    data: st.DataObject, labels: int
) -> None:
    value = st.sampled_from([0.0, 1.0, np.nan])
    rows = data.draw(st.lists(st.lists(value, min_size=labels, max_size=labels), min_size=1))
    kind, columns = MultiLabel(labels=labels), np.array(rows)
    made = kind.labels_of(columns)
    known = ~np.isnan(columns).all(axis=1)
    assert np.array_equal(np.isnan(made), ~known)
    read = kind.digits(made[known].astype(np.float32).astype(np.float64))
    assert np.array_equal(read, columns[known], equal_nan=True)


def test_exact_counts_of_findings_give_the_metrics_of_those_known() -> None:
    rng, kind = np.random.default_rng(0), MultiLabel(labels=3)
    scores = rng.random((3000, 3))
    own = (rng.random((3000, 3)) < scores).astype(np.float64)
    own[rng.random((3000, 3)) < 0.2] = np.nan
    labels = kind.labels_of(own)
    known = ~np.isnan(labels)
    scores, own, labels = scores[known], own[known], labels[known]
    found = kind.pooled(kind.counts(scores, labels, 128).astype(np.float64), 128)
    said = ~np.isnan(own)
    areas = [exact.roc_auc_score(own[said[:, k], k], scores[said[:, k], k]) for k in range(3)]
    precisions = [
        exact.average_precision_score(own[said[:, k], k], scores[said[:, k], k]) for k in range(3)
    ]
    expected = {
        "macro_auc": np.mean(areas),
        "macro_average_precision": np.mean(precisions),
        "micro_auc": exact.roc_auc_score(own[said], scores[said]),
        "auc_2": areas[2],
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=4e-3), name
        assert found[name].low < value < found[name].high
    assert list(found) == list(kind.metrics)
    assert kind.figures_of(scores, labels) == pytest.approx(
        {name: expected[name] for name in kind.compared}, abs=1e-3
    )


def test_exact_counts_of_levels_give_their_agreement() -> None:
    kind, (scores, labels) = Ordinal(levels=3), patients()
    median = (np.cumsum(scores, axis=1)[:, :2] < 0.5).sum(axis=1)
    kappa = exact.cohen_kappa_score(labels, median, weights="quadratic")
    found = kind.pooled(kind.counts(scores, labels, 128).astype(np.float64), 128)
    assert found["quadratic_kappa"].value == pytest.approx(kappa)
    assert found["accuracy"].value == pytest.approx(np.mean(labels == median))
    assert list(kind.figures_of(scores, labels)) == list(kind.compared)
    assert kind.figures_of(scores, labels)["quadratic_kappa"] == pytest.approx(kappa)


def test_a_model_that_says_one_level_agrees_no_better_than_chance() -> None:
    """Others print NaN or 1 where every prediction is the same."""
    kind, labels = Ordinal(levels=3), np.array([0.0, 1, 2, 1] * 25)
    scores = np.tile([0.1, 0.8, 0.1], (100, 1))
    assert kind.figures_of(scores, labels)["quadratic_kappa"] == 0


def test_exact_counts_of_events_give_the_deviance_of_the_predictions() -> None:
    rng, kind = np.random.default_rng(0), EventCount(most=14)
    scores = np.exp(rng.normal(1.2, 0.5, 5000)).clip(0.1, 14)
    labels = rng.poisson(scores).clip(0, 14).astype(np.float64)
    expected = {
        "d2": exact.d2_tweedie_score(labels, scores, power=1),
        "r2": exact.r2_score(labels, scores),
        "mae": exact.mean_absolute_error(labels, scores),
        "rmse": exact.root_mean_squared_error(labels, scores),
        "bias": float(np.mean(scores - labels)),
    }
    found = kind.pooled(kind.counts(scores, labels, 32).astype(np.float64), 32)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=0.02), name
        assert found[name].low < value < found[name].high, name
    own = kind.figures_of(scores, labels)
    assert own == pytest.approx({"d2": expected["d2"], "mae": expected["mae"]})
    points = kind.calibration(kind.counts(scores, labels, 16).astype(np.float64), 16)
    assert all(observed == pytest.approx(score, abs=0.6) for score, observed in points)


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
