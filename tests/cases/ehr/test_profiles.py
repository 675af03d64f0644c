"""One patient as four profiles write him: MIMIC-IV on FHIR, MII and ISiK (Germany), US Core.

Hand-made after the published profiles: their code systems, where they put a diagnosis, a drug, an
intensive care unit, and how they refer to a patient. No patient is real.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cases.ehr.records import (
    LOINC,
    SNOMED,
    UCUM,
    Resource,
    codings,
    diabetes,
    encounter,
    icu_stay,
    later,
    observation,
    patient,
    read_fhir,
)

_MIMIC = "http://mimic.mit.edu/fhir/mimic/CodeSystem"
_DE = "http://fhir.de/CodeSystem"
_ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
_STAY = ("2020-01-10T09:00:00Z", "2020-01-14T09:00:00Z")
_ICU = ("2020-01-10T10:00:00Z", "2020-01-12T12:00:00Z")


def order(**what: Any) -> Resource:
    return {
        "resourceType": "MedicationRequest",
        "id": "order",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/1"},
        "authoredOn": "2020-01-11",
        **what,
    }


def the_stay(*more: Resource, **of_the_stay: Any) -> list[Resource]:
    return [*later(), patient("p"), encounter("1", "p", *_STAY, **of_the_stay), *more]


def test_mimic_writes_icd_without_a_dot_and_drugs_by_reference(tmp_path: Path) -> None:
    drug = {
        "resourceType": "Medication",
        "id": "m",
        "code": codings((f"{_MIMIC}/mimic-medication-ndc", "00074")) | {"text": "MetFORMIN"},
    }
    seen = read_fhir(
        tmp_path,
        the_stay(
            diabetes("p", "1", f"{_MIMIC}/mimic-diagnosis-icd9", "25000"),
            drug,
            order(medicationReference={"reference": "Medication/m"}),
        ),
        "readmission",
    )
    assert seen.of("diagnosis_1", "metformin", "diabetes_drug") == {
        "diagnosis_1": "diabetes",
        "metformin": "steady",
        "diabetes_drug": "yes",
    }


def profile(*names: str) -> dict[str, Any]:
    return {
        "meta": {
            "profile": [
                f"http://mimic.mit.edu/fhir/mimic/StructureDefinition/{name}" for name in names
            ]
        }
    }


@pytest.mark.parametrize("kind", ["AMB", "EMER", "OBSENC", "SS"])
def test_a_hospital_stay_of_mimic_is_one_whatever_its_class(tmp_path: Path, kind: str) -> None:
    """Its class is that of the type of admission: AMB of an elective or urgent one."""
    hospital = profile("mimic-encounter")
    resources = [
        *later(),
        patient("p"),
        encounter("1", "p", *_STAY, kind=kind, **hospital),
        encounter("2", "p", "2020-01-20", "2020-01-22", kind=kind, **hospital),
        diabetes("p", "1", f"{_MIMIC}/mimic-diagnosis-icd10", "E119"),
    ]
    assert read_fhir(tmp_path, resources, "readmission").of("readmitted") == {"readmitted": 1.0}


def test_the_emergency_room_of_mimic_is_no_hospital_stay(tmp_path: Path) -> None:
    seen = profile("mimic-encounter-ed")
    again = encounter("2", "p", "2020-01-20", "2020-01-21", kind="EMER", **seen)
    resources = the_stay(again, diabetes("p", "1"), kind="AMB", **profile("mimic-encounter|2.0"))
    assert read_fhir(tmp_path, resources, "readmission").of("readmitted") == {"readmitted": 0.0}


def test_intensive_care_of_mimic_is_told_by_its_profile(tmp_path: Path) -> None:
    """Its type is any encounter's, and its ward has no type."""
    unit: Resource = {
        "partOf": {"reference": "Encounter/h"},
        "type": [codings((SNOMED, "308335008"))],
    }
    unit |= profile("mimic-encounter-icu")
    resources = [
        patient("p"),
        encounter("h", "p", *_STAY, kind="EMER", **profile("mimic-encounter")),
        encounter("i", "p", *_ICU, kind="ACUTE", **unit),
        observation("p", "2020-01-10T10:30:00Z", 88),
    ]
    seen = read_fhir(tmp_path, resources, "icu_timeseries")
    assert seen.of("heart_rate_00", "died") == {"heart_rate_00": 88.0, "died": 0.0}


def test_mii_lists_diagnoses_in_the_encounter_and_ingredients_by_atc(tmp_path: Path) -> None:
    found = diabetes("p", "1", f"{_DE}/bfarm/icd-10-gm", "E11.90", id="c")
    del found["encounter"]
    drug = {
        "resourceType": "Medication",
        "id": "m",
        "ingredient": [{"itemCodeableConcept": codings((f"{_DE}/bfarm/atc", "A10BA02"))}],
    }
    laboratory = observation("p", "2020-01-11T08:00:00Z", 6.1, "14749-6", "mmol/L")
    laboratory |= {
        "encounter": {"reference": "Encounter/1"},
        "category": [codings((LOINC, "26436-6"), ("urn:category", "laboratory"))],
    }
    listed = [{"condition": {"reference": "Condition/c/_history/3"}, "rank": 1}]
    resources = the_stay(
        found,
        drug,
        laboratory,
        order(medicationReference={"reference": "Medication/m"}),
        diagnosis=listed,
    )
    seen = read_fhir(tmp_path, resources, "readmission")
    wanted = {"diagnosis_1": "diabetes", "metformin": "steady", "lab_procedures": 1.0}
    assert seen.of(*wanted) == wanted
    assert seen.of("glucose") == {"glucose": pytest.approx(109.9, abs=0.1)}


def test_isik_refers_to_patients_by_identifier(tmp_path: Path) -> None:
    number = {"system": "https://hospital.example/pid", "value": "4711"}
    stay = encounter("1", "p", *_STAY) | {"subject": {"identifier": number}}
    resources = [*later(), patient("p", identifier=[number]), stay, diabetes("p", "1")]
    seen = read_fhir(tmp_path, resources, "readmission")
    assert seen.of("readmitted") == {"readmitted": 0.0}
    assert not seen.notes


def test_isik_opens_another_contact_for_each_department(tmp_path: Path) -> None:
    """None is part of a whole, and a bed may be kept for longer than the department's contact."""
    moved = "2020-01-12T15:30:00+01:00"
    bed: Resource = {"partOf": {"reference": "Encounter/1"}}
    resources = [
        *later(),
        patient("p"),
        encounter("1", "p", _STAY[0], moved),
        encounter("2", "p", moved, _STAY[1]),
        encounter("3", "p", *_STAY, **bed),
        diabetes("p", "2"),
    ]
    seen = read_fhir(tmp_path, resources, "readmission")
    assert seen.of("readmitted", "length_of_stay") == {"readmitted": 0.0, "length_of_stay": 4.0}


def test_an_identifier_that_two_patients_share_names_neither(tmp_path: Path) -> None:
    number = {"system": "https://hospital.example/pid", "value": "4711"}
    stay = encounter("1", "p", *_STAY) | {"subject": {"identifier": number}}
    both = [patient(name, identifier=[number]) for name in ("p", "q")]
    seen = read_fhir(tmp_path, [*later(), *both, stay, diabetes("p", "1")], "readmission")
    assert seen.row is None
    assert "name no resource of the FHIR export, or several" in " ".join(seen.notes)
    assert "4711" not in " ".join(seen.notes)


def test_one_number_in_two_systems_is_two_patients(tmp_path: Path) -> None:
    """Both are 4711: p in the system of the hospital's stays, q in another."""
    ours, theirs = (
        {"system": f"https://{name}.example/pid", "value": "4711"} for name in ("ours", "theirs")
    )
    stay = encounter("1", "p", *_STAY) | {"subject": {"identifier": ours}}
    another = encounter("2", "q", "2020-01-20", "2020-01-22") | {"subject": {"identifier": theirs}}
    both = [patient("q", identifier=[theirs]), patient("p", identifier=[ours])]
    resources = [*later(), *both, stay, another, diabetes("p", "1")]
    seen = read_fhir(tmp_path, resources, "readmission")
    assert seen.of("readmitted", "length_of_stay") == {"readmitted": 0.0, "length_of_stay": 4.0}
    assert not seen.notes


def test_us_core_refers_by_query_and_holds_the_drug_in_the_order(tmp_path: Path) -> None:
    number = {"system": "http://hospital.example/mrn", "value": "M 1"}
    query = "Patient?identifier=http://hospital.example/mrn|M%201"
    stay = encounter("1", "p", *_STAY) | {"subject": {"reference": query}}
    drug = {"resourceType": "Medication", "id": "d", "code": {"text": "insulin glargine"}}
    resources = [
        *later(),
        patient("p", identifier=[number]),
        stay,
        diabetes("p", "1", "urn:oid:2.16.840.1.113883.6.90", "E11.65"),
        order(contained=[drug], medicationReference={"reference": "#d"}),
    ]
    seen = read_fhir(tmp_path, resources, "readmission")
    assert seen.of("insulin") == {"insulin": "steady"}


def test_an_order_not_to_give_a_drug_is_no_drug(tmp_path: Path) -> None:
    wanted = {"text": "metformin"}
    resources = the_stay(
        diabetes("p", "1"), order(doNotPerform=True, medicationCodeableConcept=wanted)
    )
    assert read_fhir(tmp_path, resources, "readmission").of("metformin") == {"metformin": "no"}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param((f"{_DE}/kontaktart-de", "intensivstationaer"), id="ISiK: Kontaktart"),
        pytest.param((f"{_DE}/KontaktArtDe", "intensivstationaer"), id="MII: its older name"),
        pytest.param((SNOMED, "305351004"), id="SNOMED CT"),
    ],
)
def test_intensive_care_by_the_type_of_the_encounter(tmp_path: Path, kind: tuple[str, str]) -> None:
    unit: Resource = {"partOf": {"reference": "Encounter/h"}, "type": [codings(kind)]}
    resources = [
        patient("p"),
        encounter("h", "p", *_STAY),
        encounter("i", "p", *_ICU, **unit),
        observation("p", "2020-01-10T10:30:00Z", 88),
    ]
    seen = read_fhir(tmp_path, resources, "icu_timeseries")
    assert seen.of("heart_rate_00") == {"heart_rate_00": 88.0}


def test_intensive_care_by_place_begins_when_the_patient_came_there(tmp_path: Path) -> None:
    place = {
        "location": {"reference": "Location/L"},
        "period": {"start": _ICU[0], "end": _ICU[1]},
    }
    location = {"resourceType": "Location", "id": "L", "type": [codings((_ROLE, "ICU"))]}
    resources = [
        patient("p"),
        encounter("h", "p", *_STAY, location=[place]),
        location,
        observation("p", "2020-01-10T10:30:00Z", 88),
        observation("p", "2020-01-10T09:30:00Z", 77),
    ]
    seen = read_fhir(tmp_path, resources, "icu_timeseries")
    assert seen.of("heart_rate_00", "heart_rate_01") == {
        "heart_rate_00": 88.0,
        "heart_rate_01": None,
    }


def test_a_blood_pressure_of_two_components_counts_each_once(tmp_path: Path) -> None:
    def part(code: str, value: float) -> Resource:
        amount = {"value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}
        return {"code": codings((LOINC, code), (SNOMED, "1")), "valueQuantity": amount}

    pressure = observation("p", "2020-01-10T10:30:00Z", 0)
    del pressure["valueQuantity"]
    pressure |= {"code": codings((LOINC, "85354-9")), "component": []}
    pressure["component"] = [part("8480-6", 120), part("8462-4", 80)]
    resources = [*icu_stay(_STAY, _ICU), pressure]
    seen = read_fhir(tmp_path, resources, "icu_timeseries")
    assert seen.of("systolic_bp_00", "diastolic_bp_00") == {
        "systolic_bp_00": 120.0,
        "diastolic_bp_00": 80.0,
    }
