"""ViewDefinitions of SQL on FHIR v2: the official tests, and what their other files ask for."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from client.data.fhir.temporal import Temporal
from client.data.fhir.values import FhirPathError
from client.data.fhir.view_definition import view_definition
from protocol.errors import Code, WardroundError


def run(view: dict[str, Any], *resources: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows as plain JSON. Raises as the runner does."""
    definition = view_definition(view, "view.json")
    names = [column.name for column in definition.columns]
    return [
        {name: str(c) if isinstance(c, Temporal) else c for name, c in zip(names, row, strict=True)}
        for resource in resources
        for row in definition.rows(json.loads(json.dumps(resource), parse_float=Decimal))
    ]


def column(name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "path": path, **more}


def view(*columns: dict[str, Any], resource: str = "Patient", **more: Any) -> dict[str, Any]:
    select = {"column": list(columns)} | {
        key: more.pop(key) for key in ("forEach", "forEachOrNull", "repeat") if key in more
    }
    return {"resource": resource, "select": [select], **more}


ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))


@pytest.mark.skipif(not (ROOT / "sql_on_fhir").is_dir(), reason="the official tests are not here")
def test_the_official_tests_pass() -> None:
    """FHIR/sql-on-fhir-v2, tests/: shareable and experimental ones of the twelve files here."""
    files = sorted((ROOT / "sql_on_fhir").glob("*.json"))
    assert len(files) == 12
    wrong, passed = [], 0
    for file in files:
        suite = json.loads(file.read_text(), parse_float=Decimal)
        for test in suite["tests"]:
            try:
                rows: Any = run(test["view"], *json.loads(file.read_text())["resources"])
            except (FhirPathError, WardroundError):
                rows = "an error"
            expected: Any = "an error" if test.get("expectError") else test["expect"]
            ordered = not isinstance(rows, str) and not isinstance(expected, str)
            if ordered:
                rows, expected = (
                    sorted(json.dumps(r, sort_keys=True, default=str) for r in part)
                    for part in (rows, expected)
                )
            if rows == expected:
                passed += 1
            else:
                wrong.append(f"{file.name}: {test['title']}")
            if "expectColumns" in test:
                names = [c.name for c in view_definition(test["view"], file.name).columns]
                assert names == test["expectColumns"]
    assert not wrong
    assert passed == 80


QUANTITY = {"resourceType": "Observation", "id": "o1", "valueQuantity": {"value": 1.0}}


@pytest.mark.parametrize(
    ("path", "resource", "expected"),
    [
        # fn_boundary
        ("value.ofType(Quantity).value.lowBoundary()", QUANTITY, Decimal("0.95")),
        ("value.ofType(Quantity).value.highBoundary()", QUANTITY, Decimal("1.05")),
        ("value.ofType(dateTime).lowBoundary()", {"valueDateTime": "2010-10-10"},
         "2010-10-10T00:00:00.000+14:00"),
        ("value.ofType(dateTime).highBoundary()", {"valueDateTime": "2010-10-10"},
         "2010-10-10T23:59:59.999-12:00"),
        ("value.ofType(dateTime).highBoundary()", {"valueDateTime": "2010-10-10T10:00:00.5Z"},
         "2010-10-10T10:00:00.599Z"),
        ("birthDate.lowBoundary()", {"birthDate": "1970-06"}, "1970-06-01"),
        ("birthDate.highBoundary()", {"birthDate": "1970-06"}, "1970-06-30"),
        ("birthDate.highBoundary()", {"birthDate": "2020-02"}, "2020-02-29"),
        ("value.ofType(time).lowBoundary()", {"valueTime": "12:34"}, "12:34:00.000"),
        ("value.ofType(time).highBoundary()", {"valueTime": "12:34"}, "12:34:59.999"),
        ("@2014.lowBoundary(6)", {}, "2014-01"),
        ("1.587.lowBoundary(2)", {}, Decimal("1.58")),
        ("(1).highBoundary()", {}, Decimal("1.5")),
        ("effective.ofType(Period).lowBoundary()",
         {"effectivePeriod": {"start": "2020-01-01T10:00:00Z"}}, "2020-01-01T10:00:00.000Z"),
        # fn_extension
        ("extension('u:birthsex').value.ofType(code)",
         {"extension": [{"url": "u:birthsex", "valueCode": "F"}]}, "F"),
        ("extension('u:race').extension('omb').value.ofType(Coding).code",
         {"extension": [{"url": "u:race", "extension": [
             {"url": "omb", "valueCoding": {"code": "2106-3"}}]}]}, "2106-3"),
        ("birthDate.extension('u:time').value.ofType(dateTime)",
         {"birthDate": "1970-01-01", "_birthDate": {"extension": [
             {"url": "u:time", "valueDateTime": "1970-01-01T10:00:00Z"}]}}, "1970-01-01T10:00:00Z"),
        # fn_oftype
        ("value.ofType(string)", {"valueString": "foo"}, "foo"),
        ("value.ofType(integer)", {"valueInteger": 42}, 42),
        ("value.ofType(string)", {"valueInteger": 42}, None),
        ("value.ofType(Quantity).value", {"valueCodeableConcept": {"text": "x"}}, None),
        ("multipleBirth.ofType(boolean)", {"multipleBirthBoolean": False}, False),
        ("value is Quantity", QUANTITY, True),
        ("contained.ofType(Device).id", {"contained": [
            {"resourceType": "Device", "id": "d"}, {"resourceType": "Group", "id": "g"}]}, "d"),
        # fn_reference_keys
        ("getResourceKey() = link.other.getReferenceKey()",
         {"id": "p1", "link": [{"other": {"reference": "Patient/p1"}}]}, True),
        ("getResourceKey() = link.other.getReferenceKey()",
         {"id": "p1", "link": [{"other": {"reference": "Patient/p2"}}]}, False),
        ("getResourceKey() = link.other.getReferenceKey(Patient)",
         {"id": "p1", "link": [{"other": {"reference": "http://a.b/fhir/Patient/p1/_history/3"}}]},
         True),
        ("link.other.getReferenceKey(Observation)",
         {"id": "p1", "link": [{"other": {"reference": "Patient/p1"}}]}, None),
        ("link.other.getReferenceKey()", {"link": [{"other": {"reference": "#inner"}}]}, None),
        ("link.other.getReferenceKey()", {"link": [{"other": {"reference": "P?identifier=1"}}]},
         None),
        # fhirpath_numbers
        ("value.ofType(Range).low.value + value.ofType(Range).high.value",
         {"valueRange": {"low": {"value": 2}, "high": {"value": 3}}}, 5),
        ("value.ofType(Range).high.value - value.ofType(Range).low.value",
         {"valueRange": {"low": {"value": 2}, "high": {"value": 3.5}}}, Decimal("1.5")),
        ("value.ofType(Range).low.value * value.ofType(Range).high.value",
         {"valueRange": {"low": {"value": 2}, "high": {"value": 3}}}, 6),
        ("value.ofType(Range).high.value / value.ofType(Range).low.value",
         {"valueRange": {"low": {"value": 2}, "high": {"value": 3}}}, Decimal("1.5")),
        ("value.ofType(Range).high.value mod value.ofType(Range).low.value",
         {"valueRange": {"low": {"value": 2}, "high": {"value": 3}}}, 1),
        ("1 / 0", {}, None),
        # dates compare by their precision, whatever wrote them
        ("birthDate < @1980-01-01", {"birthDate": "1970-06"}, True),
        ("birthDate < @1970-06-15", {"birthDate": "1970-06"}, None),
        ("value.ofType(dateTime) = @2020-01-01T12:00:00Z",
         {"valueDateTime": "2020-01-01T14:00:00+02:00"}, True),
        ("@2020-01-31 + 1 month", {}, "2020-02-29"),
        ("code = '2345'", {"code": "2345-01"}, False),
        # the rest
        ("%resource.id", {"id": "p1"}, "p1"),
        ("name.exists(family = 'A') implies active", {"name": [{"family": "A"}]}, None),
        ("name.where($index = 1).family", {"name": [{"family": "A"}, {"family": "B"}]}, "B"),
        ("iif(active, 'y', 'n')", {"active": False}, "n"),
        ("'a' & {} & 'b'", {}, "ab"),
        ("(1 | 2 | 2).count()", {}, 2),
        ("name.given.select($this.upper()).join('+')", {"name": [{"given": ["a", "b"]}]}, "A+B"),
        ("name.given.aggregate($total + $this, '')", {"name": [{"given": ["a", "b"]}]}, "ab"),
        ("5 'mg' > 3 'mg'", {}, True),
        ("5 'mg' > 3 'g'", {}, None),
        ("'ABC' ~ 'abc'", {}, True),
        ("descendants().where($this is string).count()", {"id": "a", "name": [{"family": "b"}]}, 2),
    ],
)  # fmt: skip
def test_paths(path: str, resource: dict[str, Any], expected: Any) -> None:
    rows = run(view(column("v", path)), {"resourceType": "Patient"} | resource | {
        "resourceType": "Patient"})  # fmt: skip
    assert rows == [{"v": expected}]


@pytest.mark.parametrize(
    ("kind", "value", "path"),
    [
        ("Base64Binary", "QQ==", "value.ofType(base64Binary)"),
        ("Boolean", True, "value.ofType(boolean)"),
        ("Canonical", "http://a", "value.ofType(canonical)"),
        ("Code", "c", "value.ofType(code)"),
        ("Date", "1978-03-12", "value.ofType(date)"),
        ("DateTime", "2016-11-12T10:00:00Z", "value.ofType(dateTime)"),
        ("Decimal", 1.2, "value.ofType(decimal)"),
        ("Id", "i", "value.ofType(id)"),
        ("Instant", "2015-02-07T13:28:17.239+02:00", "value.ofType(instant)"),
        ("Integer", 10, "value.ofType(integer)"),
        ("Integer64", 10, "value.ofType(integer64)"),
        ("Oid", "urn:oid:1.2", "value.ofType(oid)"),
        ("PositiveInt", 1, "value.ofType(positiveInt)"),
        ("String", "s", "value.ofType(string)"),
        ("Time", "18:12:00", "value.ofType(time)"),
        ("UnsignedInt", 0, "value.ofType(unsignedInt)"),
        ("Uri", "urn:a", "value.ofType(uri)"),
        ("Url", "http://a", "value.ofType(url)"),
        ("Uuid", "urn:uuid:1", "value.ofType(uuid)"),
    ],
)
def test_a_constant_is_of_any_primitive_type(kind: str, value: Any, path: str) -> None:
    definition = view(
        column("id", "id"),
        constant=[{"name": "wanted", f"value{kind}": value}],
        where=[{"path": f"{path} = %wanted"}],
    )
    same = {"resourceType": "Patient", "id": "a", f"value{kind}": value}
    assert run(definition, same, {"resourceType": "Patient", "id": "b"}) == [{"id": "a"}]


def test_the_row_index_counts_within_its_own_for_each() -> None:
    patient = {
        "resourceType": "Patient",
        "name": [{"family": "A", "given": ["a", "b"]}, {"family": "B"}],
    }
    inner = {"forEach": "given", "column": [column("inner", "%rowIndex")]}
    outer = {"forEach": "name", "column": [column("outer", "%rowIndex")], "select": [inner]}
    top = {"column": [column("top", "%rowIndex")]}
    assert run({"resource": "Patient", "select": [top, outer]}, patient) == [
        {"top": 0, "outer": 0, "inner": 0},
        {"top": 0, "outer": 0, "inner": 1},
    ]
    union = {"forEach": "name", "unionAll": [{"column": [column("i", "%rowIndex")]}] * 2}
    assert run({"resource": "Patient", "select": [union]}, patient) == [
        {"i": 0}, {"i": 0}, {"i": 1}, {"i": 1}
    ]  # fmt: skip


def test_repeat_walks_depth_first_over_all_its_paths() -> None:
    def item(link: str, *items: Any, answer: Any = None) -> dict[str, Any]:
        return {"linkId": link} | ({"item": list(items)} if items else {}) | (
            {"answer": [{"item": [answer]}]} if answer else {})  # fmt: skip

    response = {
        "resourceType": "QuestionnaireResponse",
        "item": [item("1", item("1.1", item("1.1.1")), item("1.2", answer=item("x"))), item("2")],
    }
    select = {
        "repeat": ["item", "answer.item"],
        "column": [column("link", "linkId"), column("n", "%rowIndex")],
    }
    rows = run({"resource": "QuestionnaireResponse", "select": [select]}, response)
    assert [row["link"] for row in rows] == ["1", "1.1", "1.1.1", "1.2", "x", "2"]
    assert [row["n"] for row in rows] == list(range(6))


def test_for_each_or_null_gives_one_row_of_nulls() -> None:
    nested = {"forEach": "given", "column": [column("given", "$this")]}
    select = {"forEachOrNull": "name", "column": [column("f", "family")], "select": [nested]}
    found = run({"resource": "Patient", "select": [select]}, {"resourceType": "Patient"})
    assert found == [{"f": None, "given": None}]


def test_only_resources_of_the_views_type_are_read() -> None:
    definition = view(column("id", "id"))
    assert run(definition, {"resourceType": "Observation", "id": "o"}) == []


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "resource"),
        ([], "object"),
        ({"select": [{"column": [column("id", "id")]}]}, "`resource`"),
        ({"resource": "patient", "select": [{"column": [column("id", "id")]}]}, "`resource`"),
        ({"resource": "Patient"}, "`select` is missing"),
        ({"resource": "Patient", "select": []}, "`select` is missing"),
        ({"resource": "Patient", "select": {"column": []}}, "no list"),
        ({"resource": "Patient", "select": [{}]}, "neither column"),
        ({"resource": "Patient", "select": [{"forEach": 1, "column": [column("a", "id")]}]},
         "text"),
        ({"resource": "Patient", "select": [{"forEach": "@@", "column": [column("a", "id")]}]},
         "character 1"),
        ({"resource": "Patient", "select": [{"forEach": "a", "forEachOrNull": "b",
                                             "column": [column("a", "id")]}]}, "both"),
        ({"resource": "Patient", "select": [{"repeat": [], "column": [column("a", "id")]}]},
         "empty"),
        (view(column("id", "id"), column("id", "gender")), "two columns are named id"),
        (view(column("_id", "id")), "no valid `name`"),
        (view(column("a b", "id")), "no valid `name`"),
        (view({"name": "a"}), "`path`"),
        (view(column("a", "name.nonsense()")), r"nonsense\(\) is not known"),
        (view(column("a", "name.first(1)")), "does not take 1"),
        (view(column("a", "name.where(")), "character"),
        (view(column("a", "(" * 500 + "id" + ")" * 500)), "too deeply"),
        (view(column("a", "%nope")), "%nope is not defined"),
        (view(column("a", "id"), constant=[{"name": "c"}]), "value"),
        (view(column("a", "id"), constant=[{"name": "c", "valueCoding": {}}]), "primitive"),
        (view(column("a", "id"), constant=[{"valueString": "x"}]), "no valid `name`"),
        (view(column("a", "id"), where=["active"]), "`path`"),
        (view(column("a", "id", collection="yes")), "neither true nor false"),
        ({"resource": "Patient", "select": [{"unionAll": [
            {"column": [column("a", "id", type="string")]},
            {"column": [column("a", "active", type="boolean")]}]}]}, "two types"),
    ],
)  # fmt: skip
def test_a_definition_that_is_not_valid_is_refused_before_any_resource(
    document: Any, says: str
) -> None:
    with pytest.raises(WardroundError, match=says) as caught:
        view_definition(document, "views/broken.json")
    assert caught.value.code is Code.CONFIGURATION
    assert "views/broken.json" in caught.value.message


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        (view(column("a", "name.family")), "several values, and column a is no collection"),
        (view(column("a", "id"), where=[{"path": "name.family.first()"}]), "neither true nor"),
        (view(column("a", "id + 1")), "does not fit"),
        (view(column("a", "name.family.upper()")), "several values"),
    ],
)
def test_what_a_resource_does_not_fit_is_named_and_not_quoted(
    definition: dict[str, Any], says: str
) -> None:
    patient = {"resourceType": "Patient", "id": "CANARY", "name": [{"family": "CANARY"}] * 2}
    with pytest.raises(FhirPathError, match=says) as caught:
        run(definition, patient)
    assert "CANARY" not in str(caught.value)
