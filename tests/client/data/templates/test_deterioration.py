"""Deterioration on generated wards: OMOP, FHIR and files give what a computation apart from
SQL gives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.data import templates
from client.data.cohort import Cohort
from client.data.sources.file_format import FileFormat
from client.data.sources.settings import Fhir, Omop, Sources
from client.data.view_reader import read
from protocol.study.study import Evaluation
from tasks import registry
from tasks.schema import Table
from tests.client.data.clinical_facts import (
    Person,
    Result,
    Visit,
    write_fhir,
    write_omop,
    write_ward,
)

CODES = {"heart_rate": ("8867-4", "/min"), "spo2": ("59408-5", "%"), "crp": ("1988-5", "mg/L")}
MEDICINES = {
    "J01CA04": "antibacterial",
    "N02AA01": "opioid",
    "C03CA01": "diuretic",
    "A02BC01": "other",
}
PROCEDURES = {"108241001": "dialysis", "387713003": "surgery", "71388002": "other"}
HOURS = {"heart_rate": 24, "spo2": 24, "crp": 48}
_DAY = timedelta(days=1)


def wards(seed: int, patients: int = 30) -> list[Person]:
    """Adults with one or two stays, vital signs at random hours, and one end of four."""
    draw = np.random.default_rng(seed)
    people = []
    for number in range(1, patients + 1):
        visits, died = [], None
        start = datetime(2021, 1, 1, 6) + timedelta(hours=int(draw.integers(0, 3000)))
        for _ in range(int(draw.integers(1, 3))):
            stop = start + timedelta(hours=int(draw.integers(6, 120)))
            end = draw.choice(["home", "home", "icu", "arrest", "dead"])
            when = start + (stop - start) * float(draw.uniform(0.3, 0.9))
            when = when.replace(minute=int(draw.integers(1, 60)), second=0, microsecond=0)
            results = tuple(
                Result(*CODES[name][:1], _text(_within(draw, start, stop)), value, CODES[name][1])
                for name in CODES
                for value in draw.integers(60, 100, int(draw.integers(0, 9))).astype(float)
            )
            visits.append(
                Visit(
                    "inpatient",
                    _text(start),
                    _text(stop),
                    to="dead" if end == "dead" else "home",
                    icu=(_text(when), _text(stop)) if end == "icu" else None,
                    results=results,
                    procedures=(
                        *([("89666000", _text(when))] if end == "arrest" else []),
                        *_some(draw, PROCEDURES, start, stop),
                    ),
                    medicines=_some(draw, MEDICINES, start, stop),
                )
            )
            if end == "dead":
                died = _text(stop)
                break
            start = stop + timedelta(hours=int(draw.integers(30, 900)))
        people.append(Person(number, "female", "1950-01-01", died, tuple(visits)))
    return people


def _within(draw: np.random.Generator, start: datetime, stop: datetime) -> datetime:
    return start + timedelta(minutes=int(draw.integers(0, int((stop - start).seconds / 60) + 1)))


def _some(
    draw: np.random.Generator, codes: Mapping[str, str], start: datetime, stop: datetime
) -> tuple[tuple[str, str], ...]:
    """Up to five of the codes, at any time; of the last one only the day is known."""
    chosen = draw.choice(list(codes), int(draw.integers(0, 6)))
    at = [_text(_within(draw, start, stop)) for _ in chosen]
    return tuple(zip(map(str, chosen), [*at[:-1], *(when[:10] for when in at[-1:])], strict=True))


def _text(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S")


def expected(people: list[Person]) -> dict[tuple[str, float, int], dict[str, Any]]:
    """(patient, hours in, place of the stay) -> the row, out of the facts."""
    last_day = max(datetime.fromisoformat(v.stop) for p in people for v in p.visits)
    until = last_day.replace(hour=0, minute=0, second=0) + _DAY
    rows = {}
    for person in people:
        events = [datetime.fromisoformat(v.icu[0]) for v in person.visits if v.icu]
        events += [_known(t) for v in person.visits for c, t in v.procedures if c == "89666000"]
        events += [datetime.fromisoformat(person.died)] if person.died else []
        found = [r for v in person.visits for r in v.results]
        for place, visit in enumerate(person.visits):
            start, stop = datetime.fromisoformat(visit.start), datetime.fromisoformat(visit.stop)
            onset = min((e for e in events if e >= start), default=datetime.max)
            for step in range(1, 29):
                at = start + step * timedelta(hours=12)
                if at >= stop or at >= onset:
                    break
                row: dict[str, Any] = {"deteriorated": float(onset <= at + _DAY)}
                if not row["deteriorated"] and at + _DAY > until:
                    row["deteriorated"] = np.nan
                for name, (code, _) in CODES.items():
                    window = [
                        (datetime.fromisoformat(r.time), r.value)
                        for r in found
                        if r.code == code
                        and at - timedelta(hours=HOURS[name]) < datetime.fromisoformat(r.time) <= at
                    ]
                    row[name] = max(window)[1] if window else np.nan
                    if name == "heart_rate":
                        values = [value for _, value in window]
                        row["heart_rate_highest"] = max(values, default=np.nan)
                done = [(_known(t), c) for v in person.visits for c, t in v.procedures]
                row |= _sequence("procedure", PROCEDURES, done, at)
                begun = [(_known(t), c) for v in person.visits for c, t in v.medicines]
                row |= _sequence("medicine", MEDICINES, begun, at)
                rows[str(person.number), 12.0 * step, place] = row
    return rows


def _known(text: str) -> datetime:
    """Of a day without a time: after it."""
    return datetime.fromisoformat(text) + _DAY * (len(text) == 10)


def _sequence(
    kind: str, groups: Mapping[str, str], events: list[tuple[datetime, str]], at: datetime
) -> dict[str, float | str | None]:
    """The groups of the 48 hours before, the latest first, and how many events."""
    window = [
        (when, groups.get(code, "other")) for when, code in events if at - 2 * _DAY < when <= at
    ]
    last = {group: max(when for when, of in window if of == group) for _, group in window}
    order = [*sorted(last, key=lambda group: (at - last[group], group)), None, None, None]
    names = [f"{kind}_{k + 1}" for k in range(3 if kind == "medicine" else 2)]
    return dict(zip(names, order, strict=False)) | {f"{kind}s": float(len(window))}


@pytest.mark.parametrize("kind", ["omop", "fhir", "csv"])
@pytest.mark.parametrize("seed", range(3))
def test_landmarks_of_generated_wards(tmp_path: Path, kind: str, seed: int) -> None:
    people = wards(seed)
    table = seen(tmp_path, kind, people)
    wanted = expected(people)
    assert len(table["patient"]) == len(wanted)
    names = next(iter(wanted.values()))
    facts = sorted((p, h, *map(str, row.values())) for (p, h, _), row in wanted.items())
    rows = zip(table["patient"], table["hours_in"], *(table[n] for n in names), strict=True)
    read_rows = sorted((p.removeprefix("Patient/"), h, *map(str, v)) for p, h, *v in rows)
    assert read_rows == facts
    assert {0.0, 1.0} <= {row["deteriorated"] for row in wanted.values()}
    assert {*MEDICINES.values(), None} == {row["medicine_1"] for row in wanted.values()}
    registry.load("deterioration", {"history": True}).features(table)


def seen(folder: Path, kind: str, people: list[Person]) -> Table:
    if kind == "omop":
        sources = Sources(omop=Omop(folder=write_omop(folder / "omop", people)))
    elif kind == "csv":
        where = write_ward(folder / "csv", people)
        files = {path.stem: path for path in where.glob("*.csv")}
        sources = Sources(files=files, formats={"events": FileFormat(types={"happened": "text"})})
    else:
        views = templates.definitions("deterioration")
        sources = Sources(fhir=Fhir(folder=write_fhir(folder / "fhir", people), views=views))
    return read(sources, templates.view(f"template:{kind}", "deterioration"), time_zone="UTC")


def test_landmarks_of_a_patient_are_one_patient(tmp_path: Path) -> None:
    """All rows of a patient are in one part, and a step of training sees one of them."""
    people = wards(0)
    table = seen(tmp_path, "omop", people)
    task = registry.load("deterioration")
    halves = {str(person.number): person.number % 2 * 0.9 for person in people}
    evaluation = Evaluation(release="exact", fraction=0.5)
    cohort = Cohort.build(task, table, halves.__getitem__, evaluation)
    assert len(cohort.labels) > cohort.patients
    assert not (cohort.train & cohort.evaluation).any()
    members = cohort.members("train")
    drawn = cohort.draw(members, "train", np.zeros(len(members)))
    assert len(drawn) == len(members) == len(set(cohort.patient[drawn]))


def test_what_follows_the_stay_counts_as_far_as_records_go(tmp_path: Path) -> None:
    """Landmarks whose 24 hours the records do not cover, and a death after discharge."""
    stay = Visit("inpatient", "2021-03-01T08:00:00", "2021-03-03T08:00:00", to=None)
    last = Visit("inpatient", "2021-03-20T08:00:00", "2021-03-22T20:00:00")
    people = [
        Person(1, "male", "1950-01-01", "2021-03-03T18:00:00", (stay,)),
        Person(2, "male", "1950-01-01", None, (last,)),
        Person(3, "male", "2010-01-01", None, (stay,)),
    ]
    table = seen(tmp_path, "omop", people)
    labels: dict[str, list[float]] = {}
    for patient, label in zip(table["patient"], table["deteriorated"], strict=True):
        labels.setdefault(patient, []).append(label)
    assert labels["1"] == [0, 0, 1], "died after discharge, within 24 hours of the last"
    assert labels["2"][:3] == [0, 0, 0]
    assert np.isnan(labels["2"][3])
    assert set(labels) == {"1", "2"}, "a child is on no ward of adults"
