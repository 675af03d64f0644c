"""A query as a document: what it may ask, what it costs, and that it fits its words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import epsilon, epsilon_over_bands
from protocol.privacy.events import Event
from protocol.privacy.query_noise import half_width, pooled_noise
from protocol.privacy.releases import (
    check_claim,
    evaluation_event,
    planned_broken_epsilon,
    planned_events,
    spent_epsilon,
    training_event,
)
from protocol.privacy.word_size import check_headroom
from protocol.study.query import Bins, Mean, Query
from protocol.study.study import Study
from protocol.study.vector_layout import Sections
from tests.protocol.query_document import asked, query


def deep(levels: int) -> dict[str, Any]:
    condition: dict[str, Any] = {"kind": "missing", "column": "age"}
    for _ in range(levels):
        condition = {"kind": "not", "of": condition}
    return condition


MANY: dict[str, Any] = {
    "kind": "cells",
    "name": "many",
    "axes": [
        {"kind": "bins", "column": "age", "edges": [float(e) for e in range(1000)]},
        {"kind": "bins", "column": "chol", "edges": [float(e) for e in range(1000)]},
    ],
}


def test_it_goes_through_its_document_unchanged() -> None:
    study = asked({"where": {"kind": "compares", "column": "age", "order": ">=", "value": 60}})
    assert Study.parse(study.document) == study


@pytest.mark.parametrize(
    ("changes", "of_study"),
    [
        ({"statistics": []}, {}),
        ({"statistics": [MANY]}, {}),
        ({"statistics": query()["statistics"] * 2}, {}),
        ({"where": deep(40)}, {}),
        ({"where": {"kind": "sql", "text": "DROP TABLE records"}}, {}),
        ({"where": {"kind": "compares", "column": "a; --", "order": "<", "value": 1}}, {}),
        ({"mechanism": "none"}, {}),
        ({"least_count": -1}, {}),
        ({}, {"optimisation": {"rounds": 5}, "aggregation": {"attempts": 6}}),
        ({}, {"model": {"parameters": 27, "layout": "b" * 64}}),
        ({}, {"privacy__mode": "local"}),
        ({}, {"privacy": {"mode": "none"}, "evaluation": {"release": "exact"}}),
        ({}, {"privacy__noise_multiplier": 400.0}),
        ({}, {"evaluation": {"release": "exact"}}),
        ({}, {"privacy__delta": 0.5}),
    ],
)
def test_what_is_no_query_is_refused(changes: dict[str, Any], of_study: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        asked(changes, **of_study)


def test_a_study_that_trains_needs_rounds_and_parameters() -> None:
    with pytest.raises(ValidationError):
        asked(query=None)


def test_bins_and_means_must_make_sense() -> None:
    for edges in ((1.0,), (2.0, 1.0), (1.0, 1.0), (math.nan, 1.0)):
        with pytest.raises(ValidationError):
            Bins(column="age", edges=edges)
    with pytest.raises(ValidationError):
        Mean(name="m", column="age", low=1.0, high=1.0)


def test_its_sum_has_one_word_for_each_cell() -> None:
    study = asked()
    sections = Sections(study, train=False, evaluate=True)
    assert sections.length == 1 + (2 + 1) * (2 + 1)
    assert (sections.kind, sections.exact) == ("histogram", False)
    found = study.query
    assert found is not None
    assert found.slices == (slice(0, 1), slice(1, 10))
    assert found.asks == ("count", "table")
    assert found.columns == ("age", "sex")


def test_pure_epsilons_add_up_over_statistics_and_attempts() -> None:
    event = evaluation_event(asked())
    assert event is not None
    assert (event.mechanism, event.count, event.epsilon) == ("laplace", 2, 0.25)
    assert event.band == (0.0, 1.0)
    assert training_event(asked()) is None
    assert epsilon_over_bands(planned_events(asked()), 1e-12) == pytest.approx(0.5, rel=1e-9)
    twice = asked(aggregation={"attempts": 2}, privacy__epsilon=1.0)
    assert epsilon_over_bands(planned_events(twice), 1e-12) == pytest.approx(1.0, rel=1e-9)
    assert spent_epsilon(twice, 0, 1) == pytest.approx(0.5, rel=1e-3)


def test_a_claim_of_less_epsilon_than_it_spends_is_refused() -> None:
    check_claim(asked())
    with pytest.raises(WardroundError) as caught:
        check_claim(asked(privacy__epsilon=0.4))
    assert caught.value.code is Code.REFUSED_STUDY


def test_many_pure_releases_compose_better_than_they_add() -> None:
    one = Event("laplace", noise_multiplier=100.0, dimension=1, scale=1.0)
    assert epsilon([replace(one, count=1000)], 1e-5) < 0.2 * 10
    beside = Event("gaussian", noise_multiplier=5.0)
    both = epsilon([beside, Event("laplace", noise_multiplier=2.0, dimension=1, scale=1.0)], 1e-5)
    alone = epsilon([beside], 1e-5)
    assert alone < both <= alone + 0.5 + 2e-3


def test_randomised_response_is_composed_as_it_is() -> None:
    """10 releases at 0.1: the exact delta at an epsilon, from the binomial distribution of losses
    (Kairouz, Oh and Viswanath 2015, theorem 3.3), is what the composition finds."""
    event = Event("laplace", noise_multiplier=10.0, dimension=1, scale=1.0, count=10)
    high = math.exp(0.1) / (1 + math.exp(0.1))

    def delta_at(eps: float) -> float:
        return sum(
            math.comb(10, k) * high**k * (1 - high) ** (10 - k) * -math.expm1(eps - loss)
            for k in range(11)
            if (loss := 0.1 * (2 * k - 10)) > eps
        )

    found = epsilon([event], 1e-3)
    assert delta_at(found) <= 1e-3
    assert delta_at(found - 5e-3) > 1e-3


def test_broken_or_unmasked_one_share_protects_less() -> None:
    study = asked()
    broken = planned_broken_epsilon(study, 1e-5)
    assert 0.5 < broken < 3
    unmasked = asked(aggregation={"attempts": 1, "masked": False})
    (event,) = planned_events(unmasked)
    assert not event.shared
    assert epsilon([event], 1e-5) == pytest.approx(broken, rel=1e-3)


@pytest.mark.parametrize("mechanism", ["laplace", "skellam"])
def test_the_noise_is_as_wide_as_it_says(mechanism: str) -> None:
    scale = {"laplace": 1, "skellam": 256}[mechanism]
    study = asked({"mechanism": mechanism}, evaluation__scale=scale)
    values, chances = pooled_noise(study, 3)
    width = half_width(study, 3)
    inside = chances[np.abs(values) <= width].sum()
    assert 0.95 <= inside < 0.97
    event = evaluation_event(study)
    assert event is not None
    variance = float((chances * values**2).sum())
    ratio = math.exp(-1 / 4)
    expected = {"laplace": 2 * ratio / (1 - ratio) ** 2, "skellam": 16.0}[mechanism]
    assert variance == pytest.approx(expected * 3 / 2, rel=1e-3)


def test_sums_that_would_wrap_are_refused() -> None:
    check_headroom(asked())
    huge = asked(
        evaluation__scale=2**16,
        evaluation__noise_multiplier=0.1,
        privacy__noise_multiplier=0.1,
        privacy__epsilon=30.0,
        roster=[{"name": name, "patients": 10**9} for name in ("a", "b", "c")],
    )
    with pytest.raises(WardroundError) as caught:
        check_headroom(huge)
    assert caught.value.code is Code.REFUSED_STUDY


@pytest.mark.parametrize(
    "field", [{"noise_multiplier": 1e9}, {"noise_multiplier": 1e-3}, {"scale": 1.5}]
)
def test_noise_that_cannot_be_drawn_is_no_event(field: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"noise_multiplier": 2.0, "dimension": 1, "scale": 1.0}
    with pytest.raises(WardroundError) as caught:
        Event("laplace", **(usual | field))
    assert caught.value.code is Code.CONFIGURATION


def test_labels_say_what_is_in_a_cell() -> None:
    assert Bins(column="a", edges=(1, 2, 3)).labels == ("under 2", "2 or more", "missing")
    assert Bins(column="a", edges=(1, 2), outside=True).labels == (
        "below 1",
        "1 to 2",
        "above 2",
        "missing",
    )
    assert len(Query.model_validate(query()).statistics) == 2


def test_a_query_that_compares_sites_asks_nothing_else_and_cell_by_cell() -> None:
    released = {"counts": [1.0, 2.0], "variances": [1.0, 1.0]}
    axis = {"kind": "bins", "column": "age", "edges": [30, 50]}
    differing: dict[str, Any] = {"kind": "differing", "name": "age", "axis": axis}
    differing |= {"released": released, "groups": [0, 1]}
    found = asked({"statistics": [differing]}).query
    assert found is not None
    assert (found.compares_sites, found.cells, found.largest) == (True, 3 + 2 + 3 * 2, 2)
    assert (found.asks, found.columns) == (("histogram",), ("age",))
    for wrong in (
        [differing, {"kind": "cells", "name": "patients"}],
        [differing | {"axis": axis | {"edges": [30, 50, 70]}}],
        [differing | {"groups": [0, 1, 1]}],
        [differing | {"groups": [0, 0]}],
        [differing | {"groups": [0, 2]}],
    ):
        with pytest.raises(ValidationError):
            asked({"statistics": wrong})
