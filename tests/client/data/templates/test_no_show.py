"""Appointments: FHIR, OMOP and two CSV tables give what a computation apart from SQL gives."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.data import templates
from client.data.sources.settings import Fhir, Omop, Sources
from client.data.view_reader import read
from tasks.schema import Table

Appointment = tuple[str, datetime, datetime | None, str]
"""Patient, start, when it was made, status as FHIR has it."""


def appointments(seed: int) -> list[Appointment]:
    draw = np.random.default_rng(seed)
    found: list[Appointment] = []
    for patient in range(1, 25):
        for _ in range(int(draw.integers(0, 7))):
            start = datetime(2020, 1, 1, 8) + timedelta(hours=int(draw.integers(0, 24 * 1200)))
            made = start - timedelta(days=int(draw.integers(-2, 90)))
            status = str(draw.choice(["noshow", "fulfilled", "arrived", "cancelled", "booked"]))
            found.append((str(patient), start, made if draw.random() < 0.8 else None, status))
            if draw.random() < 0.2:  # a second one on the same day is no past
                found.append((str(patient), start.replace(hour=7), None, "noshow"))
    return found


def expected(found: list[Appointment]) -> list[tuple[Any, ...]]:
    held = [a for a in found if a[3] not in ("cancelled", "booked")]
    rows = []
    for patient, start, made, status in held:
        years = start.date().replace(year=start.year - 2)
        past = [a for a in held if a[0] == patient and years <= a[1].date() < start.date()]
        lead = (start.date() - made.date()).days if made else -1
        rows.append(
            (
                patient,
                start.year - 1960,
                float(lead) if lead >= 0 else "unknown",
                start.strftime("%A").lower(),
                float(start.hour),
                float(len(past)),
                float(sum(a[3] == "noshow" for a in past)),
                float(status == "noshow"),
            )
        )
    return sorted(rows, key=str)


def rows(table: Table) -> list[tuple[Any, ...]]:
    names = "patient age lead_days weekday hour appointments_before missed_before missed"
    columns = (table[name] for name in names.split())
    return sorted(
        (
            (patient.removeprefix("Patient/"), *("unknown" if v != v else v for v in row))
            for patient, *row in zip(*columns, strict=True)
        ),
        key=str,
    )


def seen(folder: Path, kind: str, found: list[Appointment]) -> Table:
    people = sorted({patient for patient, *_ in found})
    if kind == "omop":
        return read(_cdm(folder, people, found), templates.view("template:omop", "no_show"),
                    time_zone="UTC")  # fmt: skip
    view = templates.view(f"template:{kind}", "no_show")
    if kind == "csv":
        said = {"noshow": "Did not attend", "fulfilled": "attended", "arrived": " Arrived "}
        with (folder / "a.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["patient", "started", "made", "status"])
            writer.writerows((p, s, m or "", said.get(t, t)) for p, s, m, t in found)
        born = "".join(f"{patient},Female,1960-01-01\n" for patient in people)
        (folder / "p.csv").write_text(f"patient,sex,birth\n{born}")
        files = {"appointments": folder / "a.csv", "patients": folder / "p.csv"}
        return read(Sources(files=files), view, time_zone="UTC")
    resources: list[dict[str, Any]] = [
        {"resourceType": "Patient", "id": p, "gender": "female", "birthDate": "1960-01-01"}
        for p in people
    ]
    for number, (patient, start, made, status) in enumerate(found):
        actors = ("Practitioner/1", f"Patient/{patient}", "Location/2")
        resource: dict[str, Any] = {
            "resourceType": "Appointment",
            "id": str(number),
            "status": status,
            "start": f"{start.isoformat()}Z",
            "participant": [{"actor": {"reference": actor}} for actor in actors],
        }
        resources.append(resource | ({"created": f"{made.isoformat()}Z"} if made else {}))
    lines = "".join(json.dumps(resource) + "\n" for resource in resources)
    (folder / "all.ndjson").write_text(lines)
    views = templates.definitions("no_show")
    return read(Sources(fhir=Fhir(folder=folder, views=views)), view, time_zone="UTC")


def _cdm(
    folder: Path, people: list[str], found: list[Appointment], own: str = "missed_appointment"
) -> Sources:
    """Kept ones are outpatient visits; of those missed every third is an observation about a visit,
    every third a visit of a kind of its own, and the rest an observation without a visit."""
    born = {
        "gender_concept_id": 8532,
        "year_of_birth": 1960,
        "month_of_birth": 1,
        "day_of_birth": 1,
    }
    tables: dict[str, list[dict[str, Any]]] = {
        "cdm_source": [{"cdm_version": "v5.4"}],
        "person": [{"person_id": patient, **born} for patient in people],
        "concept": [
            {"concept_id": 2_000_000_001, "concept_code": "DNA", "concept_name": "did not attend",
             "vocabulary_id": "Clinic"},
            {"concept_id": 2_000_000_002, "concept_code": "DNA-V", "concept_name": "missed visit",
             "vocabulary_id": "Clinic"},
        ],
        "concept_ancestor": [{"ancestor_concept_id": 9202, "descendant_concept_id": 581477}],
        "visit_occurrence": [],
        "observation": [],
    }  # fmt: skip
    for number, (patient, start, _, status) in enumerate(found):
        if status in ("cancelled", "booked"):
            continue
        way = number % 3 if status == "noshow" else -1
        if way != 2:
            kind = 2_000_000_002 if way == 1 else (9202, 581477)[number % 2]
            tables["visit_occurrence"].append(
                {"visit_occurrence_id": number, "person_id": patient, "visit_concept_id": kind,
                 "visit_start_date": start.date(), "visit_start_datetime": start}
            )  # fmt: skip
        if way in (0, 2):
            tables["observation"].append(
                {"person_id": patient, "visit_occurrence_id": "" if way else number,
                 "observation_concept_id": 2_000_000_001, "observation_date": start.date(),
                 "observation_datetime": start}
            )  # fmt: skip
    for name, lines in tables.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, lines[0])
            writer.writeheader()
            writer.writerows(lines)
    sets = folder / "sets.csv.own"
    codes = "".join(f"{own},Clinic,{code},\n" for code in ("DNA", "DNA-V"))
    sets.write_text(f"name,system,code,display\n{codes}")
    return Sources(omop=Omop(folder=folder), value_sets=(sets,))


@pytest.mark.parametrize("kind", ["fhir", "csv", "omop"])
@pytest.mark.parametrize("seed", range(3))
def test_appointments_and_their_past(tmp_path: Path, kind: str, seed: int) -> None:
    found = appointments(seed)
    table = seen(tmp_path, kind, found)
    if kind == "omop":  # a CDM does not tell when they were made
        found = [(patient, start, None, status) for patient, start, _, status in found]
    assert rows(table) == expected(found)
    assert set(table["sex"]) == {"female"}


@pytest.mark.parametrize("release", ["2020-06-30", ""])
def test_a_visit_to_come_is_no_appointment_that_was_kept(tmp_path: Path, release: str) -> None:
    """By the release of the CDM, or by today where it states none."""
    after = datetime(2020, 7, 1, 9) if release else datetime(2099, 1, 1, 9)
    made: list[Appointment] = [
        ("1", datetime(2020, 6, 29, 9), None, "noshow"),
        ("1", datetime(2020, 6, 30, 9), None, "fulfilled"),
        ("1", after, None, "fulfilled"),
    ]
    sources = _cdm(tmp_path, ["1"], made)
    (tmp_path / "cdm_source.csv").write_text(f"cdm_version,source_release_date\nv5.4,{release}\n")
    table = read(sources, templates.view("template:omop", "no_show"), time_zone="UTC")
    assert [str(day)[:10] for day in table["day"]] == ["2020-06-29", "2020-06-30"]


def test_a_cdm_that_names_no_missed_appointment_is_no_cohort_of_patients_who_always_come(
    tmp_path: Path,
) -> None:
    found = appointments(0)
    people = sorted({patient for patient, *_ in found})
    sources = _cdm(tmp_path, people, found, own="another_set")
    table = read(sources, templates.view("template:omop", "no_show"), time_zone="UTC")
    assert len(table["patient"]) == 0
