"""Appointments of `same_patients` as a FHIR export, an OMOP CDM and CSV files, and what the rows of
the task `no_show` must be, worked out in pandas."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from client.data import templates
from client.data.sources.settings import Fhir, Omop, Sources
from client.data.view_reader import read
from tests.client.data.clinical_facts import write_omop
from tests.client.data.same_patients import (
    GENDERS,
    RELEASED,
    ZONE,
    Patient,
    Route,
    Style,
    append_rows,
    date_columns,
    time_text,
)

Row = dict[str, Any]
Fate = Literal["kept", "missed", "cancelled", "booked"]
_FHIR: dict[Fate, tuple[str, ...]] = {
    "kept": ("fulfilled", "arrived", "checked-in"),
    "missed": ("noshow",),
    "cancelled": ("cancelled", "entered-in-error"),
    "booked": ("booked", "pending", "proposed", "waitlist"),
}
_CSV: dict[Fate, tuple[str, ...]] = {
    "kept": ("Attended", "kept", " arrived ", "FULFILLED"),
    "missed": ("Did not attend", "no-show", "missed"),
    "cancelled": ("cancelled", "Entered in error"),
    "booked": ("booked", ""),
}
_MISSED, _MISSED_VISIT, _TELEHEALTH = 2_000_000_001, 2_000_000_002, 581477


@dataclass(frozen=True)
class Appointment:
    """At the site's clock. made: when, as a time, or as all that is known of it."""

    patient: int
    start: datetime
    made: datetime | str | None
    fate: Fate


def draw(patients: Sequence[Patient], seed: int) -> list[Appointment]:
    """Up to eight of each patient; those that are only booked lie beyond the records' last day."""
    chance = random.Random(seed)
    end = datetime.combine(RELEASED, datetime.min.time())
    found = []
    for patient in patients:
        for _ in range(chance.randrange(0, 9)):
            start = end - timedelta(days=chance.randrange(0, 1400)) + _hours(chance)
            fate: Fate = chance.choice(("kept", "kept", "kept", "missed", "cancelled", "booked"))
            if fate == "booked":
                start = end + timedelta(days=chance.randrange(1, 200)) + _hours(chance)
            made = start - timedelta(days=chance.randrange(-2, 120), hours=chance.randrange(0, 6))
            told = chance.choice((made, made, str(made.date()), f"{made:%Y-%m}", None))
            found.append(Appointment(patient.number, start, told, fate))
            if chance.random() < 0.15:  # a second one on the same day is no past
                found.append(Appointment(patient.number, start + timedelta(hours=1), None, fate))
    return found


def _hours(chance: random.Random) -> timedelta:
    return timedelta(hours=chance.randrange(7, 22), minutes=chance.choice((0, 15, 30)))


Rows = Counter[tuple[str | float, ...]]
COLUMNS = ("patient", "age", "sex", "lead_days", "weekday", "hour", "appointments_before",
           "missed_before", "missed", "day")  # fmt: skip


def expected(
    patients: Sequence[Patient], found: Sequence[Appointment], route: Route, style: Style
) -> Rows:
    """The rows, and how often each occurs; a CDM does not tell when an appointment was made."""
    about = {patient.number: patient for patient in patients}
    held = pd.DataFrame(
        [vars(a) for a in found if a.fate in ("kept", "missed")],
        columns=["patient", "start", "made", "fate"],
    )
    held["day"] = held["start"].dt.normalize()
    full = held["made"].map(lambda made: made is not None and len(str(made)) > 7)
    made_on = pd.to_datetime(held["made"].where(full).map(_day, na_action="ignore"))
    held["lead_days"] = (held["day"] - made_on).dt.days.astype(float)
    held.loc[(held["lead_days"] < 0) | (route == "omop"), "lead_days"] = float("nan")
    held["hour"] = held["start"].dt.hour.astype(float)
    if style != "times":
        held["hour"] = float("nan")
    held["missed"] = (held["fate"] == "missed").astype(float)
    held["number"] = held.index
    pairs = held.merge(held, on="patient", suffixes=("", " past"))
    years = pairs["day"] - pd.DateOffset(years=2)
    pairs = pairs[(pairs["day past"] < pairs["day"]) & (pairs["day past"] >= years)]
    past = pairs.groupby("number")["missed past"].agg(["size", "sum"]).reindex(held.index)
    held["appointments_before"] = past["size"].fillna(0.0)
    held["missed_before"] = past["sum"].fillna(0.0)
    held["weekday"] = held["day"].dt.day_name().str.lower()
    held["sex"] = held["patient"].map(lambda number: about[number].sex)
    held["age"] = [
        about[number].age(day) for number, day in zip(held["patient"], held["day"], strict=True)
    ]
    held["day"] = held["day"].dt.strftime("%Y-%m-%d")
    held["patient"] = held["patient"].astype(str)
    return _rows(held)


def _day(made: datetime | str) -> str:
    return str(made)[:10]


def _rows(table: pd.DataFrame) -> Rows:
    told = table[list(COLUMNS)].astype(object)
    return Counter(told.where(told.notna(), "unknown").itertuples(index=False, name=None))


def found(
    folder: Path,
    patients: Sequence[Patient],
    appointments: Sequence[Appointment],
    route: Route,
    style: Style,
) -> Rows:
    """What the shipped view says of the appointments, told as one kind of source."""
    chance = random.Random(len(appointments))
    folder.mkdir()
    match route:
        case "fhir":
            sources = _fhir(folder, patients, appointments, style, chance)
        case "omop":
            sources = _omop(folder, patients, appointments, style, chance)
        case "csv":
            sources = _csv(folder, patients, appointments, style, chance)
    view = templates.view(f"template:{route}", "no_show")
    rows = pd.DataFrame(dict(read(sources, view, time_zone=ZONE)))
    rows["patient"] = rows["patient"].str.removeprefix("Patient/")
    rows["day"] = rows["day"].astype(str).str[:10]
    return _rows(rows)


def _made(one: Appointment, style: Style, chance: random.Random | None) -> str | None:
    if isinstance(one.made, datetime):
        return time_text(one.made, "days" if style == "midnight" else style, chance)
    return one.made


def _fhir(
    folder: Path,
    patients: Sequence[Patient],
    appointments: Sequence[Appointment],
    style: Style,
    chance: random.Random,
) -> Sources:
    resources: list[Row] = [
        {"resourceType": "Patient", "id": str(p.number), "birthDate": str(p.born)}
        | {"gender": p.sex or "other"}
        for p in patients
    ]
    forms = ("Patient/{}", "Patient/{}/_history/2", "https://ehr.example.org/fhir/Patient/{}")
    for number, one in enumerate(appointments):
        actors = [chance.choice(forms).format(one.patient), "Practitioner/1", "Location/2"]
        chance.shuffle(actors)
        made = _made(one, style, chance)
        resource: Row = {"resourceType": "Appointment", "id": str(number)} | {
            "start": time_text(one.start, "times" if style == "times" else "midnight", chance),
            "participant": [{"actor": {"reference": actor}} for actor in actors],
            **({"created": made} if made else {}),
        }
        versions = [({"status": chance.choice(_FHIR[one.fate])}, "2021-07-02T09:00:00Z")]
        if chance.random() < 0.2:  # the same one, as it was before
            versions.append(({"status": "booked"}, "2021-07-02T10:30:00+02:00"))
        for status, updated in versions:
            resources.append({**resource, **status, "meta": {"lastUpdated": updated}})
    chance.shuffle(resources)
    lines = "".join(json.dumps(resource) + "\n" for resource in resources)
    (folder / "all.ndjson").write_text(lines, encoding="utf-8")
    return Sources(fhir=Fhir(folder=folder, views=templates.definitions("no_show")))


def _omop(
    folder: Path,
    patients: Sequence[Patient],
    appointments: Sequence[Appointment],
    style: Style,
    chance: random.Random,
) -> Sources:
    """Of those missed some are an observation about a visit, some a visit of a kind of its own,
    some an observation without a visit. A booking is a visit to come."""
    write_omop(folder, [])
    release = {"cdm_source_name": "x", "cdm_version": "v5.4", "source_release_date": RELEASED}
    append_rows(folder / "cdm_source.csv", [release])
    append_rows(
        folder / "person.csv",
        [
            {"person_id": p.number, "gender_concept_id": GENDERS[p.sex]}
            | {"year_of_birth": p.born.year, "month_of_birth": p.born.month}
            | {"day_of_birth": p.born.day}
            for p in patients
        ],
    )
    own = {"vocabulary_id": "Clinic", "concept_name": "did not attend"}
    append_rows(
        folder / "concept.csv",
        [
            own | {"concept_id": _MISSED, "concept_code": "DNA"},
            own | {"concept_id": _MISSED_VISIT, "concept_code": "DNA-V"},
        ],
    )
    below = {"ancestor_concept_id": 9202, "descendant_concept_id": _TELEHEALTH}
    append_rows(folder / "concept_ancestor.csv", [below])
    visits, observations = list[Row](), list[Row]()
    for number, one in enumerate(appointments):
        if one.fate == "cancelled":
            continue
        way = chance.choice(("about", "kind", "alone")) if one.fate == "missed" else "visit"
        of = {"person_id": one.patient, "visit_occurrence_id": number}
        if way != "alone":
            kind = _MISSED_VISIT if way == "kind" else chance.choice((9202, _TELEHEALTH))
            day, time = date_columns("visit_start", one.start, style)
            visits.append(of | {"visit_concept_id": kind} | day | time)
        if way in ("about", "alone"):
            day, time = date_columns("observation", one.start, style)
            visit = {"visit_occurrence_id": number if way == "about" else ""}
            observations.append(of | visit | {"observation_concept_id": _MISSED} | day | time)
    for patient in patients:  # stays in hospital are no appointments
        day, time = date_columns("visit_start", patient.stays[0].start, style)
        of = {"person_id": patient.number, "visit_occurrence_id": 10**9 + patient.number}
        visits.append(of | {"visit_concept_id": 9201} | day | time)
    append_rows(folder / "visit_occurrence.csv", visits)
    _write(folder / "observation.csv", observations)
    sets = folder / "sets.csv.own"
    sets.write_text(
        "name,system,code,display\n"
        "missed_appointment,Clinic,DNA,\nmissed_appointment,Clinic,DNA-V,\n"
    )
    return Sources(omop=Omop(folder=folder), value_sets=(sets,))


def _csv(
    folder: Path,
    patients: Sequence[Patient],
    appointments: Sequence[Appointment],
    style: Style,
    chance: random.Random,
) -> Sources:
    offsets = chance if style == "times" and chance.random() < 0.5 else None
    people = [
        {"patient": p.number, "sex": (p.sex or "x").title(), "birth": p.born} for p in patients
    ]
    told = [
        {"patient": one.patient, "started": time_text(one.start, style, offsets)}
        | {"made": _made(one, style, offsets), "status": chance.choice(_CSV[one.fate])}
        for one in appointments
    ]
    _write(folder / "patients.csv", people)
    _write(folder / "appointments.csv", told)
    return Sources(files={name: folder / f"{name}.csv" for name in ("patients", "appointments")})


def _write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
