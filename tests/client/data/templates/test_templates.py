"""Shipped views: the same patients give the same cohort, out of an OMOP CDM and a FHIR export."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pytest

from client.data import templates
from client.data.sources.session import Extra
from client.data.sources.settings import Database, Fhir, Omop, Sources
from client.data.view_reader import read
from protocol.errors import WardroundError
from tasks import registry
from tasks.schema import Table
from tests.client.data.clinical_facts import Person, Result, Visit, write_fhir, write_omop

ICU = [
    Person(
        1,
        "female",
        "1950-01-01",
        visits=(
            Visit(
                "inpatient",
                "2020-03-01T08:00:00",
                "2020-03-06T08:00:00",
                icu=("2020-03-01T10:00:00", "2020-03-03T10:00:00"),
                results=(
                    Result("8867-4", "2020-03-01T11:00:00", 60, "/min"),
                    Result("8867-4", "2020-03-01T15:30:00", 120, "/min"),
                    Result("8867-4", "2020-03-01T15:10:00", 90, "/min"),
                    Result("8867-4", "2020-03-02T11:00:00", 190, "/min"),  # a day later
                    Result("14749-6", "2020-03-01T12:00:00", 10, "mmol/L"),
                    Result("8310-5", "2020-03-01T12:00:00", 102.2, "[degF]"),
                    Result("14682-9", "2020-03-01T12:00:00", 150, "umol/L"),
                    Result("22664-7", "2020-03-01T12:00:00", 10, "mmol/L"),
                    Result("2703-7", "2020-03-01T13:00:00", 10, "kPa"),
                    Result("2703-7", "2020-03-01T14:00:00", 12, "kPa"),
                    Result("2019-8", "2020-03-01T13:00:00", 5, "kPa"),
                    Result("2019-8", "2020-03-01T14:00:00", 9, "kPa"),
                    Result("3150-6", "2020-03-01T12:30:00", 0.4, "1"),
                    Result("3150-6", "2020-03-01T13:30:00", 0.8, "1"),
                    Result("9187-6", "2020-03-01T13:10:00", 500, "mL"),
                    Result("9187-6", "2020-03-01T13:20:00", 0.7, "L"),
                    Result("9270-0", "2020-03-01T13:20:00", 4, "{score}"),
                    Result("9270-0", "2020-03-01T14:20:00", 3, "{score}"),
                    Result("2951-2", "2020-03-01T14:20:00", 140, "furlong"),
                ),
                diagnoses=(
                    ("ICD10CM", "K74.60", "2019-05-01"),
                    ("SNOMED", "62479008", "2018-05-01"),
                    ("ICD10CM", "C78.0", "2020-03-04"),  # known too late
                ),
                procedures=(("40617009", "2020-03-01T13:00:00"),),
            ),
            Visit(
                "inpatient",
                "2021-03-01T08:00:00",
                "2021-03-06T08:00:00",
                icu=("2021-03-01T10:00:00", "2021-03-03T10:00:00"),
                results=(Result("8867-4", "2021-03-01T11:00:00", 33, "/min"),),
            ),
        ),
    ),
    Person(
        2,
        "male",
        "1940-06-15",
        died="2020-04-02T06:00:00",
        visits=(
            Visit(
                "inpatient",
                "2020-04-01T12:00:00",
                "2020-04-02T06:00:00",
                to="dead",
                icu=("2020-04-01T12:00:00", "2020-04-03T12:00:00"),
            ),
        ),
    ),
    Person(
        3,
        "male",
        "2005-06-15",
        visits=(
            Visit(
                "inpatient",
                "2020-04-01T12:00:00",
                "2020-04-05T06:00:00",
                icu=("2020-04-01T12:00:00", "2020-04-03T12:00:00"),
            ),
        ),
    ),
    Person(
        4,
        "male",
        "1960-06-15",
        died="2020-05-04",
        visits=(
            Visit(
                "inpatient",
                "2020-05-01T12:00:00",
                "2020-05-05T06:00:00",
                icu=("2020-05-01T12:00:00", "2020-05-02T08:00:00"),
            ),
        ),
    ),
]


def _as_version_5_3(cdm: Path) -> None:
    for name, pairs in {
        "cdm_source": {"5.4": "5.3"},
        "visit_occurrence": {
            "admitted_from_concept_id": "admitting_source_concept_id",
            "discharged_to_concept_id": "discharge_to_concept_id",
        },
    }.items():
        text = (cdm / f"{name}.csv").read_text()
        for new, old in pairs.items():
            assert new in text
            text = text.replace(new, old)
        (cdm / f"{name}.csv").write_text(text)


class Build(Protocol):
    """The table of a task's shipped view, where the people lie as the fixture has them."""

    def __call__(
        self, task: str, people: list[Person], extras: tuple[Extra, ...] = ()
    ) -> Table: ...


@pytest.fixture(
    params=[
        "omop",
        "fhir",
        "omop 5.3",
        "omop in a database",
        "omop in Paris",
        "fhir in Kiritimati",
    ]
)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Build:
    def build(task: str, people: list[Person], extras: tuple[Extra, ...] = ()) -> Table:
        kind = request.param.split()[0]
        if kind == "fhir":
            folder = write_fhir(tmp_path / "fhir", people)
            sources = Sources(fhir=Fhir(folder=folder, views=templates.definitions(task)))
        elif "database" not in request.param:
            folder = write_omop(tmp_path / "omop", people)
            if "5.3" in request.param:
                _as_version_5_3(folder)
            sources = Sources(omop=Omop(folder=folder))
        else:
            sources = _in_sqlite(write_omop(tmp_path / "omop", people), tmp_path / "cdm.db")
        view = templates.view(f"template:{kind}", task)
        place = request.param.rpartition(" in ")[2]
        zone = {"Paris": "Europe/Paris", "Kiritimati": "Pacific/Kiritimati"}.get(place)
        return read(sources, view, extras=extras, time_zone=zone)

    return build


def _in_sqlite(folder: Path, path: Path) -> Sources:
    types = {"TIMESTAMP": "TIMESTAMP", "DATE": "DATE", "DOUBLE": "REAL", "BIGINT": "INTEGER"}
    with sqlite3.connect(path) as database:
        for file in folder.glob("*.csv"):
            rows = duckdb.read_csv(str(file), header=True, all_varchar=True)
            kinds = [(c, types.get(_kind(c), "TEXT")) for c in rows.columns]
            columns = ", ".join(f'"{name}" {kind}' for name, kind in kinds)
            database.execute(f'CREATE TABLE "{file.stem}" ({columns})')
            marks = ", ".join("?" for _ in kinds)
            insert = f'INSERT INTO "{file.stem}" VALUES ({marks})'
            database.executemany(insert, rows.fetchall())
    return Sources(databases={"cdm": Database(sqlite=path)}, omop=Omop(database="cdm"))


def _kind(column: str) -> str:
    if column.endswith("_datetime"):
        return "TIMESTAMP"
    if column.endswith("_date"):
        return "DATE"
    if column == "value_as_number":
        return "DOUBLE"
    if column in ("vocabulary_id", "domain_id", "concept_class_id"):
        return "TEXT"
    return "BIGINT" if column.endswith("_id") or "_of_birth" in column else "TEXT"


def row(table: Table, patient: str) -> dict[str, Any]:
    names = [str(name).removeprefix("Patient/") for name in table["patient"]]
    return {column: values[names.index(patient)] for column, values in table.items()}


def test_icu_mortality(table: Build) -> None:
    cohort = table("icu_mortality", ICU)
    assert set(cohort) == set(registry.load("icu_mortality").schema.names)
    assert len(cohort["patient"]) == 3  # not the child
    first = row(cohort, "1")
    expected = {
        "age": 70, "heart_rate": 120, "glucose": 180.156, "temperature": 39.0, "creatinine": 1.6968,
        "bun": 28.014, "pao2": 75.00617, "paco2": 37.503085, "fio2": 40, "urine_output": 1200,
        "gcs_verbal": 3, "cirrhosis": 1, "aids": 1, "metastatic_cancer": 0, "lymphoma": 0,
        "ventilated": 1, "died": 0,
    }  # fmt: skip
    assert {name: first[name] for name in expected} == pytest.approx(expected)
    assert first["sex"] == "female"
    assert math.isnan(float(first["sodium"]))
    assert row(cohort, "2")["died"] == 1
    assert row(cohort, "2")["ventilated"] == 0
    assert row(cohort, "4")["died"] == 1
    registry.load("icu_mortality").features(cohort)


def test_icu_timeseries(table: Build) -> None:
    cohort = table("icu_timeseries", ICU)
    assert set(cohort) == set(registry.load("icu_timeseries").schema.names)
    assert len(cohort["patient"]) == 2  # 4 stayed for 20 hours
    first = row(cohort, "1")
    expected = {
        "heart_rate_01": 60, "heart_rate_05": 120, "urine_output_03": 1200, "temperature_02": 39.0,
        "bun_02": 28.014, "died": 0,
    }  # fmt: skip
    assert {name: first[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(float(first["heart_rate_00"]))
    assert row(cohort, "2")["died"] == 1
    registry.load("icu_timeseries").features(cohort)


WARD = [
    Person(
        7,
        "male",
        "1950-03-01",
        visits=(
            Visit("outpatient", "2019-11-01T09:00:00", "2019-11-01T10:00:00"),
            Visit("emergency", "2019-12-01T09:00:00", "2019-12-01T10:00:00"),
            Visit(
                "inpatient",
                "2020-01-10T09:00:00",
                "2020-01-14T09:00:00",
                diagnoses=(("ICD10CM", "E11.9", "2020-01-10"), ("ICD10CM", "I50.1", "2020-01-11")),
                procedures=(("40617009", "2020-01-11T10:00:00"),),
                results=(
                    Result("2345-7", "2020-01-10T10:00:00", 250, "mg/dL"),
                    Result("14749-6", "2020-01-11T10:00:00", 20, "mmol/L"),
                    Result("59261-8", "2020-01-11T10:00:00", 53, "mmol/mol"),
                    Result("2951-2", "2020-01-11T10:00:00", 140, "mmol/L"),
                ),
                drugs=(
                    ("metformin", "2020-01-11"),
                    ("metformin", "2020-01-12"),
                    ("glyburide / metformin", "2020-01-12"),
                    ("insulin glargine", "2020-01-12"),
                    ("aspirin", "2020-01-12"),
                ),
            ),
            Visit("inpatient", "2020-02-10T09:00:00", "2020-02-12T09:00:00"),
        ),
    ),
    Person(
        8,
        "female",
        "1960-03-01",
        visits=(
            Visit(
                "inpatient",
                "2020-01-10T09:00:00",
                "2020-01-12T09:00:00",
                diagnoses=(("SNOMED", "73211009", "2020-01-10"),),
            ),
            Visit("inpatient", "2020-06-10T09:00:00", "2020-06-12T09:00:00"),
        ),
    ),
    Person(  # no diabetes
        9, "female", "1960-03-01",
        visits=(Visit("inpatient", "2020-01-10T09:00:00", "2020-01-12T09:00:00"),),
    ),
    Person(  # left dead
        10, "female", "1960-03-01", died="2020-01-12",
        visits=(
            Visit(
                "inpatient", "2020-01-10T09:00:00", "2020-01-12T09:00:00", to="dead",
                diagnoses=(("ICD10CM", "E10.1", "2020-01-10"),),
            ),
        ),
    ),
    Person(  # nobody knows yet
        11, "female", "1960-03-01",
        visits=(
            Visit(
                "inpatient", "2020-06-01T09:00:00", "2020-06-04T09:00:00",
                diagnoses=(("ICD10CM", "E10.1", "2020-06-01"),),
            ),
        ),
    ),
]  # fmt: skip


def test_readmission(table: Build) -> None:
    cohort = table("readmission", WARD)
    assert set(cohort) == set(registry.load("readmission").schema.names)
    assert len(cohort["patient"]) == 3
    first = row(cohort, "7")
    expected = {
        "age": 69, "length_of_stay": 4, "lab_procedures": 4, "procedures": 1, "medications": 4,
        "diagnoses": 2, "outpatient_visits": 1, "emergency_visits": 1, "inpatient_stays": 0,
        "glucose": 20 * 18.0156, "hba1c": 0.09148 * 53 + 2.152, "readmitted": 1,
    }  # fmt: skip
    assert {name: first[name] for name in expected} == pytest.approx(expected)
    texts = {
        "sex": "male", "discharged_to": "home", "diagnosis_1": "diabetes",
        "diagnosis_2": "heart_failure", "diagnosis_3": None, "metformin": "steady",
        "glyburide_metformin": "steady", "glyburide": "no", "insulin": "steady",
        "drugs_changed": "no", "diabetes_drug": "yes",
    }  # fmt: skip
    assert {name: first[name] for name in texts} == texts
    assert row(cohort, "8")["readmitted"] == 0
    assert row(cohort, "8")["diabetes_drug"] == "no"
    assert math.isnan(float(row(cohort, "11")["readmitted"]))
    registry.load("readmission").features(cohort)


PICTURED = [
    Person(
        5,
        "female",
        "1950-01-01",
        visits=(
            Visit(
                "inpatient",
                "2020-03-01T08:00:00",
                "2020-03-06T08:00:00",
                results=(
                    Result("8310-5", "2020-03-02T11:00:00", 102.2, "[degF]"),
                    Result("8310-5", "2020-03-02T20:00:00", 36.5, "Cel"),
                    Result("22664-7", "2020-03-02T12:00:00", 10, "mmol/L"),
                    Result("8867-4", "2020-03-05T12:00:00", 99, "/min"),  # too late
                    Result("1988-5", "2020-03-02T12:00:00", 12, "mg/dL"),
                ),
                diagnoses=(("ICD10CM", "J18.9", "2020-03-03"),),
            ),
        ),
    ),
    Person(6, "male", "1990-01-01"),
    Person(7, "female", "1980-01-01"),
]


def _pictures(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "CREATE TABLE images AS SELECT * FROM (VALUES"
        " ('i1', 'north5', 'pMRN5', DATE '2020-03-02', 'DX', 'PA'),"
        " ('i0', 'north5', 'pMRN5', DATE '2020-03-02', 'DX', 'LL'),"
        " ('i2', 'pMRN6', 'pMRN6', DATE '2020-03-02', 'CR', 'AP'),"
        " ('i3', 'north7', 'pMRN7', DATE '2020-03-02', 'CR', 'AP'),"
        " ('i4', 'south7', 'pMRN7', DATE '2020-03-01', 'CR', 'AP')"
        ") i(image, patient, patient_id, study_date, modality, view_position)"
    )
    connection.create_function("keyed", lambda text: f"p{text}", ["VARCHAR"], "VARCHAR")
    connection.execute("CREATE MACRO pseudonym(value) AS keyed(CAST(value AS VARCHAR))")


def test_fusion(table: Build) -> None:
    cohort = table("fusion", PICTURED, (_pictures,))
    assert set(cohort) == set(registry.load("fusion").schema.names)
    first = row(cohort, "5")
    expected = {"age": 70, "temperature": 39, "bun": 28.014, "crp": 120, "pneumonia": 1}
    assert {name: first[name] for name in expected} == pytest.approx(expected)
    assert first["radiograph"] == "i1"
    assert math.isnan(float(first["heart_rate"]))
    second = row(cohort, "6")
    assert (second["radiograph"], second["pneumonia"], second["sex"]) == ("i2", 0, "male")
    assert math.isnan(float(second["bun"]))
    assert len(cohort["patient"]) == 2, "two issuers gave the ID of 7 to two patients"


def test_a_number_that_two_patients_have_names_no_picture(tmp_path: Path) -> None:
    """MRN5 is one of the south's too; MRN6 is the second of two numbers of one patient."""

    def numbered(patient: str, *values: str) -> dict[str, Any]:
        kind = {"coding": [{"code": "MR"}]}
        systems = (f"urn:system:{value}:{patient}" for value in values)
        identifier = [
            {"type": kind, "system": system, "value": value}
            for system, value in zip(systems, values, strict=True)
        ]
        return {"resourceType": "Patient", "id": patient, "identifier": identifier}

    patients = (numbered("5", "MRN5"), numbered("s", "MRN5"), numbered("6", "A1", "MRN6"))
    path = tmp_path / "all.ndjson"
    path.write_text("\n".join(map(json.dumps, patients)))
    fhir = Fhir(folder=path, views=templates.definitions("fusion"))
    view = templates.view("template:fhir", "fusion")
    cohort = read(Sources(fhir=fhir), view, extras=(_pictures,))
    assert list(zip(cohort["patient"], cohort["radiograph"], strict=True)) == [("Patient/6", "i2")]


def test_every_task_on_records_has_both_templates() -> None:
    records = {"readmission", "icu_mortality", "icu_timeseries", "fusion", "deterioration"}
    assert set(templates.TASKS) == records | {"no_show"}
    for task in templates.TASKS:
        assert templates.definitions(task)
        assert {templates.view(f"template:{kind}", task)[:2] for kind in templates.kinds(task)} == {
            "--"
        }
    both = ("omop", "fhir")
    assert {task: templates.kinds(task) for task in records} == {
        task: (*both, "csv") if task == "deterioration" else both for task in records
    }
    assert templates.kinds("no_show") == templates.KINDS
    with pytest.raises(WardroundError, match="breast_cancer"):
        templates.view("template:omop", "breast_cancer")
    with pytest.raises(WardroundError, match="template:hl7"):
        templates.view("template:hl7", "readmission")
