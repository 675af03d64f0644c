"""Bands hold patients apart only while each has one name; otherwise all spending is everybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.governance.budget import budget
from client.governance.patient_names import confirm
from protocol.privacy.accounting import epsilon
from protocol.privacy.releases import planned_events
from protocol.study.study import Study
from tests.client.hospital import Hospital, numbered

PATIENTS = {f"P{number}": f"MRN-{number}" for number in range(50)}


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital.found(tmp_path / "state")


def reserved(hospital: Hospital) -> float:
    return budget(hospital.state, hospital.ledger.policy).reserved


def confirmed(hospital: Hospital, study: Study, names: str, patients: dict[str, str]) -> bool:
    of = {study.task.name: patients}
    return confirm(hospital.state, hospital.audit, study, names, of)


def test_while_names_stay_nothing_changes(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    before = reserved(hospital)
    assert not confirmed(hospital, study, "one view", PATIENTS)
    assert not confirmed(hospital, study, "one view", PATIENTS | {"new": "MRN-99"})
    assert reserved(hospital) == before < epsilon(planned_events(study), 1e-5)
    hospital.audit.verify()


def test_a_study_whose_names_changed_is_charged_to_every_patient(hospital: Hospital) -> None:
    study = hospital.accept(numbered(1))
    assert confirmed(hospital, study, "another view", {})
    assert reserved(hospital) == epsilon(planned_events(study), 1e-5)
    assert not confirmed(hospital, study, "one view", {})  # it does not become certain again
    assert reserved(hospital) == epsilon(planned_events(study), 1e-5)
    hospital.audit.verify()


def test_a_patient_renamed_by_the_index_charges_all_that_was_spent(hospital: Hospital) -> None:
    study, later = hospital.accept(numbered(1)), numbered(2)
    assert not confirmed(hospital, study, "one view", PATIENTS)
    hospital.approvals.close(study, "finished")
    hospital.approvals.propose(later)
    hospital.approvals.approve(later)
    merged = PATIENTS | {"P7": "MRN-8"}
    # the other task's view is not read now, but the index gives one of its names to another
    assert confirm(
        hospital.state,
        hospital.audit,
        later.model_copy(update={"task": later.task.model_copy(update={"name": "other"})}),
        "one view",
        {"other": {}, study.task.name: merged},
    )
    assert reserved(hospital) == epsilon(planned_events(later), 1e-5)
    hospital.audit.verify()
