"""Visits and units of an OMOP CDM 5.4 are understood as a site's vocabulary defines them.

Faults of this kind: outcomes are counted in hours instead of calendar days; one concept stands in
place of its descendants (concept_ancestor); an error names no table and no column; a unit in the
source's own words is dropped without a word, and a value without a unit is taken as the usual one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from client.data import templates
from client.data.sources.settings import Omop, Sources
from client.data.view_reader import read
from tests.cases.ehr.records import Edit, read_omop
from tests.client.data.clinical_facts import Person, Result, Visit

_DIABETES = (("SNOMED", "73211009", "2020-01-10"),)
_READMITTED = {"readmitted": 1.0, "length_of_stay": 4.0}


def two_stays(
    start: str = "2020-01-10T09:00:00",
    stop: str = "2020-01-14T09:00:00",
    again: str = "2020-01-20T09:00:00",
    until: str = "2020-01-22T09:00:00",
) -> list[Person]:
    """Person 1 with diabetes, twice in hospital; 99 comes later, so that outcomes are known."""
    stays = (
        Visit("inpatient", start, stop, diagnoses=_DIABETES),
        Visit("inpatient", again, until),
    )
    other = Visit("inpatient", "2021-06-10T09:00:00", "2021-06-12T09:00:00")
    return [
        Person(1, "female", "1960-03-01", visits=stays),
        Person(99, "female", "1960-03-01", visits=(other,)),
    ]


def below(ancestor: int, visit: int, concept: int) -> tuple[Edit, ...]:
    """The visit's concept, and its place in the vocabulary as Athena delivers it."""
    described = {
        "concept_id": concept,
        "concept_name": f"below {ancestor}",
        "domain_id": "Visit",
        "vocabulary_id": "Visit",
        "concept_code": str(concept),
    }
    ancestry = {"ancestor_concept_id": ancestor, "descendant_concept_id": concept}
    return (
        Edit("visit_occurrence", visit, {"visit_concept_id": concept}),
        Edit("concept", None, described),
        Edit("concept_ancestor", None, ancestry),
    )


@pytest.mark.parametrize(
    ("people", "edits"),
    [
        pytest.param(two_stays(), (), id="six days later"),
        pytest.param(
            two_stays("2020-01-10", "2020-01-14", "2020-01-14", "2020-01-16"),
            (),
            id="dates only, on the day of discharge",
        ),
        pytest.param(
            two_stays(again="2020-02-13T22:00:00", until="2020-02-16T09:00:00"),
            (),
            id="on day 30, at a later hour than that of discharge",
        ),
        pytest.param(
            two_stays(),
            below(9201, 1, 8717),
            id="second visit 8717, inpatient hospital",
        ),
        pytest.param(
            two_stays(),
            below(9201, 1, 32037),
            id="second visit 32037, intensive care",
        ),
        pytest.param(
            two_stays(),
            below(9201, 0, 8717),
            id="first visit 8717, inpatient hospital",
        ),
        pytest.param(
            two_stays(),
            (Edit("visit_occurrence", 1, {"visit_concept_id": 262}),),
            id="second visit 262, emergency and inpatient",
        ),
    ],
)
def test_readmitted(tmp_path: Path, people: list[Person], edits: tuple[Edit, ...]) -> None:
    seen = read_omop(tmp_path, people, "readmission", edits)
    assert seen.of("readmitted", "length_of_stay") == _READMITTED


def test_a_day_case_is_no_readmission(tmp_path: Path) -> None:
    people = two_stays(again="2020-01-20T09:00:00", until="2020-01-20T17:00:00")
    assert read_omop(tmp_path, people, "readmission").of("readmitted") == {"readmitted": 0.0}


def test_a_vital_sign_is_no_laboratory_procedure(tmp_path: Path) -> None:
    first, other = two_stays()
    measured = tuple(
        Result(code, "2020-01-11T09:00:00", 90, unit)
        for code, unit in (("8867-4", "/min"), ("2345-7", "mg/dL"), ("1-1", "mg/dL"))
    )
    stay = replace(first.visits[0], results=measured)
    people = [replace(first, visits=(stay, first.visits[1])), other]
    seen = read_omop(tmp_path, people, "readmission")
    assert seen.of("lab_procedures") == {"lab_procedures": 2.0}


def test_a_planned_readmission_is_left_out_by_its_procedure(tmp_path: Path) -> None:
    first, other = two_stays()
    again = replace(first.visits[1], procedures=(("8000", "2020-01-21T09:00:00"),))
    people = [replace(first, visits=(first.visits[0], again)), other]
    assert read_omop(tmp_path, people, "readmission").of("readmitted") == {"readmitted": 1.0}
    sets = tmp_path / "sets.csv"
    planned = "planned_readmission,http://snomed.info/sct,8000,"
    sets.write_text(f"name,system,code,display\n{planned}\n")
    sources = Sources(omop=Omop(folder=tmp_path / "omop"), value_sets=(sets,))
    table = read(sources, templates.view("template:omop", "readmission"))
    assert table["readmitted"].tolist() == [0.0]


def test_a_visit_below_the_emergency_room_is_one_there(tmp_path: Path) -> None:
    """8870, emergency room of a hospital: in the year before, counted by kind."""
    first = Visit("outpatient", "2019-09-01T09:00:00", "2019-09-01T12:00:00")
    person, other = two_stays()
    seen = read_omop(
        tmp_path,
        [replace(person, visits=(first, *person.visits)), other],
        "readmission",
        below(9203, 0, 8870),
    )
    counts = {"emergency_visits": 1.0, "outpatient_visits": 0.0}
    assert seen.of(*counts) == counts


def test_born_on_30_february(tmp_path: Path) -> None:
    birthday = Edit("person", 0, {"month_of_birth": 2, "day_of_birth": 30})
    seen = read_omop(tmp_path, two_stays(), "readmission", [birthday])
    assert isinstance(seen.row, dict) or any(
        word in str(seen.row) for word in ("_of_birth", "person")
    )


def in_intensive_care(code: str, value: float) -> list[Person]:
    """Measured an hour and a half after admission to intensive care."""
    stay = Visit(
        "inpatient",
        "2020-01-10T09:00:00",
        "2020-01-14T09:00:00",
        icu=("2020-01-10T10:30:00", "2020-01-12T12:00:00"),
        results=(Result(code, "2020-01-10T12:00:00", value, "x"),),
    )
    return [Person(1, "female", "1960-03-01", visits=(stay,))]


def unit_in_words(words: str) -> Edit:
    return Edit("measurement", 0, {"unit_concept_id": 0, "unit_source_value": words})


@pytest.mark.parametrize(
    ("words", "code", "value", "column", "wanted"),
    [
        pytest.param("beats/minute", "8867-4", 100, "heart_rate_01", 100.0),
        pytest.param("per minute", "8867-4", 100, "heart_rate_01", 100.0),
        pytest.param("/minute", "8867-4", 100, "heart_rate_01", 100.0),
        pytest.param("BPM", "8867-4", 100, "heart_rate_01", 100.0),
        pytest.param("MMHG", "8480-6", 120, "systolic_bp_01", 120.0),
        pytest.param("mm/Hg", "8480-6", 120, "systolic_bp_01", 120.0),
        pytest.param("breaths per minute", "9279-1", 18, "respiratory_rate_01", 18.0),
        pytest.param("Deg. F", "8310-5", 98.6, "temperature_01", 37.0),
    ],
)
def test_a_unit_in_the_sources_words_is_read_or_noted(
    tmp_path: Path, words: str, code: str, value: float, column: str, wanted: float
) -> None:
    people = in_intensive_care(code, value)
    seen = read_omop(tmp_path, people, "icu_timeseries", [unit_in_words(words)])
    assert seen.notes or (
        isinstance(seen.row, dict)
        and seen.row[column] is not None
        and abs(seen.row[column] - wanted) < 0.1
    )


def test_a_value_without_a_unit_is_not_taken_as_the_usual_one(tmp_path: Path) -> None:
    people = in_intensive_care("8310-5", 98.6)
    seen = read_omop(tmp_path, people, "icu_timeseries", [unit_in_words("")])
    assert isinstance(seen.row, dict)
    found = seen.row["temperature_01"]
    assert found is None or abs(found - 37) < 0.1
