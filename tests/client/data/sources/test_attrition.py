"""Each step of a view with its rows, and the likely cause of an empty cohort in words."""

from __future__ import annotations

import json
from pathlib import Path

from client.data import templates, view_reader
from client.data.sources.attrition import Attrition, measure
from client.data.sources.settings import Fhir, Omop, Sources
from client.data.view_reader import Inspection
from tests.cases.ehr.records import (
    SNOMED,
    Edit,
    Resource,
    change,
    diabetes,
    encounter,
    icu_stay,
    later,
    observation,
    patient,
)
from tests.client.data.clinical_facts import Person, Result, Visit, write_omop


def attrition(sources: Sources, view: str) -> Attrition:
    found: list[Attrition] = []
    view_reader.read(sources, view, inspection=Inspection(measure, found.append))
    return found[0]


def of_fhir(folder: Path, resources: list[Resource], task: str, *ancestors: Path) -> Attrition:
    lines = (json.dumps({"id": f"x{number}"} | one) for number, one in enumerate(resources))
    (folder / "all.ndjson").write_text("\n".join(lines) + "\n")
    fhir = Fhir(folder=folder / "all.ndjson", views=templates.definitions(task))
    sources = Sources(fhir=fhir, ancestors=ancestors)
    return attrition(sources, templates.view("template:fhir", task))


def test_the_rows_of_each_step(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("patient,age\n1,70\n1,71\n2,40\n")
    view = (
        "WITH old AS (SELECT * FROM t WHERE age > 60), one AS (SELECT count(*) AS n FROM old)"
        " SELECT * FROM old, one"
    )
    seen = attrition(Sources(files={"t": tmp_path / "t.csv"}), view)
    assert [(step.name, step.rows, step.patients) for step in seen.steps] == [
        ("old", 2, 1),
        ("one", 1, None),
    ]
    assert seen.causes == ()


def test_a_code_that_nothing_covers_is_named_with_its_count(tmp_path: Path) -> None:
    stay = encounter("1", "p", "2020-01-10T09:00:00Z", "2020-01-14T09:00:00Z")
    resources = [*later(), patient("p"), stay, *(2 * [diabetes("p", "1", SNOMED, "44054006")])]
    seen = of_fhir(tmp_path, resources, "readmission")
    assert seen.uncovered == ((SNOMED, "44054006", 2),)
    assert "diabetes" in seen.unmatched
    assert seen.causes[0].startswith("No patient is left at the step ")
    assert "44054006 (2)" in " ".join(seen.causes)
    below = tmp_path / "below.csv"
    below.write_text(f"system,ancestor,descendant\n{SNOMED},73211009,44054006\n")
    seen = of_fhir(tmp_path, resources, "readmission", below)
    assert not seen.uncovered
    assert "diabetes" not in seen.unmatched


def test_units_that_were_not_read_are_told_by_their_spelling(tmp_path: Path) -> None:
    span = ("2020-01-10T09:00:00Z", "2020-01-14T09:00:00Z")
    rates = [
        observation("p", "2020-01-10T10:00:00Z", 90, unit=unit) for unit in ("furlong", "/min")
    ]
    bare = observation("p", "2020-01-10T10:00:00Z", 0, "8310-5", valueQuantity={"value": 98.6})
    seen = of_fhir(tmp_path, [*icu_stay(span, span), *rates, bare], "icu_mortality")
    assert set(seen.unread) == {("heart_rate", "furlong", 1), ("temperature", "", 1)}
    assert "temperature in no unit (1)" in " ".join(seen.causes)


def test_an_empty_vocabulary_is_the_first_cause(tmp_path: Path) -> None:
    stay = Visit("inpatient", "2020-01-10T09:00:00", "2020-01-14T09:00:00")
    cdm = write_omop(tmp_path / "omop", [Person(1, "female", "1960-03-01", visits=(stay,))])
    seen = attrition(Sources(omop=Omop(folder=cdm)), templates.view("template:omop", "readmission"))
    assert "concept_ancestor" in seen.empty
    assert "concept" in seen.causes[0]
    assert "has no rows" in seen.causes[0]


def test_a_concept_that_the_vocabulary_lacks_is_named_with_its_count(tmp_path: Path) -> None:
    """Records and vocabulary of two versions: the concept's number is all that is known."""
    taken = tuple(Result("8867-4", f"2020-01-1{day}T12:00:00", 90, "/min") for day in (1, 2))
    ill = (("SNOMED", "73211009", "2020-01-10"),)
    stay = Visit("inpatient", "2020-01-10T09:00:00", "2020-01-14T09:00:00", None, None, taken, ill)
    cdm = write_omop(tmp_path / "omop", [Person(1, "female", "1960-03-01", visits=(stay,))])
    view = templates.view("template:omop", "readmission")
    assert attrition(Sources(omop=Omop(folder=cdm)), view).uncovered == ()
    for row in range(2):
        change(cdm, Edit("measurement", row, {"measurement_concept_id": 45}))
    seen = attrition(Sources(omop=Omop(folder=cdm)), view)
    assert seen.uncovered == (("concept_id", "45", 2),)
    assert "concept_id 45 (2)" in " ".join(seen.causes)
    assert "load the vocabulary of the version" in " ".join(seen.causes)


def test_a_concept_outside_of_every_hierarchy_is_named(tmp_path: Path) -> None:
    taken = (Result("1-1", "2020-01-11T12:00:00", 90, "/min"),)
    ill = (("SNOMED", "73211009", "2020-01-10"),)
    stay = Visit("inpatient", "2020-01-10T09:00:00", "2020-01-14T09:00:00", None, None, taken, ill)
    cdm = write_omop(tmp_path / "omop", [Person(1, "female", "1960-03-01", visits=(stay,))])
    view = templates.view("template:omop", "readmission")
    assert attrition(Sources(omop=Omop(folder=cdm)), view).uncovered == (("LOINC", "1-1", 1),)
