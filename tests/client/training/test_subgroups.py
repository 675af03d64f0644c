"""What a site adds to the histograms of subgroups: each patient once in each partition, and what
is paid for it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.cohort import Cohort
from client.privacy_audit.released_sums import cohort_of
from client.training.contribution import Contributor
from client.training.dp_trainer import DPTrainer
from client.training.local_steps import SiteContext
from client.training.sampling import Patients
from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import epsilon_over_bands
from protocol.privacy.calibration import with_noise
from protocol.privacy.possible_sums import impossible
from protocol.privacy.releases import evaluation_event, planned_events
from protocol.study.study import Study
from protocol.study.vector_layout import Sections, by_level, of_everyone
from tasks import registry
from tests.attack.simulated import TASK, Federation, cohorts, study_of
from tests.client.daemon.test_opened_sums import codes

SITES = ("site0", "site1", "site2", "site3", "site4", "site5")
PLAN = ("privacy=distributed", "privacy.epsilon=5", "rounds=1", "evaluation.bins=8")
SUBGROUPS = ("evaluation.subgroups={sex: [f, m], age: [40, 65]}",)
VENDOR = ("evaluation.hospitals={vendor: {x: [site0, site1, site2], y: [site3, site4, site5]}}",)


@cache
def planned(*overrides: str) -> Study:
    return study_of(SITES, *PLAN, *overrides)


def with_levels(cohort: Cohort, partitions: int) -> Cohort:
    """Row r is in level r % 3 of each partition."""
    rows = np.arange(len(cohort.labels)) % 3
    return replace(cohort, levels=np.stack([rows] * partitions, axis=1).astype(np.int64))


def contributor(study: Study, site: str = "site0") -> Contributor:
    task = registry.load(TASK)
    patients = Patients(with_levels(next(iter(cohorts(1).values())), 2))
    return Contributor(SiteContext(study, site, patients, DPTrainer(task, 0)))


def scored(study: Study, site: str = "site0") -> np.ndarray[Any, Any]:
    sections = Sections(study, train=False, evaluate=True)
    body = np.zeros(sections.body, np.float32)
    counts = contributor(study, site).contribution(sections, body, 2)
    assert counts.shape == (sections.length,)
    return counts // study.evaluation.scale


def test_each_patient_is_in_one_level_of_each_partition_as_in_the_whole() -> None:
    study = planned(*SUBGROUPS)
    counts = scored(study)
    everyone, partitions = of_everyone(study, counts), by_level(study, counts)
    assert everyone.sum() > 40
    assert [rows.shape[0] for rows in partitions] == [3, 4]
    for rows in partitions:
        assert (rows.sum(axis=0) == everyone).all()
        assert (rows.sum(axis=1)[:3] > 0).all()


def test_a_hospital_is_in_the_class_that_the_study_says() -> None:
    study = planned(*VENDOR)
    for site, level in (("site0", 0), ("site5", 1)):
        counts = scored(study, site)
        ((own, other),) = (rows[[level, 1 - level]] for rows in by_level(study, counts))
        assert (own == of_everyone(study, counts)).all()
        assert not other.any()


@settings(max_examples=12)
@given(st.integers(0, 3), st.integers(0, 2))
def test_one_patient_more_changes_no_more_than_the_events_say(age: int, sex: int) -> None:
    """In L2, one event's sensitivity for each release: all, and one a partition."""
    study = planned(*SUBGROUPS)
    task = registry.load(TASK)
    features = next(iter(cohorts(1).values())).features[:5]
    held = cohort_of(features, np.array([0, 1, 0, 1, 1.0]), "evaluation")
    levels = np.array([[0, 0]] * 4 + [[sex, age]])
    found = []
    for many in (4, 5):
        some = cohort_of(held.features[:many], held.labels[:many], "evaluation")
        patients = Patients(replace(some, levels=levels[:many]))
        site = Contributor(SiteContext(study, "site0", patients, DPTrainer(task, 0)))
        sections = Sections(study, train=False, evaluate=True)
        found.append(site.contribution(sections, np.zeros(sections.body, np.float32), 2))
    change = (found[1] - found[0]).astype(np.float64)
    event = evaluation_event(study)
    assert event is not None
    assert event.count == 3
    assert float(change @ change) == pytest.approx(event.count * event.scale**2)


def test_each_partition_is_one_event_more_in_plan_and_epsilon() -> None:
    alone, both = planned(), planned(*SUBGROUPS)
    delta = both.privacy.delta
    of_same_noise = both.model_copy(
        update={"evaluation": alone.evaluation.model_copy(
            update={"subgroups": both.evaluation.subgroups})}
    )  # fmt: skip
    spent = [epsilon_over_bands(planned_events(s), delta) for s in (alone, of_same_noise)]
    assert spent[1] > spent[0]
    single = evaluation_event(alone)
    assert single is not None
    assert evaluation_event(of_same_noise) == replace(single, count=3, dimension=4 * 16)
    assert epsilon_over_bands(planned_events(both), delta) <= 5 * (1 + 1e-6)
    ratio = both.evaluation.noise_multiplier / alone.evaluation.noise_multiplier
    assert ratio == pytest.approx(3**0.5, rel=0.05)
    assert with_noise(both, 5.0, bins=8).evaluation == both.evaluation


def test_honest_sums_are_possible_and_a_level_counted_twice_is_not() -> None:
    study = planned(*SUBGROUPS)
    sections = Sections(study, train=False, evaluate=True)
    model = np.zeros(sections.body, np.float32)
    sites, unit = frozenset(SITES), study.evaluation.scale
    patients = 600 / (1 - study.evaluation.fraction)  # declared for training, so many in all
    full = np.zeros(sections.length, np.int64)
    for start in (0, 16, 16 * 4):  # the whole, and the first level of each partition
        full[start] = int(2 * patients) * unit
    assert impossible(study, sections, full, sites, model) == ""
    full[16] += int(2 * patients) * unit
    assert "more patients than are declared" in impossible(study, sections, full, sites, model)


def test_no_sum_has_fewer_hospitals_of_a_class_than_the_least() -> None:
    """The coordinator asks all, and a site refuses what a coordinator that does not may ask for."""
    patients = {name: with_levels(of, 2) for name, of in cohorts(6).items()}
    federation, study = Federation.of(patients), planned(*VENDOR)
    assert {one.state for one in federation.propose(study).values()} == {"accepted"}
    assert Sections(study, train=True, evaluate=False).least_sites == 3
    assert Sections(study, train=False, evaluate=True).least_sites == 6
    readys = federation.prepare(study, 1, round_=2, train=False, evaluate=True)
    five = {name: readys[name] for name in SITES[:5]}
    assert codes(federation.collect(study, five, 1, 2)) == {Code.AGGREGATION}
    federation.open(study, federation.collect(study, readys, 1, 2))


def test_a_cohort_without_levels_is_no_cohort_for_subgroups() -> None:
    study, task = planned(*SUBGROUPS), registry.load(TASK)
    held = cohort_of(np.zeros((2, 30), np.float32), np.zeros(2), "evaluation")
    site = Contributor(SiteContext(study, "site0", Patients(held), DPTrainer(task, 0)))
    sections = Sections(study, train=False, evaluate=True)
    with pytest.raises(WardroundError, match="without levels"):
        site.contribution(sections, np.zeros(sections.body, np.float32), 2)
