"""What the shipped views make of a ward's records that are no plain facts: one small case a
promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client.data import templates
from client.data.sources.settings import Fhir, Sources
from client.data.view_reader import read
from tasks.schema import Table
from tests.cases.ehr.records import (
    SNOMED,
    Resource,
    codings,
    encounter,
    later,
    observation,
    patient,
)
from tests.client.data.clinical_facts import SYSTEMS

_STAY = "2020-01-10T09:00:00Z", "2020-01-14T09:00:00Z"
_OPIOID = SYSTEMS["ATC"], "N02AA01"
_OF = {"subject": {"reference": "Patient/p"}}


def stay(**more: Any) -> Resource:
    return encounter("1", "p", *_STAY, **more)


def ward(folder: Path, *resources: Resource, about: dict[str, Any] | None = None) -> Table:
    """All landmarks of patient p by the view over FHIR, in order."""
    lines = [*later(), patient("p", **(about or {})), *resources]
    (folder / "all.ndjson").write_text(
        "".join(json.dumps({"id": f"x{place}"} | line) + "\n" for place, line in enumerate(lines))
    )
    sources = Sources(fhir=Fhir(folder=folder, views=templates.definitions("deterioration")))
    table = read(sources, templates.view("template:fhir", "deterioration"), time_zone="UTC")
    mine = [place for place, who in enumerate(table["patient"]) if who == "Patient/p"]
    return {name: values[mine] for name, values in table.items()}


def labels(table: Table) -> list[float | None]:
    return [None if label != label else float(label) for label in table["deteriorated"]]


def prescribed(*codes: tuple[str, str], **more: Any) -> Resource:
    return {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "authoredOn": "2020-01-10T12:00:00Z",
        "medicationCodeableConcept": codings(*codes),
        **_OF,
        **more,
    }


def done(code: str, **more: Any) -> Resource:
    return {
        "resourceType": "Procedure",
        "status": "completed",
        "performedDateTime": "2020-01-10T12:00:00Z",
        "code": codings((SNOMED, code)),
        **_OF,
        **more,
    }


def test_a_second_coding_makes_no_second_group(tmp_path: Path) -> None:
    own = "http://hospital.example.org/drugs", "MORPH10"
    table = ward(tmp_path, stay(), prescribed(_OPIOID, own))
    first = {name: table[name][0] for name in ("medicine_1", "medicine_2", "medicines")}
    assert first == {"medicine_1": "opioid", "medicine_2": None, "medicines": 1}


@pytest.mark.parametrize(
    ("event", "count"),
    [
        (prescribed(_OPIOID), 1),
        (prescribed(_OPIOID, intent="plan"), 1),  # US Core: what the patient says he takes
        (prescribed(_OPIOID, intent="proposal"), 0),
        (prescribed(_OPIOID, intent="option"), 0),
        (prescribed(_OPIOID, status="draft"), 0),
        (done("108241001"), 1),
        (done("108241001", status="preparation"), 0),
    ],
)
def test_what_is_only_prepared_has_not_begun(tmp_path: Path, event: Resource, count: int) -> None:
    table = ward(tmp_path, stay(), event)
    assert table["medicines"][0] + table["procedures"][0] == count


@pytest.mark.parametrize(
    ("status", "label"),
    [("active", 1.0), ("completed", 1.0), (None, 1.0), ("planned", 0.0), ("reserved", 0.0)],
)
def test_a_bed_that_is_only_kept_free_is_no_intensive_care(
    tmp_path: Path, status: str | None, label: float
) -> None:
    place = {
        "location": {"reference": "Location/icu"},
        "period": {"start": "2020-01-11T12:00:00Z"},
        **({"status": status} if status else {}),
    }
    role = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
    unit = {"resourceType": "Location", "id": "icu", "type": [codings((role, "ICU"))]}
    assert labels(ward(tmp_path, stay(location=[place]), unit))[0] == label


def test_who_is_in_intensive_care_from_the_first_is_on_no_ward(tmp_path: Path) -> None:
    """The unit's clock goes ten minutes before the hospital's."""
    unit: Resource = {"type": [codings((SNOMED, "305351004"))]}
    period = "2020-01-10T08:50:00Z", "2020-01-12T09:00:00Z"
    apart = encounter("i", "p", *period, kind="VR", **unit)
    assert labels(ward(tmp_path, stay(), apart)) == []


def test_an_average_is_known_when_its_time_is_over(tmp_path: Path) -> None:
    average = observation("p", "", 80) | {
        "effectivePeriod": {"start": "2020-01-10T12:00:00Z", "end": "2020-01-11T06:00:00Z"}
    }
    del average["effectiveDateTime"]
    seen = ward(tmp_path, stay(), average)["heart_rate"]
    assert seen[0] != seen[0]
    assert seen[1] == 80


def test_of_an_arrest_without_a_time_no_hour_is_made_up(tmp_path: Path) -> None:
    """Landmarks from the evening of the 10th on; those that may come after it are left out."""
    arrest = {"resourceType": "Condition", "code": codings((SNOMED, "410429000")), **_OF}
    timed = ward(tmp_path, stay(), arrest | {"onsetDateTime": "2020-01-12T20:00:00Z"})
    assert labels(timed) == [0, 0, 1, 1]
    (tmp_path / "day").mkdir()
    day = ward(tmp_path / "day", stay(), arrest | {"onsetDateTime": "2020-01-12"})
    assert labels(day) == [0, None, None]


@pytest.mark.parametrize("day", ["2020", "2020-01"])
def test_a_death_of_some_day_of_the_month_keeps_the_stay_before_it(
    tmp_path: Path, day: str
) -> None:
    home = {"hospitalization": {"dischargeDisposition": {"coding": [{"code": "home"}]}}}
    table = ward(tmp_path, stay(**home), about={"deceasedDateTime": day})
    assert labels(table) == [0, 0, 0, 0, 0, 0, None]


@pytest.mark.parametrize("died", ["1", "1.0", "True", "true"])
def test_a_flag_is_one_as_other_programs_write_it(tmp_path: Path, died: str) -> None:
    """pandas writes whole numbers with a fraction where some are missing."""
    told = {
        "patients": "patient,sex,birth,death\n1,female,1950-01-01,\n2,male,1950-01-01,\n",
        "stays": "patient,kind,started,ended,died\n"
        f"1,inpatient,2020-01-10 09:00,2020-01-11 09:00,{died}\n"
        "2,inpatient,2020-03-10 09:00,2020-03-11 09:00,\n",
        "results": "patient,taken,system,code,value,unit\n1,2020-01-10 10:00,LOINC,8867-4,80,\n",
        "events": "patient,happened,kind,system,code\n1,2020-01-10 10:00,medicine,ATC,N02AA01\n",
    }
    files = {name: tmp_path / f"{name}.csv" for name in told}
    for name, text in told.items():
        files[name].write_text(text)
    view = templates.view("template:csv", "deterioration")
    table = read(Sources(files=files), view, time_zone="UTC")
    assert labels(table) == [1, 0]
