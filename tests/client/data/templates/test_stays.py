"""What the shipped views make of encounters that are no plain stays: one small case a promise."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from client.data import templates
from client.data.sources.settings import Fhir, Sources
from client.data.view_reader import read
from tests.cases.ehr.records import (
    Edit,
    Resource,
    diabetes,
    encounter,
    icu_stay,
    later,
    patient,
    read_fhir,
    read_omop,
)
from tests.client.data.clinical_facts import Person, Visit

_START, _END = "2020-01-10T09:00:00Z", "2020-01-14T09:00:00Z"


def coded(code: str) -> dict[str, Any]:
    return {"coding": [{"code": code}]}


def to(code: str) -> dict[str, Any]:
    return {"hospitalization": {"dischargeDisposition": coded(code)}}


def part_of(name: str) -> dict[str, Any]:
    return {"partOf": {"reference": f"Encounter/{name}"}}


def index(*more: Resource, about: dict[str, Any] | None = None, **stay: Any) -> list[Resource]:
    """A stay of four days with diabetes, and the records of another patient, a year later."""
    first = encounter("1", "p", _START, _END, **stay)
    return [*later(), patient("p", **(about or {})), first, diabetes("p", "1"), *more]


def readmitted(folder: Path, resources: list[Resource]) -> Any:
    """(readmitted, length of stay), or None for a patient who is not in the cohort."""
    row = read_fhir(folder, resources, "readmission").row
    assert row is None or isinstance(row, dict), row
    return row and (row["readmitted"], row["length_of_stay"])


_SOON = ("2020-01-20T09:00:00Z", "2020-01-22T09:00:00Z")


@pytest.mark.parametrize("status", ["planned", "cancelled", "entered-in-error"])
def test_what_did_not_happen_is_no_readmission(tmp_path: Path, status: str) -> None:
    assert readmitted(tmp_path, index(encounter("2", "p", *_SOON, status=status))) == (0.0, 4.0)


def test_a_booking_does_not_say_until_when_records_go(tmp_path: Path) -> None:
    booked = encounter("2", "q", "2022-01-01", None, status="planned")
    resources = [r for r in index(booked, patient("q")) if r.get("id") not in ("z", "ez")]
    assert readmitted(tmp_path, resources) == (None, 4.0)


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(encounter("2", "p", _END, "2020-01-16T09:00:00Z"), id="at the same moment"),
        pytest.param(
            encounter("2", "p", "2020-01-14T10:50:00+01:00", "2020-01-16T09:00:00Z"),
            id="within the hour, told at another offset",
        ),
        pytest.param(
            encounter("2", "p", "2020-01-14T12:00:00Z", "2020-01-16T09:00:00Z", **part_of("1")),
            id="part of the first",
        ),
        pytest.param(
            encounter("2", "p", "2020-01-12T12:00:00Z", "2020-01-16T09:00:00Z"), id="overlapping"
        ),
        pytest.param(
            encounter(
                "2", "p", "2020-01-14", "2020-01-16",
                hospitalization={"admitSource": coded("hosp-trans")},
            ),
            id="a day, by transfer",
        ),
    ],
)  # fmt: skip
def test_a_move_is_no_readmission(tmp_path: Path, second: Resource) -> None:
    assert readmitted(tmp_path, index(second)) == (0.0, 6.0)


def test_part_of_leads_up_to_the_root(tmp_path: Path) -> None:
    """The diagnosis is on a part of a part; the parts begin hours after one another."""
    parts = [
        encounter("2", "p", "2020-01-14T15:00:00Z", "2020-01-15T09:00:00Z", **part_of("1")),
        encounter("3", "p", "2020-01-15T15:00:00Z", "2020-01-16T09:00:00Z", **part_of("2")),
        diabetes("p", "3"),
    ]
    resources = [*later(), patient("p"), encounter("1", "p", _START, _END), *parts]
    assert readmitted(tmp_path, resources) == (0.0, 6.0)


def test_parts_of_what_is_not_exported_belong_together(tmp_path: Path) -> None:
    second = encounter("2", "p", "2020-01-15T15:00:00Z", "2020-01-16T09:00:00Z", **part_of("gone"))
    assert readmitted(tmp_path, index(second, **part_of("gone"))) == (0.0, 6.0)


def test_parts_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    second = encounter("2", "p", _START, "2020-01-16T09:00:00Z", **part_of("1"))
    assert readmitted(tmp_path, index(second, **part_of("2"))) == (0.0, 6.0)


def test_a_copy_of_the_stay_is_no_readmission(tmp_path: Path) -> None:
    assert readmitted(tmp_path, index(encounter("copy", "p", _START, _END))) == (0.0, 4.0)


@pytest.mark.parametrize(("class_of", "again"), [("EL", 0.0), ("EM", 1.0)])
def test_a_day_case_is_no_readmission_unless_urgent(
    tmp_path: Path, class_of: str, again: float
) -> None:
    day = ("2020-01-20T09:00:00Z", "2020-01-20T17:00:00Z")
    second = encounter("2", "p", *day, priority=coded(class_of))
    assert readmitted(tmp_path, index(second)) == (again, 4.0)


def test_a_readmission_that_goes_on_is_one(tmp_path: Path) -> None:
    """Its end is a plan as long as it is in progress."""
    going = encounter("2", "p", "2020-01-20", "2031-01-01", status="in-progress")
    assert readmitted(tmp_path, index(going)) == (1.0, 4.0)


def test_who_is_still_there_has_no_outcome(tmp_path: Path) -> None:
    assert readmitted(tmp_path, index(status="in-progress")) is None


@pytest.mark.parametrize(
    ("start", "again"),
    [("2020-02", None), ("2020", None), ("2020-03", 0.0), ("2020-01", None), ("2019", 0.0)],
)
def test_a_stay_of_some_month_may_be_a_readmission(
    tmp_path: Path, start: str, again: float | None
) -> None:
    assert readmitted(tmp_path, index(encounter("2", "p", start, None))) == (again, 4.0)


@pytest.mark.parametrize(
    ("about", "stay", "wanted"),
    [
        pytest.param({"deceasedBoolean": True}, {}, (None, 4.0), id="dead, nobody says when"),
        pytest.param({"deceasedBoolean": True}, to("home"), (0.0, 4.0), id="left alive"),
        pytest.param({"deceasedBoolean": False}, {}, (0.0, 4.0), id="alive"),
        pytest.param({"deceasedDateTime": "2020-01-14"}, {}, None, id="that day, by the register"),
        pytest.param({"deceasedDateTime": "2020-01"}, {}, (None, 4.0), id="that month"),
        pytest.param({"deceasedDateTime": "2020-02"}, {}, (0.0, 4.0), id="the month after"),
        pytest.param({}, to("exp"), None, id="by the discharge alone"),
    ],
)
def test_died_in_hospital(
    tmp_path: Path, about: dict[str, Any], stay: dict[str, Any], wanted: Any
) -> None:
    assert readmitted(tmp_path, index(about=about, **stay)) == wanted


def test_who_came_back_had_not_died(tmp_path: Path) -> None:
    second = encounter("2", "p", *_SOON)
    about = {"deceasedBoolean": True}
    assert readmitted(tmp_path, index(second, about=about)) == (1.0, 4.0)


def test_who_came_back_and_died_on_the_day_he_left_was_readmitted(tmp_path: Path) -> None:
    again = encounter("2", "p", "2020-01-14T15:00:00Z", "2020-01-14T18:00:00Z")
    about = {"deceasedDateTime": "2020-01-14T18:00:00Z"}
    assert readmitted(tmp_path, index(again, about=about)) == (1.0, 4.0)


def test_an_organ_donor_was_not_readmitted(tmp_path: Path) -> None:
    """Hospitals open another account a minute after death."""
    donor = encounter("2", "p", "2020-01-14T09:01:00Z", "2020-01-15T09:00:00Z")
    assert readmitted(tmp_path, index(donor, **to("exp"))) is None


@pytest.mark.parametrize(
    ("about", "stay", "died"),
    [
        pytest.param({"deceasedBoolean": True}, {}, None, id="dead, nobody says when"),
        pytest.param({"deceasedBoolean": True}, to("exp"), 1.0, id="by the discharge"),
        pytest.param({"deceasedDateTime": "2020-01-14"}, {}, 1.0, id="by the register"),
        pytest.param({"deceasedDateTime": "2020-01-15"}, {}, 0.0, id="the day after"),
        pytest.param({"deceasedDateTime": "2019-12-30"}, {}, None, id="before he came"),
        pytest.param({}, {}, 0.0, id="nothing known"),
    ],
)
def test_intensive_care_and_death(
    tmp_path: Path, about: dict[str, Any], stay: dict[str, Any], died: float | None
) -> None:
    resources = icu_stay((_START, _END), (_START, "2020-01-12T09:00:00Z"), **about)
    resources[1] |= stay
    assert read_fhir(tmp_path, resources, "icu_mortality").of("died") == {"died": died}


def test_a_bed_in_another_unit_is_the_same_stay_in_intensive_care(tmp_path: Path) -> None:
    """Twenty hours and twenty: 30 are needed."""
    first = icu_stay((_START, _END), (_START, "2020-01-11T05:00:00Z"))
    second = {**first[2], "id": "j", "period": {"start": "2020-01-11T05:00:00Z", "end": _END}}
    assert read_fhir(tmp_path, [*first, second], "icu_timeseries").of("died") == {"died": 0.0}


def omop(*visits: Visit, died: str | None = None) -> list[Person]:
    seen = Visit("outpatient", "2021-06-10T09:00:00", "2021-06-10T10:00:00")
    return [
        Person(1, "female", "1960-03-01", died, visits),
        Person(99, "female", "1960-03-01", visits=(seen,)),
    ]


_ILL = Visit(
    "inpatient", "2020-01-10T09:00:00", "2020-01-14T09:00:00",
    diagnoses=(("SNOMED", "73211009", "2020-01-10"),),
)  # fmt: skip
_AGAIN = Visit("inpatient", "2020-01-20T09:00:00", "2020-01-22T09:00:00")


@pytest.mark.parametrize("column", ["visit_type_concept_id", "discharged_to_concept_id"])
def test_a_visit_of_a_patient_who_is_still_there(tmp_path: Path, column: str) -> None:
    """The CDM wants an end of him too, the release; either column marks him."""
    going = Edit("visit_occurrence", 0, {column: 32220})
    assert read_omop(tmp_path, omop(_ILL), "readmission", [going]).row is None


@pytest.mark.parametrize(
    ("release", "again"), [("2020-01-15", None), ("2020-02-12", None), ("2020-02-13", 0.0)]
)
def test_the_release_says_until_when_records_go(
    tmp_path: Path, release: str, again: float | None
) -> None:
    """What begins later is a booking."""
    booked = Visit("inpatient", "2020-02-20T09:00:00", "2020-02-22T09:00:00")
    edit = Edit("cdm_source", 0, {"source_release_date": release})
    seen = read_omop(tmp_path, omop(_ILL, booked), "readmission", [edit])
    assert seen.of("readmitted") == {"readmitted": again}


def test_no_record_says_that_records_go_on_beyond_today(tmp_path: Path) -> None:
    """A year that was mistyped, or a booking of a CDM that states no release."""
    mistyped = encounter("2", "q", "2099-01-01", "2099-01-02")
    resources = [r for r in index(mistyped, patient("q")) if r.get("id") not in ("z", "ez")]
    today = f"{date.today()}T00:30:00Z"
    resources.append(encounter("3", "q", today, None, kind="AMB"))
    since = date.today() - timedelta(days=8)
    moved = json.loads(json.dumps(resources).replace("2020-01-14T", f"{since}T"))
    moved = json.loads(json.dumps(moved).replace("2020-01-10T", f"{since - timedelta(days=4)}T"))
    assert readmitted(tmp_path, moved) == (None, 4.0)
    booked = Visit("inpatient", "2099-02-20T09:00:00", "2099-02-22T09:00:00")
    ill = Visit(**{**vars(_ILL), "start": f"{since - timedelta(days=4)}T09:00:00",
                   "stop": f"{since}T09:00:00"})  # fmt: skip
    seen = read_omop(tmp_path, omop(ill, booked), "readmission")
    assert seen.of("readmitted") == {"readmitted": None}


def test_a_visit_that_goes_on_with_another_is_one_stay(tmp_path: Path) -> None:
    on = Visit("inpatient", "2020-01-14T09:00:00", "2020-01-16T09:00:00")
    seen = read_omop(tmp_path, omop(_ILL, on), "readmission")
    assert seen.of("readmitted", "length_of_stay") == {"readmitted": 0.0, "length_of_stay": 6.0}


@pytest.mark.parametrize("row", ["admission_type,elective", "http://snomed.info/sct,8000"])
def test_planned_readmissions_are_left_out_by_a_value_set(tmp_path: Path, row: str) -> None:
    """By the type of admission, or by a procedure."""
    second = encounter("2", "p", *_SOON, priority=coded("EL"))
    treated = {
        "resourceType": "Procedure",
        "status": "completed",
        "subject": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/2"},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "8000"}]},
    }
    assert readmitted(tmp_path, index(second, treated)) == (1.0, 4.0)
    sets = tmp_path / "sets.csv"
    sets.write_text(f"name,system,code,display\nplanned_readmission,{row},\n")
    export = Fhir(folder=tmp_path / "fhir", views=templates.definitions("readmission"))
    view = templates.view("template:fhir", "readmission")
    table = read(Sources(fhir=export, value_sets=(sets,)), view)
    assert table["readmitted"].tolist() == [0.0]
