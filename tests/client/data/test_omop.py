"""OMOP CDM folders: versions, names, types and what is missing."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

from client.data.sources.settings import Omop, Sources
from client.data.view_reader import read
from protocol.errors import Code, WardroundError
from tests.client.data.clinical_facts import Person, write_omop


@pytest.fixture
def cdm(tmp_path: Path) -> Path:
    return write_omop(tmp_path / "cdm", [Person(7, "female", "1950-01-01")])


def refused(folder: Path, view: str = "SELECT person_id FROM person") -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        read(Sources(omop=Omop(folder=folder)), view)
    assert "CANARY" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("version", ["v5.4", "5.4", "CDM v5.4.0", "OMOP CDM 5.4.1"])
def test_version_5_4_is_read_however_it_is_written(cdm: Path, version: str) -> None:
    (cdm / "cdm_source.csv").write_text(f"cdm_source_name,cdm_version\nx,{version}\n")
    assert read(Sources(omop=Omop(folder=cdm)), "SELECT person_id FROM person")["person_id"] == 7


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cdm_version\nv5.2.2\n", "version 5.2"),
        ("cdm_version\n6.0\n", "version 6.0"),
        ("cdm_version\n5.40\n", "version 5.40"),
        ("cdm_version\nCANARY\n", "does not say"),
        ("cdm_version\n", "does not say"),
        ("other\n5.4\n", "does not say"),
        ("cdm_version\nv5.4\nv5.3\n", "versions 5.3 and 5.4"),
        ("cdm_version\nv5.4\nv6.0\n", "version 6.0"),
    ],
)
def test_another_version_is_named(cdm: Path, text: str, says: str) -> None:
    (cdm / "cdm_source.csv").write_text(text)
    error = refused(cdm)
    assert error.code is Code.MALFORMED_DATA
    assert says in error.message
    assert "5.4" in error.remedy or "row" in error.remedy


def test_version_5_3_has_the_names_and_columns_of_5_4(cdm: Path) -> None:
    (cdm / "cdm_source.csv").write_text("cdm_version\nv5.3.1\n")
    (cdm / "visit_detail.csv").write_text(
        "visit_detail_id,ADMITTING_SOURCE_CONCEPT_ID,admitting_source_value,"
        "discharge_to_concept_id,discharge_to_source_value,visit_detail_parent_id\n"
        "1,8870,007,8536,01,2\n"
    )
    (cdm / "measurement.csv").write_text("measurement_id,value_as_number\n1,2.5\n")
    (cdm / "procedure_occurrence.csv").write_text("procedure_occurrence_id\n1\n")
    view = (
        "SELECT d.admitted_from_concept_id AS a, d.admitted_from_source_value AS b,"
        " d.discharged_to_concept_id AS c, d.discharged_to_source_value AS e,"
        " d.parent_visit_detail_id AS f, m.measurement_event_id AS g, p.procedure_end_date AS h"
        " FROM visit_detail d, measurement m, procedure_occurrence p"
    )
    table = read(Sources(omop=Omop(folder=cdm)), view)
    assert [table[name][0] for name in "abcef"] == [8870, "007", 8536, "01", 2]
    assert np.isnan(table["g"][0])
    assert table["h"].tolist() == [None]


def test_version_5_4_has_no_names_of_5_3(cdm: Path) -> None:
    (cdm / "measurement.csv").write_text("measurement_id,value_as_number\n1,2.5\n")
    assert (
        "measurement_event_id"
        in refused(cdm, "SELECT measurement_event_id FROM measurement").message
    )


def test_a_table_that_is_missing_is_named_where_the_view_reads_it(cdm: Path) -> None:
    (cdm / "death.csv").unlink()
    assert "no table death" in refused(cdm, "SELECT * FROM death").message
    refused(cdm, "SELECT person_id FROM person JOIN death USING (person_id)")
    assert len(read(Sources(omop=Omop(folder=cdm)), "SELECT * FROM person")["person_id"]) == 1
    (cdm / "cdm_source.csv").unlink()
    assert "no table cdm_source" in refused(cdm).message
    assert refused(cdm / "absent").code is Code.NO_DATA


def test_a_table_without_rows_has_its_types(cdm: Path) -> None:
    view = "SELECT count(*) AS n, sum(date_diff('day', measurement_date, DATE '2020-01-01')"
    view += " + value_as_number) AS total FROM measurement"
    assert read(Sources(omop=Omop(folder=cdm)), view)["n"] == 0


@pytest.mark.parametrize(
    ("table", "text", "says"),
    [
        ("person", "person_id,year_of_birth\nCANARY,1950\n", "person_id"),
        ("death", "person_id,death_date\n7,CANARY\n", "death_date"),
        ("measurement", "person_id,value_as_number\n7,CANARY\n", "value_as_number"),
        ("person", "person_id,year_of_birth\n7\n", "line 2"),
    ],
)
def test_a_column_of_another_type_than_the_cdms_is_named(
    cdm: Path, table: str, text: str, says: str
) -> None:
    (cdm / f"{table}.csv").write_text(text)
    error = refused(cdm, f"SELECT * FROM {table}")
    assert error.code is Code.MALFORMED_DATA
    assert says in error.message


def test_vocabularies_come_as_athena_writes_them(cdm: Path) -> None:
    """Delimited by tabs, without quoting, and with dates like 20991231."""
    (cdm / "concept.csv").write_text(
        "concept_id\tconcept_name\tvocabulary_id\tvalid_end_date\n"
        '1\t15" wound\tSNOMED\t20991231\n2\tOther "\tSNOMED\t20991231\n'
    )
    table = read(Sources(omop=Omop(folder=cdm)), "SELECT * FROM concept ORDER BY 1")
    assert table["concept_name"].tolist() == ['15" wound', 'Other "']


def test_codes_and_record_numbers_stay_texts(cdm: Path) -> None:
    (cdm / "person.csv").write_text("person_id,person_source_value\n1,00712\n2,45\n")
    table = read(Sources(omop=Omop(folder=cdm)), "SELECT person_source_value FROM person")
    assert sorted(table["person_source_value"]) == ["00712", "45"]


def test_a_table_may_be_parquet_or_a_folder_of_it(cdm: Path) -> None:
    (cdm / "PERSON.csv").write_bytes((cdm / "person.csv").read_bytes())
    assert "twice" in refused(cdm).message
    (cdm / "PERSON.csv").unlink()
    (cdm / "person.csv").unlink()
    (cdm / "person").mkdir()
    for k in (1, 2):
        duckdb.sql(f"SELECT {k} AS person_id").write_parquet(str(cdm / f"person/part{k}.parquet"))
    table = read(Sources(omop=Omop(folder=cdm)), "SELECT person_id FROM person ORDER BY 1")
    assert table["person_id"].tolist() == [1, 2]
