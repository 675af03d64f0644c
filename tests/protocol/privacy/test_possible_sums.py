"""Honest sums are possible, at their most extreme too; beyond that they are refused with a reason.

Reported of other frameworks: one update, thousands of times too large but finite, passes and the
model is its author's (NVFlare pull request 5240); a sum that is nonsense is applied without a word
(Flower issue 7645); a check of every second sum is none (Attribution Reporting API issue 40).
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.algorithms.descent import Descent
from protocol.errors import Code, WardroundError
from protocol.privacy.possible_sums import (
    adaptive_steps,
    at_most,
    check_declared,
    impossible,
    most_scored,
    most_trained,
)
from protocol.privacy.skellam import skellam
from protocol.secagg.fixed_point import clip_and_round, max_sampled
from protocol.study.algorithms import AdamW, LocalOptimiser, Sgd
from protocol.study.query import FIGURE_UNIT, LARGEST_FIGURE
from protocol.study.study import Study
from protocol.study.vector_layout import (
    Integers,
    Sections,
    histogram_variance,
    update_scale,
    update_variance,
)
from tests.attack.simulated import changed, study_of
from tests.protocol.query_document import asked

SITES = ("a", "b", "c", "d")
ALL = frozenset(SITES)
THREE = frozenset("abc")
TRIALS = 200


def planned(*overrides: str) -> Study:
    return study_of(SITES, "rounds=3", "evaluation.every=1", *overrides)


DISTRIBUTED = planned("privacy=distributed", "privacy.epsilon=20")
LOCAL = planned("privacy=local", "privacy.epsilon=20", "local_steps=3")
NONE = planned("privacy=none", "evaluation=exact")
FEW_BITS = planned("privacy=none", "evaluation=exact", "aggregation.update_bits=8")


def both(study: Study) -> Sections:
    return Sections(study, train=True, evaluate=True)


def zeros(study: Study) -> Integers:
    return np.zeros(both(study).length, np.int64)


def reason(study: Study, total: Integers, sites: frozenset[str] = ALL, weights: float = 0) -> str:
    model = np.full(both(study).body, weights, np.float32)
    return impossible(study, both(study), total, sites, model)


def most_sampled(study: Study, sites: frozenset[str]) -> int:
    rate, attempts = study.privacy.sampling_rate, study.aggregation.attempts
    return max_sampled(most_trained(study, sites), rate, attempts)


def along(study: Study, length: float) -> Integers:
    """A sum whose update has this norm, in one direction of all coordinates."""
    total = zeros(study)
    total[both(study).update] = round(length / study.model.parameters**0.5)
    return total


@pytest.mark.parametrize("sites", [ALL, THREE])
def test_every_sampled_patient_may_pull_the_same_way_at_full_length(sites: frozenset[str]) -> None:
    study = DISTRIBUTED
    rows = np.ones((most_sampled(study, sites), study.model.parameters), np.float32)
    update = clip_and_round(rows, study.privacy.clip_norm, study.aggregation.scale)
    total = zeros(study)
    variance = len(sites) * update_variance(study, len(sites))
    for _ in range(TRIALS):
        total[both(study).update] = update + skellam(variance, len(update))
        assert not reason(study, total, sites)


def test_more_patients_than_are_declared_are_noticed() -> None:
    study = DISTRIBUTED
    possible = most_sampled(study, THREE) * study.aggregation.scale
    assert not reason(study, along(study, possible), THREE)
    assert "longer" in reason(study, along(study, 1.5 * possible), THREE)
    assert not reason(study, along(study, 1.25 * possible), ALL)


def test_local_steps_may_all_go_the_same_way_and_no_further() -> None:
    study, rate = LOCAL, LOCAL.privacy.sampling_rate
    patients = sum(
        max_sampled(most_trained(study, frozenset({site})), rate, 10**4) for site in SITES
    )
    steps = study.optimisation.local_steps * study.optimisation.local_lr
    moved = steps * patients * study.privacy.clip_norm / (rate * study.patients())
    length = moved * update_scale(study)
    assert not reason(study, along(study, length))
    assert "longer" in reason(study, along(study, 3 * length))
    assert not reason(study, along(study, 3 * length), weights=1e9), "float32 may lose as much"


def test_momentum_lengthens_what_local_steps_may_amount_to() -> None:
    patients = sum(
        max_sampled(most_trained(LOCAL, frozenset({site})), LOCAL.privacy.sampling_rate, 10**4)
        for site in SITES
    )
    optimisation, privacy = LOCAL.optimisation, LOCAL.privacy
    steps = optimisation.local_steps * optimisation.local_lr
    moved = steps * patients * privacy.clip_norm / (privacy.sampling_rate * LOCAL.patients())
    length = 3 * moved * update_scale(LOCAL)

    def of(rule: LocalOptimiser) -> Study:
        changed = optimisation.model_copy(update={"local_optimiser": rule})
        return LOCAL.model_copy(update={"optimisation": changed})

    assert "longer" in reason(of(Sgd()), along(LOCAL, length))
    assert not reason(of(Sgd(momentum=0.9)), along(LOCAL, length))
    assert "longer" in reason(of(Sgd(momentum=0.1)), along(LOCAL, length))
    assert not reason(of(Sgd(weight_decay=0.1)), along(LOCAL, length))


@pytest.mark.parametrize("study", [LOCAL, NONE])
@pytest.mark.parametrize("sites", [ALL, THREE])
def test_steps_of_adamw_are_bounded_whatever_the_gradients_are(
    study: Study, sites: frozenset[str]
) -> None:
    """Also without privacy, where a gradient has no bound: a step has one."""
    rule = AdamW(weight_decay=0)
    plan = study.optimisation.model_copy(
        update={"local_optimiser": rule, "local_steps": 3, "local_lr": 0.01}
    )
    study = study.model_copy(update={"optimisation": plan})
    share = study.patients(sites) / study.patients()
    steps = share * plan.local_lr * adaptive_steps(rule, 3).sum()
    length = steps * study.model.parameters**0.5 * update_scale(study)
    assert not reason(study, along(study, length), sites)
    assert "longer" in reason(study, along(study, 1.1 * length), sites)
    decays = plan.model_copy(update={"local_optimiser": AdamW(weight_decay=10)})
    decaying = study.model_copy(update={"optimisation": decays})
    assert "longer" in reason(decaying, along(study, 1.1 * length), sites)
    assert not reason(decaying, along(study, 1.1 * length), sites, weights=1), "they decay"


@settings(max_examples=60, deadline=None)
@given(
    beta1=st.floats(0, 0.99),
    beta2=st.floats(0.1, 0.999),
    decay=st.sampled_from([0.0, 0.01, 1.0, 10.0]),
    lr=st.sampled_from([1e-3, 0.1, 0.3]),
    seed=st.integers(0, 1000),
    worst=st.booleans(),
)
def test_no_gradients_move_adamw_further(
    beta1: float, beta2: float, decay: float, lr: float, seed: int, worst: bool
) -> None:
    """The real steps of a site, on gradients of all sizes and on those that are worst for the last
    step, which come as far as is said."""
    steps, size = 8, 31
    rule, drawn = AdamW(beta1=beta1, beta2=beta2, weight_decay=decay), np.random.default_rng(seed)
    gradients = drawn.standard_normal((steps, size)) * 10.0 ** drawn.integers(-6, 6, (steps, 1))
    if worst:
        age = np.arange(steps - 1, -1, -1)
        gradients = (
            np.ones((steps, size)) * ((beta1 / beta2) ** age if beta1 else age == 0)[:, None]
        )
    plan = LOCAL.optimisation.model_copy(
        update={"local_optimiser": rule, "local_steps": steps, "local_lr": lr}
    )
    study = LOCAL.model_copy(update={"optimisation": plan})
    start = drawn.standard_normal(size).astype(np.float32)
    weights = torch.nn.Parameter(torch.from_numpy(start.copy()))
    descent, before = Descent(weights, lr, rule), start
    for gradient in gradients:
        before = weights.detach().numpy().copy()
        weights.grad = torch.from_numpy(gradient.astype(np.float32))
        descent.step()
    moved = weights.detach().numpy() - start
    total = zeros(study)
    ends = study.aggregation.update_range
    within = np.clip(moved.astype(np.float64), -ends, ends)
    total[both(study).update] = np.rint(within * update_scale(study))
    body = np.zeros(both(study).body, np.float32)
    body[: len(start)] = start
    assert not impossible(study, both(study), total, ALL, body)
    if worst and not decay:
        last = np.abs(weights.detach().numpy() - before).max() / lr
        assert last == pytest.approx(adaptive_steps(rule, steps)[-1], rel=1e-2)


def test_a_second_moment_without_memory_bounds_nothing() -> None:
    assert adaptive_steps(AdamW(beta2=0), 3).tolist() == [1, np.inf, np.inf]
    assert adaptive_steps(AdamW(beta1=0, beta2=0), 3).tolist() == [1, 1, 1]
    assert adaptive_steps(AdamW(beta1=0.5, beta2=0.25), 3)[0] == 1
    assert np.isfinite(adaptive_steps(AdamW(), 100_000)).all()


@pytest.mark.parametrize("study", [NONE, FEW_BITS])
def test_a_coordinate_outside_the_range_is_noticed_in_mode_none(study: Study) -> None:
    largest = round(study.aggregation.update_range * update_scale(study)) * len(SITES)
    total = zeros(study)
    for sign in (1, -1):
        total[0] = sign * largest
        assert not reason(study, total)
        total[0] = sign * (largest + 10)
        assert "update_range" in reason(study, total)


@pytest.mark.parametrize("study", [DISTRIBUTED, LOCAL])
@pytest.mark.parametrize("sites", [ALL, THREE])
def test_noise_upon_no_patient_and_upon_all_is_possible(
    study: Study, sites: frozenset[str]
) -> None:
    where, total = both(study).histogram, zeros(study)
    variance = len(sites) * histogram_variance(study, len(sites))
    for whole in (0, most_scored(study, sites) * study.evaluation.scale):
        for _ in range(TRIALS):
            total[where] = skellam(variance, where.stop - where.start)
            total[where.start] += whole
            assert not reason(study, total, sites)


@pytest.mark.parametrize("study", [DISTRIBUTED, LOCAL, NONE])
def test_more_patients_in_a_histogram_than_are_declared_are_noticed(study: Study) -> None:
    where, all_ = both(study).histogram, most_scored(study) * study.evaluation.scale
    cells = where.stop - where.start
    cell, spread = zeros(study), zeros(study)
    cell[where.start] = 2 * all_
    spread[where] = 2 * all_ // cells // study.evaluation.scale * study.evaluation.scale
    for total in (cell, -cell, spread, -spread):
        assert "histogram counts" in reason(study, total)


@pytest.mark.parametrize("study", [DISTRIBUTED, LOCAL, NONE])
def test_cells_that_cancel_are_noticed(study: Study) -> None:
    total, first = zeros(study), both(study).histogram.start
    total[first] = 2 * most_scored(study) * study.evaluation.scale
    total[first + 1] = -total[first]
    assert "a cell" in reason(study, total)


def test_an_exact_histogram_counts_whole_patients() -> None:
    total = zeros(NONE)
    total[-1] = NONE.evaluation.scale
    assert not reason(NONE, total)
    total[-1] += 1
    assert "whole number" in reason(NONE, total)


def test_a_site_with_more_patients_than_sums_are_made_for_takes_no_part() -> None:
    here = frozenset({"a"})
    trained, scored = most_trained(LOCAL, here), most_scored(LOCAL, here)
    check_declared(LOCAL, "a", trained=trained * 2 // 3, scored=scored * 2 // 3)
    for more in ({"trained": trained + 1, "scored": 0}, {"trained": 0, "scored": scored + 1}):
        with pytest.raises(WardroundError) as refused:
            check_declared(LOCAL, "a", **more)
        assert refused.value.code is Code.REFUSED_STUDY
        assert "enrol" in refused.value.remedy


def test_refusals_tell_no_number_of_patients() -> None:
    """Whatever numbers a coordinator declares, sites between two edges refuse and accept alike."""
    answers = {}
    for patients in range(1, 1025):
        answers[patients] = tuple(at_most(patients) > 2 * declared for declared in range(1, 1025))
        assert not any(answers[patients][3 * patients // 4 :]), "a third more is no reason"
        assert all(answers[patients][: (patients - 1) // 2]), "more than twice as many is one"
    assert len(set(answers.values())) == 18


def test_what_a_robust_rule_sees_one_by_one_is_left_to_it() -> None:
    robust = changed(NONE, "aggregation", masked=False, robust={"name": "median"}, least_sites=4)
    assert not reason(robust, np.where(np.arange(len(zeros(robust))) == 0, 2**62, 0))


def test_sites_that_are_compared_say_one_thing_each() -> None:
    released = {"counts": [1.0, 2.0], "variances": [1.0, 1.0]}
    axis = {"kind": "bins", "column": "age", "edges": [30, 50]}
    differing: dict[str, Any] = {"kind": "differing", "name": "age", "axis": axis}
    differing |= {"released": released, "groups": [0, 1]}
    study = asked({"statistics": [differing]}, evaluation={"noise_multiplier": 4.0, "scale": 1})
    sections, three = Sections(study, False, True), frozenset(list(study.sites)[:3])
    most, one = LARGEST_FIGURE, FIGURE_UNIT
    for words, figures, possible in (
        ([1, 2, 0], [3 * one, *[3 * most] * 7], True),
        ([1, 2, 0], [0, *[-3 * most] * 7], True),
        ([2, 2, 0], [0] * 8, False),
        ([4, -1, 0], [0] * 8, False),
        ([1, 2, 0], [3 * one + 1, *[0] * 7], False),
        ([1, 2, 0], [-1, *[0] * 7], False),
        ([1, 2, 0], [0, *[0] * 6, 3 * most + 1], False),
        ([1, 2, 0], [0, -3 * most - 1, *[0] * 6], False),
    ):
        total = np.array([*words, *figures])
        why = impossible(study, sections, total, three, np.zeros(0, np.float32))
        assert (why == "") is possible, total
