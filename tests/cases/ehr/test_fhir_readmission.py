"""One patient with diabetes, out of a FHIR export: who is in the cohort, and what is counted.

Faults of this kind: outcomes are counted in hours instead of calendar days (a stay that begins on
the day another ends is after it); value sets are of single codes and single names of a code system,
so that a cohort is silently empty; links that FHIR allows are not followed; a resource counts once
a coding; category is not looked at; times are compared as text, offsets ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cases.ehr.records import (
    ICD10CM,
    LOINC,
    SNOMED,
    Resource,
    Row,
    codings,
    diabetes,
    encounter,
    later,
    observation,
    patient,
    read_fhir,
)

TASK = "readmission"
_OUTCOME = ("readmitted", "length_of_stay")
_WITHIN_STAY: dict[str, Any] = {
    "subject": {"reference": "Patient/p"},
    "encounter": {"reference": "Encounter/1"},
}
_BELOW_DIABETES = f"""system,ancestor,descendant
{SNOMED},73211009,44054006
{SNOMED},73211009,46635009
"""


def one_stay(
    *more: Resource,
    start: str = "2020-01-10T09:00:00Z",
    end: str = "2020-01-14T09:00:00Z",
    **of_the_stay: Any,
) -> list[Resource]:
    return [*later(), patient("p"), encounter("1", "p", start, end, **of_the_stay), *more]


def with_diabetes(*more: Resource, **stay: Any) -> list[Resource]:
    return one_stay(diabetes("p", "1"), *more, **stay)


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        pytest.param(
            with_diabetes(
                encounter("2", "p", "2020-01-14", "2020-01-16"),
                start="2020-01-10",
                end="2020-01-14",
            ),
            {"readmitted": 1.0, "length_of_stay": 4.0},
            id="dates only, on the day of discharge",
        ),
        pytest.param(
            with_diabetes(encounter("2", "p", "2020-02-13T22:00:00Z", "2020-02-16T09:00:00Z")),
            {"readmitted": 1.0, "length_of_stay": 4.0},
            id="on day 30, at a later hour than that of discharge",
        ),
        pytest.param(
            with_diabetes(encounter("2", "p", "2020-02-14T09:00:00Z", "2020-02-16T09:00:00Z")),
            {"readmitted": 0.0, "length_of_stay": 4.0},
            id="on day 31",
        ),
        pytest.param(
            with_diabetes(start="2020-01-10T20:00:00-05:00", end="2020-01-11T10:00:00-05:00"),
            {"readmitted": 0.0, "length_of_stay": 1.0},
            id="evening admission at -05:00, one local day",
        ),
    ],
)
def test_readmitted(tmp_path: Path, resources: list[Resource], wanted: Row) -> None:
    assert read_fhir(tmp_path, resources, TASK).of(*_OUTCOME) == wanted


def test_a_diagnosis_linked_by_the_encounter_only(tmp_path: Path) -> None:
    unlinked = diabetes("p", "1", id="c1")
    del unlinked["encounter"]
    link = [{"condition": {"reference": "Condition/c1"}, "rank": 1}]
    seen = read_fhir(tmp_path, one_stay(unlinked, diagnosis=link), TASK)
    assert seen.of(*_OUTCOME) == {"readmitted": 0.0, "length_of_stay": 4.0}


@pytest.mark.parametrize(
    ("system", "code"),
    [
        pytest.param(SNOMED, "44054006", id="SNOMED CT type 2 diabetes, below 73211009"),
        pytest.param(SNOMED, "46635009", id="SNOMED CT type 1 diabetes, below 73211009"),
        pytest.param("http://hl7.org/fhir/sid/icd-9-cm", "250.00", id="ICD-9-CM"),
        pytest.param("urn:oid:2.16.840.1.113883.6.90", "E11.9", id="ICD-10-CM by its OID"),
        pytest.param("http://fhir.de/CodeSystem/bfarm/icd-10-gm", "E11.90", id="ICD-10-GM"),
        pytest.param(ICD10CM, "E119", id="ICD-10-CM without the dot"),
    ],
)
def test_a_code_that_means_diabetes(tmp_path: Path, system: str, code: str) -> None:
    ancestors = tmp_path / "ancestors.csv"
    ancestors.write_text(_BELOW_DIABETES)
    seen = read_fhir(tmp_path, one_stay(diabetes("p", "1", system, code)), TASK, [ancestors])
    assert seen.of("readmitted", "diagnosis_1") == {"readmitted": 0.0, "diagnosis_1": "diabetes"}


def test_a_refuted_condition_is_no_diabetes(tmp_path: Path) -> None:
    refuted = diabetes("p", "1", verificationStatus={"coding": [{"code": "refuted"}]})
    assert read_fhir(tmp_path, one_stay(refuted), TASK).row is None


def test_a_reference_by_identifier_is_resolved_or_noted(tmp_path: Path) -> None:
    named = {"system": "s", "value": "9"}
    stay = encounter("1", "p", "2020-01-10T08:00:00Z", "2020-01-14T18:00:00Z")
    logical = stay | {"subject": {"identifier": named}}
    resources = [*later(), patient("p", identifier=[named]), logical, diabetes("p", "1")]
    seen = read_fhir(tmp_path, resources, TASK)
    assert seen.row is not None or seen.notes


def test_a_resource_with_several_codings_counts_once(tmp_path: Path) -> None:
    condition = diabetes("p", "1") | {
        "code": codings(
            (SNOMED, "73211009"),
            (ICD10CM, "E11.9"),
            ("urn:oid:2.16.840.1.113883.3.247.1.1", "IMO123"),
        )
    }
    tested = observation("p", "2020-01-11T08:00:00Z", 100, "2345-7", "mg/dL", **_WITHIN_STAY)
    tested |= {"code": codings((LOINC, "2345-7"), ("urn:local", "GLU"), (SNOMED, "1"))}
    procedure = {
        "resourceType": "Procedure",
        "status": "completed",
        **_WITHIN_STAY,
        "performedDateTime": "2020-01-11T08:00:00Z",
        "code": codings((SNOMED, "40617009"), ("http://www.ama-assn.org/go/cpt", "94002")),
    }
    seen = read_fhir(tmp_path, one_stay(condition, tested, procedure), TASK)
    wanted = {"diagnoses": 1.0, "lab_procedures": 1.0, "procedures": 1.0}
    assert seen.of(*wanted) == wanted


def test_a_vital_sign_is_no_laboratory_procedure(tmp_path: Path) -> None:
    category = [{"coding": [{"code": "vital-signs"}]}]
    vital = observation("p", "2020-01-11T08:00:00Z", 100, category=category) | _WITHIN_STAY
    seen = read_fhir(tmp_path, with_diabetes(vital), TASK)
    assert seen.of("lab_procedures") == {"lab_procedures": 0.0}


def test_a_medication_by_reference_is_followed_or_noted(tmp_path: Path) -> None:
    medication = {"resourceType": "Medication", "id": "m", "code": {"text": "metformin"}}
    order = {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        **_WITHIN_STAY,
        "authoredOn": "2020-01-11",
        "medicationReference": {"reference": "Medication/m"},
    }
    seen = read_fhir(tmp_path, with_diabetes(medication, order), TASK)
    assert seen.notes or (isinstance(seen.row, dict) and seen.row["metformin"] != "no")


def test_the_later_instant_counts_not_the_later_text(tmp_path: Path) -> None:
    versions = [
        patient("p", gender="male", meta={"lastUpdated": "2020-01-01T12:00:00.000+00:00"}),
        patient("p", meta={"lastUpdated": "2020-01-01T11:30:00.000-05:00"}),
    ]
    stay = encounter("1", "p", "2020-01-10T09:00:00Z", "2020-01-14T09:00:00Z")
    seen = read_fhir(tmp_path, [*later(), *versions, stay, diabetes("p", "1")], TASK)
    assert seen.of("sex") == {"sex": "female"}
