"""What a study spends: every attempt, the right patients, never less than it states."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import epsilon, epsilon_over_bands
from protocol.privacy.releases import (
    bands,
    check_claim,
    evaluation_event,
    max_evaluations,
    planned_broken_epsilon,
    planned_events,
    spent_epsilon,
    training_event,
)
from protocol.privacy.word_size import check_headroom
from protocol.secagg.fixed_point import SITE_SLACK
from protocol.study.study import Study
from tests.narrowing import present
from tests.protocol.study_document import study

LOCAL: dict[str, Any] = {"privacy__mode": "local", "optimisation": {"rounds": 20, "local_steps": 5}}


@settings(max_examples=200)
@given(
    rounds=st.integers(1, 60),
    spare=st.integers(0, 20),
    every=st.integers(0, 7),
    losses=st.lists(st.integers(1, 61), max_size=20),
)
def test_no_honest_course_of_a_study_exceeds_its_plan(
    rounds: int, spare: int, every: int, losses: list[int]
) -> None:
    planned = study(
        optimisation__rounds=rounds,
        aggregation__attempts=rounds + 1 + spare,
        evaluation__every=every,
    )
    lost = [round_ for round_ in losses if round_ <= rounds + 1][:spare]
    attempts = [*range(1, rounds + 2), *lost]
    evaluations = sum(planned.evaluates(round_) for round_ in attempts)
    assert len(attempts) <= planned.aggregation.attempts
    assert evaluations <= max_evaluations(planned) <= planned.aggregation.attempts


def test_local_training_spends_every_step_of_every_attempt() -> None:
    plan = study(**LOCAL)
    train, evaluate = planned_events(plan)
    assert (train.mechanism, train.count, train.sampling_rate) == ("gaussian", 24 * 5, 0.2)
    assert (evaluate.mechanism, evaluate.count, evaluate.sampling_rate) == ("skellam", 4, 1.0)
    assert not evaluate.shared, "in mode local every site adds all the noise"
    once = (training_event(plan), evaluation_event(plan))
    assert [event.count for event in once if event] == [5, 1]


def test_distributed_training_spends_one_sum_per_attempt() -> None:
    plan = study(aggregation__scale=1 << 16)
    train, evaluate = planned_events(plan)
    assert (train.mechanism, train.count, train.dimension) == ("skellam", 24, 27)
    assert (train.scale, train.rounding, train.shared) == (65536.0, "patient", True)
    assert (evaluate.dimension, evaluate.scale, evaluate.rounding) == (64, 256.0, "none")


def test_a_sum_rounded_by_site_is_counted_as_moving_further() -> None:
    """By sqrt(d) of rounding instead of half of it, and by what its floats may add."""
    by_patient, by_site = (
        planned_events(study(aggregation__rounding=rounding))[0] for rounding in ("patient", "site")
    )
    assert (by_site.rounding, by_site.slack) == ("site", SITE_SLACK)
    assert by_patient.slack == 0.0
    moved = by_site.sensitivity.l2 - by_patient.sensitivity.l2
    assert moved == pytest.approx(math.sqrt(27) / 2 + SITE_SLACK * 4096)
    assert epsilon([by_site], 1e-3) > epsilon([by_patient], 1e-3)


def test_a_sum_of_more_patients_than_the_slack_is_proved_of_is_refused() -> None:
    crowd = [{"name": name, "patients": 10**6} for name in ("a", "b", "c")]
    bits = {"aggregation__word_bits": 64, "roster": crowd}
    check_headroom(study(**bits))
    with pytest.raises(WardroundError) as refusal:
        check_headroom(study(**bits, aggregation__rounding="site"))
    assert refusal.value.code is Code.REFUSED_STUDY
    check_headroom(study(**bits, aggregation__rounding="site", privacy__sampling_rate=0.01))


def test_training_and_evaluation_touch_different_patients_unless_a_column_splits() -> None:
    apart = study(evaluation__fraction=0.25)
    assert bands(apart) == ((0.0, 0.75), (0.75, 1.0))
    events = planned_events(apart)
    assert epsilon_over_bands(events, 1e-3) == max(epsilon([e], 1e-3) for e in events)
    mixed = study(evaluation__split="column")
    assert bands(mixed) == ((0.0, 1.0), (0.0, 1.0))
    together = planned_events(mixed)
    assert epsilon_over_bands(together, 1e-3) == pytest.approx(epsilon(together, 1e-3))
    assert epsilon(together, 1e-3) > epsilon_over_bands(events, 1e-3)


def test_exact_releases_are_no_events() -> None:
    exact = {"every": 0, "release": "exact"}
    assert [e.mechanism for e in planned_events(study(evaluation=exact))] == ["skellam"]
    assert planned_events(study(privacy={"mode": "none"}, evaluation=exact)) == ()


def test_an_epsilon_and_an_exact_evaluation_are_refused_together() -> None:
    exact = {"every": 0, "release": "exact"}
    refuse(study(evaluation=exact))
    check_claim(study(privacy={"mode": "none"}, evaluation=exact))
    check_claim(study(evaluation={"release": "off"}))


def test_without_noise_in_training_epsilon_is_that_of_the_evaluation_the_sites_share() -> None:
    plain = study(privacy={"mode": "none", "epsilon": 3.0})
    (event,) = planned_events(plain)
    assert (event.shared, event.count) == (True, max_evaluations(plain))
    assert spent_epsilon(plain, 5, 1) == epsilon_over_bands(
        [replace(event, count=1)], plain.privacy.delta
    )


def refuse(plan: Study) -> None:
    with pytest.raises(WardroundError) as caught:
        check_claim(plan)
    assert caught.value.code == Code.REFUSED_STUDY


@pytest.mark.parametrize("changes", [LOCAL, {}, {"evaluation__noise_multiplier": 9.0}])
def test_a_study_may_state_what_it_spends_and_no_less(changes: dict[str, Any]) -> None:
    scale = {"aggregation__scale": 1 << 16}
    plan = study(**changes, **scale)
    spends = epsilon_over_bands(planned_events(plan), plan.privacy.delta)
    check_claim(study(**changes, **scale, privacy__epsilon=spends))
    refuse(study(**changes, **scale, privacy__epsilon=spends * 0.999))


@pytest.mark.parametrize(
    "changes",
    [
        {"aggregation__attempts": 2400},
        {"privacy__sampling_rate": 1.0},
        {"privacy__noise_multiplier": 0.5},
        {"privacy__noise_multiplier": 1e-9},
        {"aggregation__scale": 1},
        {"privacy__delta": 1e-12},
        {"evaluation__noise_multiplier": 1e-3},
        {"optimisation": {"rounds": 20, "local_steps": 1000}, "privacy__mode": "local"},
    ],
)
def test_a_study_cannot_hide_what_it_spends(changes: dict[str, Any]) -> None:
    honest: dict[str, Any] = {"aggregation__scale": 1 << 16}
    honest["privacy__epsilon"] = epsilon_over_bands(planned_events(study(**honest)), 1e-3)
    check_claim(study(**honest))
    refuse(study(**(honest | changes)))


def test_clip_norm_and_learning_rate_do_not_change_what_is_spent() -> None:
    plain = planned_events(study(**LOCAL))
    assert planned_events(study(**LOCAL, privacy__clip_norm=1e-9)) == plain


def test_without_masks_one_share_is_what_is_seen() -> None:
    masked, open_ = study(), study(aggregation__masked=False)
    events, seen = planned_events(masked), planned_events(open_)
    assert [e.noise_multiplier for e in seen] == [e.noise_multiplier / math.sqrt(2) for e in events]
    broken = planned_broken_epsilon(masked, 1e-3)
    assert epsilon_over_bands(seen, 1e-3) == pytest.approx(broken)
    assert planned_broken_epsilon(open_, 1e-3) == pytest.approx(broken)
    alone = study(**LOCAL, aggregation__masked=False)
    assert planned_events(alone) == planned_events(study(**LOCAL))


def test_spent_grows_to_the_plan_and_no_further() -> None:
    plan = study(**LOCAL)
    spent = [present(spent_epsilon(plan, attempts, 0)) for attempts in (0, 1, 10, 24, 500)]
    assert spent[0] == 0
    assert spent == sorted(spent)
    assert spent[3] == spent[4]
    whole = spent_epsilon(plan, 24, 24)
    assert whole == pytest.approx(epsilon_over_bands(planned_events(plan), plan.privacy.delta))
    broken = present(spent_epsilon(study(), 5, 1, broken=True))
    assert broken > present(spent_epsilon(study(), 5, 1))
    exact = {"every": 0, "release": "exact"}
    assert spent_epsilon(study(privacy={"mode": "none"}, evaluation=exact), 5, 1) is None
