"""The same patients as a FHIR export, an OMOP CDM and CSV files, with the dirt that records have.

What is true is drawn first (`draw`): stays in hospital as days and times at the site, bookings,
cancelled ones, deaths. `write` then tells it in one of the styles in which sites tell time: stays
fall into segments, times have any offset, a death is known by one source alone. `answers` works out
from the truth, by itself, what a cohort must say.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from client.data import templates
from client.data.sources.settings import Fhir, Omop, Sources
from client.data.view_reader import read
from tests.client.data.clinical_facts import SYSTEMS, write_omop

ZONE = "Europe/Paris"
RELEASED = date(2021, 6, 30)
"""The last day of which the records tell."""
Style = Literal["times", "days", "midnight"]
STYLES: tuple[Style, ...] = ("times", "days", "midnight")
Route = Literal["fhir", "omop", "csv"]
ROUTES: tuple[Route, ...] = ("fhir", "omop", "csv")
Left = Literal["home", "dead"]
HOME: Left = "home"
_DIABETES = "ICD10CM", "E11.9"
GENDERS = {"female": 8532, "male": 8507, None: 0}


@dataclass(frozen=True)
class Stay:
    """In hospital from start to stop (None: still there), at the site's clock; moved to another
    department at each of `moves`."""

    start: datetime
    stop: datetime | None
    moves: tuple[datetime, ...] = ()
    urgent: bool = False
    diabetes: bool = True
    left: Left | None = None
    """What the discharge says; None: nothing."""
    intensive: tuple[datetime, datetime] | None = None
    """When it was in intensive care."""

    @property
    def days(self) -> int | None:
        return (self.stop.date() - self.start.date()).days if self.stop else None


@dataclass(frozen=True)
class Patient:
    """death: by the register of deaths, which may know what no discharge says. undated: dead, and
    nobody knows since when. contacts: with an outpatient department."""

    number: int
    born: date
    stays: tuple[Stay, ...]
    died_in_last: bool = False
    death: datetime | None = None
    bookings: tuple[datetime, ...] = ()
    cancelled: tuple[datetime, ...] = ()
    undated: bool = False
    contacts: tuple[datetime, ...] = ()

    @property
    def sex(self) -> Literal["female", "male"] | None:
        return None if self.number % 11 == 0 else ("male", "female")[self.number % 2]

    def age(self, day: date) -> float:
        return day.year - self.born.year - ((day.month, day.day) < (self.born.month, self.born.day))

    def died(self, stay: Stay) -> bool | None:
        """Whether in this stay; None where nobody can know."""
        if self.died_in_last and stay is self.stays[-1]:
            return True
        if stay.stop is None:
            return None
        later = any(other.start.date() > stay.stop.date() for other in self.stays)
        return None if self.undated and not later and stay.left is None else False


@dataclass(frozen=True)
class Answers:
    """cohort: patient -> (age, length of stay, stays and outpatient contacts in the year before,
    readmitted);
    deaths: (patient, first day of the stay) -> died in it; intensive: patient -> (age, first day
    in intensive care, died in hospital). None: unknown."""

    cohort: dict[str, tuple[float, float, float, float, float | None]]
    deaths: dict[tuple[str, date], bool | None]
    intensive: dict[str, tuple[float, date, bool | None]]


def draw(seed: int, number: int) -> list[Patient]:
    """`number` patients; the last one leaves on the day of the release."""
    chance = random.Random(seed)
    patients = [_patient(chance, k) for k in range(1, number)]
    last = datetime.combine(RELEASED, datetime.min.time()) + timedelta(hours=9)
    return [*patients, Patient(number, date(1950, 1, 1), (Stay(last - timedelta(days=3), last),))]


def _patient(chance: random.Random, number: int) -> Patient:
    released = datetime.combine(RELEASED, datetime.min.time())
    clock = datetime(2019, 1, 1) + timedelta(
        days=chance.randrange(880), hours=chance.randrange(4, 24)
    )
    stays: list[Stay] = []
    while clock < released - timedelta(days=21) and len(stays) < 4:
        stay = _stay(chance, clock)
        stays.append(stay)
        if stay.stop is None:
            break
        soon = timedelta(hours=chance.choice((3, 24 * 5, 24 * 29 + 12, 24 * 30, 24 * 31, 24 * 90)))
        clock = (stay.stop + soon).replace(minute=chance.randrange(60))
        if 2 <= clock.hour <= 3 or clock.date() == stay.start.date():  # no hour that comes twice
            clock += timedelta(days=1, hours=4)
    fate = chance.choice((*["alive"] * 3, "discharge", "register", "both", "home", "undated"))
    year = chance.randrange(1930, 1990) if chance.random() < 0.95 else 2002
    born = date(year, chance.randrange(1, 13), chance.randrange(1, 29))
    end = stays[-1].stop
    told, death = stays[-1], None
    if fate in ("discharge", "both") and end:
        told = Stay(**{**vars(told), "left": "dead"})
    if fate in ("register", "both"):
        told = told if fate == "both" else Stay(**{**vars(told), "left": None})
        death = end or told.start + timedelta(days=2)
    if fate == "home" and end:
        death = end + timedelta(days=chance.randrange(1, 60))
    return Patient(
        number,
        born,
        (*stays[:-1], told),
        died_in_last=fate in ("register", "both") or (fate == "discharge" and end is not None),
        death=death if death is None or death < released else None,
        bookings=(released + timedelta(days=chance.randrange(1, 400), hours=9),)
        if chance.random() < 0.3
        else (),
        cancelled=((end or told.start) + timedelta(days=chance.randrange(1, 25)),)
        if chance.random() < 0.3
        else (),
        undated=fate == "undated",
        contacts=tuple(
            moment
            for _ in range(chance.choice((0, 0, 1, 3)))
            if (moment := _contact(chance, stays[0].start)) < released
        ),
    )


def _contact(chance: random.Random, around: datetime) -> datetime:
    """In office hours of a day in the year before or the months after."""
    day = around + timedelta(days=chance.randrange(-400, 90))
    return day.replace(hour=chance.randrange(8, 17))


def _stay(chance: random.Random, start: datetime) -> Stay:
    if chance.random() < 0.06:
        return Stay(start, None)
    nights = chance.choice((0, 1, 2, 4, 7, 14, 15))
    stop = (start + timedelta(days=nights)).replace(hour=chance.randrange(9, 23))
    if nights == 0:
        stop = max(stop, start + timedelta(minutes=20)) if start.hour < 23 else start
    moves: tuple[datetime, ...] = ()
    if nights > 1 and chance.random() < 0.5:
        days = sorted(chance.sample(range(1, nights), min(nights - 1, chance.randrange(1, 3))))
        moves = tuple((start + timedelta(days=day)).replace(hour=12) for day in days)
    left = chance.choice((HOME, HOME, None))
    intensive = None
    if nights > 2 and chance.random() < 0.4:
        begun = (start + timedelta(days=chance.randrange(1, nights - 1))).replace(hour=14)
        intensive = begun, begun + timedelta(hours=chance.randrange(2, 18))
    urgent, diabetes = chance.random() < 0.5, chance.random() < 0.8
    return Stay(start, stop, moves, urgent, diabetes, left, intensive)


def answers(patients: Iterable[Patient]) -> Answers:
    """What the cohort of readmissions and the deaths in hospital must be."""
    cohort, deaths = {}, dict[tuple[str, date], bool | None]()
    intensive = dict[str, tuple[float, date, bool | None]]()
    for patient in patients:
        died = {stay: patient.died(stay) for stay in patient.stays}
        for stay in patient.stays:
            deaths[str(patient.number), stay.start.date()] = died[stay]
        first = next((stay for stay in patient.stays if stay.intensive), None)
        if first and first.intensive and patient.age(day := first.intensive[0].date()) >= 18:
            intensive[str(patient.number)] = patient.age(day), day, died[first]
        for stay in patient.stays:
            if stay.stop and 1 <= (stay.days or 0) <= 14 and stay.diabetes and not died[stay]:
                cohort[str(patient.number)] = _features(patient, stay, stay.stop.date(), died)
                break
    return Answers(cohort, deaths, intensive)


def _features(
    patient: Patient, stay: Stay, left: date, died: dict[Stay, bool | None]
) -> tuple[float, float, float, float, float | None]:
    came = stay.start.date()
    year_ago = came.replace(
        year=came.year - 1, day=min(came.day, 28) if came.month == 2 else came.day
    )
    before = sum(year_ago <= other.start.date() < came for other in patient.stays)
    contacts = sum(year_ago <= contact.date() < came for contact in patient.contacts)
    real = [s for s in patient.stays if s is not stay and (s.days != 0 or s.urgent or died[s])]
    again = any(0 <= (other.start.date() - left).days <= 30 for other in real)
    known = left + timedelta(days=30) <= RELEASED and died[stay] is not None
    return (
        patient.age(came),
        stay.days or 0,
        before,
        contacts,
        1.0 if again else 0.0 if known else None,
    )


# Telling it


@dataclass(frozen=True)
class Segment:
    """A stay, or a part of it, as one encounter or visit."""

    name: int
    start: datetime
    stop: datetime | None
    stay: Stay
    first: bool
    last: bool
    diabetes: bool


def intensive_spans(part: Segment, style: Style) -> list[tuple[datetime, datetime]]:
    """The spans of intensive care that begin in a segment: two, with a pause in which the patient
    is moved, where times of day tell that they are one stay."""
    if part.stay.intensive is None:
        return []
    begun, over = part.stay.intensive
    if begun < part.start or (part.stop is not None and begun >= part.stop):
        return []
    if style != "times" or part.name % 2:
        return [(begun, over)]
    middle = begun + (over - begun) / 2
    return [(begun, middle), (middle + timedelta(minutes=20), over)]


def sources(folder: Path, patients: Sequence[Patient], route: Route, style: Style) -> Sources:
    """The patients as one kind of source."""
    chance = random.Random(len(patients))
    folder.mkdir()
    match route:
        case "fhir":
            _write_fhir(folder, patients, style, chance)
            return Sources(fhir=Fhir(folder=folder, views=templates.definitions("readmission")))
        case "omop":
            _write_omop(folder, patients, style, chance)
            return Sources(omop=Omop(folder=folder))
        case "csv":
            _write_csv(folder, patients, style, chance)
            return Sources(
                files={name: folder / f"{name}.csv" for name in ("persons", "encounters")}
            )


def segments_of(patient: Patient, chance: random.Random) -> list[Segment]:
    made = list[Segment]()
    for stay in patient.stays:
        starts, stops = (stay.start, *stay.moves), (*stay.moves, stay.stop)
        ill = chance.randrange(len(starts))
        for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            name = 1000 * patient.number + len(made)
            pause = timedelta(minutes=chance.choice((0, 0, 20)))
            begun = start + pause if k else start
            last = k == len(stay.moves)
            made.append(Segment(name, begun, stop, stay, k == 0, last, stay.diabetes and k == ill))
    return made


def time_text(
    moment: datetime | None, style: Style, chance: random.Random | None = None
) -> str | None:
    """A time as a text: of the style "times" with an offset from UTC, any of three; without
    `chance` as the site's clock shows it."""
    if moment is None:
        return None
    if style == "days":
        return str(moment.date())
    local = moment.replace(tzinfo=ZoneInfo(ZONE))
    if style == "midnight":
        local = local.replace(hour=0, minute=0)
        return local.isoformat() if chance else f"{local:%Y-%m-%d %H:%M:%S}"
    if chance is None:
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    zone = chance.choice((ZoneInfo(ZONE), UTC, timezone(timedelta(hours=-5))))
    return local.astimezone(zone).isoformat().replace("+00:00", "Z")


def _write_fhir(
    folder: Path, patients: Sequence[Patient], style: Style, chance: random.Random
) -> None:
    made = list[dict[str, Any]]()
    for patient in patients:
        of = {"subject": {"reference": f"Patient/{patient.number}"}}
        about: dict[str, Any] = {"birthDate": str(patient.born), "gender": patient.sex or "other"}
        if patient.death:
            about["deceasedDateTime"] = time_text(patient.death, style, chance)
        if patient.undated:
            about["deceasedBoolean"] = True
        made.append({"resourceType": "Patient", "id": str(patient.number), **about})
        segments = segments_of(patient, chance)
        for stay in patient.stays:
            parts = [segment for segment in segments if segment.stay is stay]
            nested = len(parts) > 1 and chance.random() < 0.5
            for k, part in enumerate(parts):
                links: dict[str, Any] = {"status": "finished"}
                if nested and k:  # each part of the one before: the first one is the root
                    links["partOf"] = {"reference": f"Encounter/{parts[k - 1].name}"}
                hospital = _hospitalization(part, style)
                period = _period(part.start, part.stop, style, chance)
                places: list[dict[str, Any]] = [
                    {
                        "location": {"reference": "Location/icu"},
                        "period": _period(*span, style, chance),
                    }
                    for span in intensive_spans(part, style)
                ]
                if chance.random() < 0.3:  # a bed that was only kept free
                    kept = {"status": chance.choice(("planned", "reserved"))}
                    where_to = {"location": {"reference": "Location/icu"}, "period": period}
                    places.append(where_to | kept)
                where = {"location": places} if places else {}
                made.append(_encounter(part.name, period, of | links | hospital | where))
                if part.diabetes:
                    code = {"system": SYSTEMS[_DIABETES[0]], "code": _DIABETES[1]}
                    during = {"encounter": {"reference": f"Encounter/{part.name}"}}
                    made.append(
                        {"resourceType": "Condition", **of, **during, "code": {"coding": [code]}}
                    )
        for status, moments in (("planned", patient.bookings), ("cancelled", patient.cancelled)):
            for k, moment in enumerate(moments):
                period = _period(moment, moment + timedelta(days=2), style, chance)
                name = 1000 * patient.number + 900 + k + 50 * (status == "planned")
                wrong = chance.choice((status, "entered-in-error"))
                made.append(_encounter(name, period, of | {"status": wrong}))
        for k, moment in enumerate(patient.contacts):
            period = _period(moment, moment + timedelta(minutes=30), style, chance)
            seen = of | {"status": "finished", "class": {"code": "AMB"}}
            made.append(_encounter(1000 * patient.number + 800 + k, period, seen))
    role = {"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "ICU"}
    made.append({"resourceType": "Location", "id": "icu", "type": [{"coding": [role]}]})
    for kind in ("Patient", "Encounter", "Condition", "Location"):
        lines = [
            json.dumps({"id": f"c{k}"} | r) for k, r in enumerate(made) if r["resourceType"] == kind
        ]
        (folder / f"{kind}.ndjson").write_text("\n".join(lines) + "\n")


def _encounter(name: int, period: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    what = {"resourceType": "Encounter", "id": str(name), "class": {"code": "IMP"}}
    return what | {"period": period} | more


def _period(
    start: datetime, stop: datetime | None, style: Style, chance: random.Random
) -> dict[str, Any]:
    end = {"end": time_text(stop, style, chance)} if stop else {}
    return {"start": time_text(start, style, chance)} | end


def _hospitalization(part: Segment, style: Style) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if part.last and part.stay.left:
        code = {"home": "home", "dead": "exp"}[part.stay.left]
        said["dischargeDisposition"] = {"coding": [{"code": code}]}
    if not part.first and style != "times":  # days alone do not tell a move from a return
        said["admitSource"] = {"coding": [{"code": "hosp-trans"}]}
    urgent = {"priority": {"coding": [{"code": "EM"}]}} if part.stay.urgent else {}
    return {"hospitalization": said} | urgent


def _write_omop(
    folder: Path, patients: Sequence[Patient], style: Style, chance: random.Random
) -> None:
    write_omop(folder, [])
    release = {"cdm_source_name": "x", "cdm_version": "v5.4", "source_release_date": str(RELEASED)}
    (folder / "cdm_source.csv").write_text(f"{','.join(release)}\n{','.join(release.values())}\n")
    append_rows(
        folder / "concept.csv",
        [{"concept_id": 5, "vocabulary_id": _DIABETES[0], "concept_code": _DIABETES[1]}],
    )
    for patient in patients:
        born, person = patient.born, {"person_id": patient.number}
        about = {"year_of_birth": born.year, "month_of_birth": born.month, "day_of_birth": born.day}
        append_rows(
            folder / "person.csv", [person | about | {"gender_concept_id": GENDERS[patient.sex]}]
        )
        if patient.death:
            day, time = date_columns("death", patient.death, style)
            append_rows(folder / "death.csv", [person | day | time])
        if patient.undated:
            append_rows(folder / "death.csv", [person])
        visits, conditions = [], []
        details = list[dict[str, Any]]()
        for part in segments_of(patient, chance):
            visit = person | {"visit_occurrence_id": part.name, "visit_concept_id": 9201}
            for name, moment in (("visit_start", part.start), ("visit_end", part.stop)):
                for cell in date_columns(name, moment, style) if moment else ():
                    visit |= cell
            visit["discharged_to_concept_id"] = 0
            if part.last and part.stay.left:
                visit["discharged_to_concept_id"] = {"home": 8536, "dead": 4216643}[part.stay.left]
            if part.stay.urgent and part.first:
                visit["admitted_from_concept_id"] = 8870
            if not part.first and style != "times":
                visit["admitted_from_concept_id"] = 9201
            visits.append(visit)
            for span in intensive_spans(part, style):
                detail = person | {"visit_occurrence_id": part.name}
                detail |= {"visit_detail_id": 10 * part.name + len(details)}
                detail |= {"visit_detail_concept_id": 32037}
                for name, moment in zip(("start", "end"), span, strict=True):
                    for cell in date_columns(f"visit_detail_{name}", moment, style):
                        detail |= cell
                details.append(detail)
            if part.diabetes:
                conditions.append(
                    person
                    | {
                        "condition_occurrence_id": part.name,
                        "visit_occurrence_id": part.name,
                        "condition_concept_id": 0,
                        "condition_start_date": str(part.start.date()),
                        "condition_source_concept_id": 5,
                    }
                )
        for k, moment in enumerate(patient.bookings):
            visit = person | {"visit_occurrence_id": 1000 * patient.number + 900 + k}
            visit |= {"visit_concept_id": 9201}
            for name in ("visit_start", "visit_end"):
                for cell in date_columns(name, moment, style):
                    visit |= cell
            visits.append(visit)
        for k, moment in enumerate(patient.contacts):
            visit = person | {"visit_occurrence_id": 1000 * patient.number + 800 + k}
            visit |= {"visit_concept_id": 9202}
            for name in ("visit_start", "visit_end"):
                for cell in date_columns(name, moment, style):
                    visit |= cell
            visits.append(visit)
        append_rows(folder / "visit_occurrence.csv", visits)
        append_rows(folder / "condition_occurrence.csv", conditions)
        append_rows(folder / "visit_detail.csv", details)


def date_columns(
    name: str, moment: datetime, style: Style
) -> tuple[dict[str, Any], dict[str, Any]]:
    time = "" if style == "days" else time_text(moment, style)
    return {f"{name}_date": str(moment.date())}, {f"{name}_datetime": time}


def append_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open(newline="") as file:
        names = next(csv.reader(file))
    with path.open("a", newline="") as file:
        csv.DictWriter(file, names).writerows(rows)


def _write_csv(
    folder: Path, patients: Sequence[Patient], style: Style, chance: random.Random
) -> None:
    with_offsets = chance if style == "times" and chance.random() < 0.5 else None
    people, encounters = [], list[dict[str, Any]]()
    for patient in patients:
        death = time_text(patient.death, style, with_offsets)
        about = {"number": patient.number, "born": str(patient.born), "died": death}
        people.append(about | {"dead": int(patient.undated or death is not None)})
        for part in segments_of(patient, chance):
            encounters.append(
                {
                    "number": patient.number,
                    "encounter": part.name,
                    "status": "done",
                    "kind": "inpatient",
                    "start": time_text(part.start, style, with_offsets),
                    "stop": time_text(part.stop, style, with_offsets),
                    "left_to": part.stay.left if part.last else None,
                    "came_from": None if part.first or style == "times" else "hospital",
                    "urgent": int(part.stay.urgent and part.first),
                    "diabetes": int(part.diabetes),
                }
            )
            for start, stop in intensive_spans(part, style):
                encounters.append(
                    {
                        "number": patient.number,
                        "encounter": part.name,
                        "status": "done",
                        "kind": "icu",
                        "start": time_text(start, style, with_offsets),
                        "stop": time_text(stop, style, with_offsets),
                    }
                )
        for status, moments in (("booked", patient.bookings), ("cancelled", patient.cancelled)):
            for moment in moments:
                told = time_text(moment, style, with_offsets)
                of = {"number": patient.number, "encounter": -len(encounters), "status": status}
                encounters.append(of | {"kind": "inpatient", "start": told, "stop": told})
        for moment in patient.contacts:
            told = time_text(moment, style, with_offsets)
            of = {"number": patient.number, "encounter": -len(encounters), "status": "done"}
            encounters.append(of | {"kind": "outpatient", "start": told, "stop": told})
    for name, rows in (("persons", people), ("encounters", encounters)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, max(map(list, rows), key=len))
            writer.writeheader()
            writer.writerows(rows)


_CSV_SOURCE = """-- A site's own names for what the shipped parts read.
WITH RECURSIVE people AS (
  SELECT CAST(number AS VARCHAR) AS patient, 'female' AS sex, calendar_day(born) AS birth,
    dead = 1 AS dead, calendar_day(died) AS death_earliest,
    calendar_day(died) AS death_latest, instant(died) AS death_at, number AS person
  FROM persons
),
segment AS (
  SELECT encounter AS visit, CAST(number AS VARCHAR) AS patient, CAST(NULL AS BIGINT) AS part_of,
    kind,
    calendar_day(start) AS started_earliest, calendar_day(start) AS started_latest,
    instant(start) AS started_at, calendar_day(stop) AS ended_on, instant(stop) AS ended_at,
    coalesce(left_to = 'dead', false) AS left_dead, left_to <> 'dead' AS left_alive,
    false AS hospice, CASE WHEN urgent = 1 THEN 'urgent' END AS admission_type,
    CAST(came_from AS VARCHAR) AS admission_source, left_to AS discharged_to
  FROM encounters WHERE status = 'done'
),
covered AS (SELECT max(greatest(started_earliest, ended_on)) AS until FROM segment),
"""
_CSV_FACTS = """
about_visit AS (SELECT visit, NULL AS payer, NULL AS specialty_name FROM segment),
planned_visit AS (SELECT visit FROM segment WHERE false),
meaning AS (SELECT 'diabetes' AS name, 1 AS code_id, 0 AS depth),
diagnosis AS (
  SELECT encounter AS visit, encounter AS entry, diabetes AS code_id, 'E11.9' AS code, 1 AS rank,
    encounter AS place
  FROM encounters
),
treated AS (SELECT visit FROM planned_visit),
tested AS (
  SELECT visit, visit AS entry, '' AS name, '' AS display, 0.0 AS value, '' AS unit
  FROM planned_visit
),
drug AS (
  SELECT '' AS patient, visit, DATE '2000-01-01' AS at_time, '' AS prescription, '' AS product,
    '' AS ingredients
  FROM planned_visit
),
"""
_AFTER_STAYS = {"fhir": "about_visit AS (", "omop": "payer AS ("}
_INTENSIVE = """done AS (SELECT 1)
SELECT patient, age, CAST(day AS VARCHAR) AS day, died_in_hospital FROM stay"""
_DEATHS = """done AS (SELECT 1)
SELECT patient, CAST(started_earliest AS VARCHAR) AS day, CAST(died AS DOUBLE) AS died
FROM stays WHERE kind = 'inpatient'"""


def found(sources: Sources, route: Route) -> Answers:
    """What the shipped parts say of the patients."""
    folder = Path(templates.__file__).parent
    if route == "csv":
        shared = _CSV_SOURCE + (folder / "stays.sql").read_text()
        task = (folder / "task" / "readmission.sql").read_text()
        view = shared + _CSV_FACTS + task
        intensive = shared + (folder / "icu_stays.sql").read_text()
    else:
        view = templates.view(f"template:{route}", "readmission")
        shared = view[: view.index(_AFTER_STAYS[route])]
        intensive = templates.view(f"template:{route}", "icu_mortality")
        intensive = intensive[: intensive.index("observed AS (")]
    rows = read(sources, view, time_zone=ZONE)
    columns = ("age", "length_of_stay", "inpatient_stays", "outpatient_visits", "readmitted")
    values = zip(*(map(_known, rows[name]) for name in columns), strict=True)
    cohort = dict(zip(map(_number, rows["patient"]), values, strict=True))
    told = read(sources, shared + _DEATHS, time_zone=ZONE)
    stays = zip(map(_number, told["patient"]), map(date.fromisoformat, told["day"]), strict=True)
    deaths = dict(zip(stays, map(_whether, told["died"]), strict=True))
    if sources.fhir is not None:
        views = templates.definitions("icu_mortality")
        sources = Sources(fhir=Fhir(folder=sources.fhir.folder, views=views))
    cared = read(sources, intensive + _INTENSIVE, time_zone=ZONE)
    facts = zip(
        map(float, cared["age"]),
        map(date.fromisoformat, cared["day"]),
        map(_whether, cared["died_in_hospital"]),
        strict=True,
    )
    return Answers(cohort, deaths, dict(zip(map(_number, cared["patient"]), facts, strict=True)))


def _whether(value: float) -> bool | None:
    return None if math.isnan(value) else bool(value)


def _number(name: str) -> str:
    return name.removeprefix("Patient/")


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
