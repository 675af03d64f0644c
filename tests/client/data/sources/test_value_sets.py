"""Codes meet the value sets that hold them: by any name of their system, by prefix, by a hierarchy
that the site brings."""

from __future__ import annotations

import csv
import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.sources import code_systems, value_sets
from client.data.sources.session import Session
from protocol.errors import Code, WardroundError

SNOMED = "http://snomed.info/sct"
ICD10, ICD10CM = "http://hl7.org/fhir/sid/icd-10", "http://hl7.org/fhir/sid/icd-10-cm"


def test_every_shipped_list_names_the_source_and_the_date_of_its_codes() -> None:
    table = value_sets.SHIPPED.parent / "tables" / "code_lists.csv"
    with table.open(encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    shipped = {
        (path.name, row[1])
        for path in value_sets.SHIPPED.iterdir()
        for row in value_sets.read(path)
    }
    assert sorted(shipped) == sorted((row["list"], row["system"]) for row in told)
    for row in told:
        assert len(row["source"]) > 10
        assert date.fromisoformat(row["date"]) >= date(2026, 11, 27)
        assert row["compared"] in ("yes", "no")


def sets_of(system: str, code: str, own: tuple[Path, ...] = (), *ancestors: Path) -> set[str]:
    with Session(300 << 20, 1) as session:
        value_sets.register(session, own, ancestors)
        rows = session.connection.execute(
            "SELECT DISTINCT name FROM value_set WHERE list_contains(code_keys(?, ?), key)",
            [system, code],
        ).fetchall()
    return {str(name) for (name,) in rows}


@pytest.mark.parametrize(
    ("system", "code"),
    [
        (SNOMED, "73211009"),
        ("http://snomed.info/sct/900000000000207008/version/20240101", " 73211009 "),
        ("urn:oid:2.16.840.1.113883.6.96", "73211009"),
        ("https://snomed.info/sct/", "73211009"),
        (f"{SNOMED}|http://snomed.info/sct/731000124108", "73211009"),
        ("SNOMED", "73211009"),
        (ICD10, "E11"),
        (ICD10CM, "E11.9"),
        (ICD10CM, "e119"),
        ("urn:oid:2.16.840.1.113883.6.90", "E11.65"),
        ("http://fhir.de/CodeSystem/bfarm/icd-10-gm", "E11.30+"),
        ("http://fhir.de/CodeSystem/dimdi/icd-10-gm", "E11.90"),
        ("https://smt.esante.gouv.fr/terminologie-cim-10/", "E119"),
        ("http://hl7.org/fhir/sid/icd-9-cm", "250.00"),
        ("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-diagnosis-icd9", "25000"),
        ("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-diagnosis-icd10", "E1165"),
        ("ICD10GM", "E14.90"),
    ],
)
def test_diabetes_by_any_of_its_codes(system: str, code: str) -> None:
    assert "diabetes" in sets_of(system, code)


@pytest.mark.parametrize(
    ("system", "code"),
    [
        (ICD10, "E1"),
        (ICD10, "E20"),
        (SNOMED, "7321100"),
        (SNOMED, "732110091"),
        ("http://hl7.org/fhir/sid/icd-9-cm", "25"),
        ("http://hl7.org/fhir/sid/icd-9-cm", "E250"),
        ("urn:local", "E11.9"),
        (ICD10CM, "25000"),
    ],
)
def test_what_is_no_code_of_diabetes(system: str, code: str) -> None:
    assert "diabetes" not in sets_of(system, code)


def test_atc_is_a_hierarchy_of_prefixes() -> None:
    both = {"drug:insulin", "medicine:insulin"}
    assert sets_of("http://fhir.de/CodeSystem/bfarm/atc", "A10AB01") == both
    assert sets_of("http://www.whocc.no/atc", "A10BA02") == {"drug:metformin"}


@pytest.mark.slow
@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.", min_size=1, max_size=8))
def test_a_code_has_the_keys_of_every_category_that_begins_it(code: str) -> None:
    bare = code.replace(".", "")
    with Session(300 << 20, 1) as session:
        code_systems.register(session)
        [(keys,)] = session.connection.execute("SELECT code_keys(?, ?)", [ICD10CM, code]).fetchall()
    wanted = {f"{uri} {bare[:n]}" for uri in (ICD10, ICD10CM) for n in range(1, len(bare) + 1)}
    assert set(keys) == wanted


def test_parents_in_a_file_are_followed_to_the_last(tmp_path: Path) -> None:
    file = tmp_path / "ancestors.csv"
    parents = f"{SNOMED},73211009,44054006\n{SNOMED},44054006,1481000119100\n"
    file.write_text(f"system,ancestor,descendant\n{parents}")
    code = "1481000119100"
    assert sets_of(SNOMED, code) == set()
    assert sets_of(SNOMED, code, (), file) == {"diabetes", "group:diabetes"}
    assert sets_of("SNOMED", code, (), file) == {"diabetes", "group:diabetes"}


@pytest.mark.parametrize(
    ("system", "above", "below"),
    [
        ("http://www.nlm.nih.gov/research/umls/rxnorm", "6809", "860975"),
        ("urn:oid:2.16.840.1.113883.6.88", "6809", "860975"),
        ("http://loinc.org", "LP31399-9", "2345-7"),
        ("http://fhir.de/CodeSystem/bfarm/ops", "5-35", "5-351.01"),
        ("http://hl7.org/fhir/sid/icd-10-nl", "E11", "E119"),
    ],
)
def test_any_system_has_descendants(tmp_path: Path, system: str, above: str, below: str) -> None:
    """RxNorm and LOINC by the site's own vocabulary, the others by their codes."""
    own, file = tmp_path / "sets.csv", tmp_path / "ancestors.csv"
    own.write_text(f"name,system,code,display\nown,{system},{above},\n")
    file.write_text(f"system,ancestor,descendant\n{system},{above},{below}\n")
    by_prefix = "rxnorm" not in system and "loinc" not in system and ".88" not in system
    assert ("own" in sets_of(system, below, (own,))) == by_prefix
    assert "own" in sets_of(system, below, (own,), file)


def test_a_hierarchy_that_turns_in_a_circle_ends(tmp_path: Path) -> None:
    file = tmp_path / "ancestors.csv"
    rows = "73211009,1\n1,2\n2,1\n2,73211009\n".replace("\n", f"\n{SNOMED},")
    file.write_text(f"system,ancestor,descendant\n{SNOMED},{rows}".removesuffix(f"{SNOMED},"))
    assert "diabetes" in sets_of(SNOMED, "2", (), file)


def test_a_code_system_of_fhir_is_a_hierarchy(tmp_path: Path) -> None:
    below = {"code": "44054006", "concept": [{"code": "x1"}]}
    told = {"code": "y1", "property": [{"code": "parent", "valueCode": "x1"}]}
    system = {
        "resourceType": "CodeSystem",
        "url": SNOMED,
        "concept": [{"code": "73211009", "concept": [below]}, told],
    }
    file = tmp_path / "system.json"
    file.write_text(json.dumps(system))
    for code in ("44054006", "x1", "y1"):
        assert "diabetes" in sets_of(SNOMED, code, (), file)


def test_an_expanded_value_set_of_fhir_replaces_the_shipped_one(tmp_path: Path) -> None:
    contains = [{"system": SNOMED, "code": "1", "contains": [{"system": SNOMED, "code": "2"}]}]
    resource = {
        "resourceType": "ValueSet",
        "name": "diabetes",
        "expansion": {"contains": contains},
    }
    file = tmp_path / "set.json"
    file.write_text(json.dumps(resource))
    assert sets_of(SNOMED, "2", (file,)) == {"diabetes"}
    assert "diabetes" not in sets_of(SNOMED, "73211009", (file,))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "line 1 is not system,ancestor,descendant"),
        ("a.csv", "system,ancestor,descendant\ns,,2\n", "line 2 lacks"),
        ("a.json", "{", "not well formed"),
        ("a.json", '{"resourceType": "ValueSet"}', "no CodeSystem"),
    ],
)
def test_a_broken_hierarchy_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(WardroundError) as caught:
        sets_of(SNOMED, "1", (), file)
    assert caught.value.code is Code.MALFORMED_DATA
    assert said in caught.value.message
    assert str(file) in caught.value.message
