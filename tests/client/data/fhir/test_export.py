"""FHIR exports: NDJSON and bundles give the same tables; what is broken is named by its line."""

from __future__ import annotations

import functools
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from client.data.fhir import resources
from client.data.sources.settings import Fhir, Sources
from client.data.view_reader import read, read_here
from protocol.errors import Code, WardroundError
from tasks.schema import Table

PACKED = functools.partial(gzip.compress, mtime=0)
"""The same bytes at any time, since they are part of tests' names."""

ROOT = Path(os.environ.get("WARDROUND_DATA", Path.home() / ".local/share/wardround"))
VIEWS = {
    "patient": ("Patient", {"id": "getResourceKey()", "gender": "gender", "active": "active"}),
    "visit": (
        "Encounter",
        {"id": "getResourceKey()", "patient": "subject.getReferenceKey(Patient)"},
    ),
    "result": (
        "Observation",
        {"patient": "subject.getReferenceKey(Patient)",
         "visit": "encounter.getReferenceKey(Encounter)",
         "value": "value.ofType(Quantity).value"},
    ),
}  # fmt: skip
TYPES = {"active": "boolean", "value": "decimal"}


@pytest.fixture
def views(tmp_path: Path) -> Path:
    folder = tmp_path / "views"
    folder.mkdir()
    for name, (resource, columns) in VIEWS.items():
        chosen = [
            {"name": n, "path": path, "type": TYPES.get(n, "string")} for n, path in columns.items()
        ]
        document = {"name": name, "resource": resource, "select": [{"column": chosen}]}
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


def told(
    folder: Path, views: Path, sql: str, memory: int = 1 << 30, minutes: float = 5.0
) -> tuple[Table, list[str]]:
    notes: list[str] = []
    sources = Sources(fhir=Fhir(folder=folder, views=(views,)), minutes=minutes)
    return read(sources, sql, note=notes.append, memory=memory), notes


def refused(folder: Path, views: Path, sql: str = "SELECT * FROM patient") -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        told(folder, views, sql)
    assert "CANARY" not in str(caught.value)
    return caught.value


PATIENT = {"resourceType": "Patient", "id": "p", "gender": "female", "active": True}
VISIT = {"resourceType": "Encounter", "id": "v", "subject": {"reference": "Patient/p"}}
RESULT = {
    "resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/p"},
    "encounter": {"reference": "Encounter/v"}, "valueQuantity": {"value": 5.25},
}  # fmt: skip
JOIN = (
    "SELECT p.id, p.gender, p.active, r.value FROM result r JOIN visit v ON v.id = r.visit"
    " JOIN patient p ON p.id = v.patient"
)


def lines(*resources: dict[str, Any]) -> str:
    return "".join(json.dumps(resource) + "\n" for resource in resources)


def test_ndjson_and_every_kind_of_bundle_give_the_same_rows(tmp_path: Path, views: Path) -> None:
    found = []
    for kind in ("lines", "mixed.gz", "transaction", "collection", "searchset"):
        folder = tmp_path / kind
        folder.mkdir()
        if kind == "lines":
            for resource in (PATIENT, VISIT, RESULT):
                (folder / f"{resource['resourceType']}.000.ndjson").write_text(lines(resource))
        elif kind == "mixed.gz":
            text = lines(RESULT, PATIENT, VISIT)
            (folder / "all.ndjson.gz").write_bytes(gzip.compress(text.encode()))
        elif kind == "transaction":  # references by the entries' own addresses, without ids
            address = {"Patient/p": "urn:uuid:aa-1", "Encounter/v": "urn:uuid:bb-2"}
            text = json.dumps([RESULT, VISIT, PATIENT])
            for reference, urn in address.items():
                text = text.replace(reference, urn)
            entries = []
            for resource in json.loads(text):
                urn = address.get(f"{resource['resourceType']}/{resource.pop('id')}", "urn:uuid:c")
                request = {"method": "POST", "url": resource["resourceType"]}
                entries.append({"fullUrl": urn, "resource": resource, "request": request})
            bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
            (folder / "bundle.json").write_text(json.dumps(bundle, indent=2))
        else:
            entries = [
                {"fullUrl": f"http://a/fhir/{r['resourceType']}/{r['id']}", "resource": r}
                for r in (RESULT, VISIT, PATIENT)
            ]
            bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
            (folder / "bundle.json").write_text(json.dumps(bundle))
        table, notes = told(folder, views, JOIN)
        assert notes == [], kind
        found.append((table["gender"].tolist(), table["active"].tolist(), table["value"].tolist()))
    assert found == [(["female"], [1.0], [5.25])] * 5


def test_references_that_lead_nowhere_are_counted_and_told(tmp_path: Path, views: Path) -> None:
    lost = RESULT | {"id": "o2", "encounter": {"reference": "Encounter/CANARY"}}
    (tmp_path / "all.ndjson").write_text(lines(PATIENT, VISIT, RESULT, lost))
    table, notes = told(tmp_path / "all.ndjson", views, "SELECT count(*) AS n FROM result")
    assert table["n"].tolist() == [2.0]
    assert notes == [
        "1 of 2 references in result.visit lead to a Encounter that the FHIR export does not hold."
    ]


def test_a_resource_that_comes_twice_counts_once_in_its_newest_version(
    tmp_path: Path, views: Path
) -> None:
    def version(gender: str, updated: str | None) -> dict[str, Any]:
        return (
            PATIENT | {"gender": gender} | ({"meta": {"lastUpdated": updated}} if updated else {})
        )

    (tmp_path / "a.ndjson").write_text(
        lines(version("other", None), version("male", "2020-02-01T00:00:00Z"))
    )
    (tmp_path / "b.ndjson").write_text(lines(version("female", "2020-01-01T00:00:00Z")))
    (tmp_path / "c.ndjson").write_text(lines(VISIT, RESULT))
    table, notes = told(tmp_path, views, "SELECT gender FROM patient")
    assert table["gender"].tolist() == ["male"]
    assert notes == ["2 FHIR resources came more than once: the newest counts."]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"resourceType": "Patient"}\n{"resourceType": "Patient", "id": "CANARY', "line 2"),
        ('{"resourceType": "Patient"}\nCANARY\n', "line 2"),
        ('{"resourceType": "Patient"}\n[1]\n', "line 2: no FHIR resource"),
        ('{"resourceType": "Patient"}\n{"id": "CANARY"}\n', "line 2: no FHIR resource"),
        (b'{"resourceType": "Patient", "id": "CANARY\xff"}\n', "line 1: not UTF-8"),
        ('\n{"resourceType": "Patient", "gender": ["CANARY", "b"]}\n', "line 2, read by"),
        ('{"resourceType": "Patient", "active": "CANARY"}\n', "column active"),
        ('{"resourceType": "Patient", "id": "' + "[" * 3 + '"}\n' + "[" * 100_000, "line 2"),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_and_not_quoted(
    tmp_path: Path, views: Path, text: str | bytes, says: str
) -> None:
    file = tmp_path / "Patient.ndjson"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    error = refused(file, views)
    assert error.code is Code.MALFORMED_DATA
    assert str(file) in error.message
    assert says in error.message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("b.json", b'{"resourceType": "Bundle", "entry": [{"resource": {"id": "CANARY"}}]}',
         "entry 1: no FHIR resource"),
        ("b.json", b'{"resourceType": "Bundle", "entry": [1]}', "no objects"),
        ("b.json", b'{"resourceType": "Bundle", "entry": [{"resource"', "not well formed"),
        ("b.ndjson.gz", b"CANARY", "cannot be read"),
        ("b.ndjson.gz", PACKED(b'{"resourceType": "Patient"}\n' * 999)[:-20], "well formed"),
    ],
)  # fmt: skip
def test_a_broken_bundle_is_named(
    tmp_path: Path, views: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path / name, views)
    assert says in error.message
    assert name in error.message


def test_a_line_of_two_gigabytes_is_never_held(tmp_path: Path, views: Path) -> None:
    file = tmp_path / "Patient.ndjson"
    with file.open("wb") as out:
        out.write(b'{"resourceType": "Patient", "id": "')
        out.truncate(2 << 30)  # a hole: takes no room on the disk
    assert "line 1: longer than 16 MiB" in refused(file, views).message


def test_what_is_not_there_is_named(tmp_path: Path, views: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty", views).code is Code.NO_DATA
    assert refused(tmp_path / "absent", views).code is Code.NO_DATA
    (tmp_path / "a.ndjson").write_text(lines(PATIENT))
    assert "absent.json" in refused(tmp_path / "a.ndjson", tmp_path / "absent.json").message
    assert refused(tmp_path / "a.ndjson", tmp_path / "empty").code is Code.NO_DATA
    (tmp_path / "v.json").write_text("{")
    assert refused(tmp_path / "a.ndjson", tmp_path / "v.json").code is Code.CONFIGURATION
    _, notes = told(tmp_path / "a.ndjson", views, "SELECT * FROM patient")
    assert notes == ["The FHIR export holds no Encounter.", "The FHIR export holds no Observation."]


def test_an_export_that_needs_more_memory_or_time_than_allowed_stops(
    tmp_path: Path, views: Path
) -> None:
    file = tmp_path / "all.ndjson"
    with file.open("w") as out:
        for k in range(12_000):
            out.write(lines(PATIENT | {"id": str(k), "gender": f"{k}" * 400}))
    with pytest.raises(WardroundError, match="more memory than allowed"):
        told(file, views, "SELECT * FROM patient", memory=8 << 20)
    with pytest.raises(WardroundError, match="longer than"):
        told(file, views, "SELECT * FROM patient", minutes=1e-5)


def test_a_file_that_grows_while_it_is_read_is_named(
    tmp_path: Path, views: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    file = folder / "Patient.ndjson"
    file.write_text(lines(PATIENT))
    plain = resources.read

    def growing(path: Path, wanted: Any) -> Any:
        for one in plain(path, wanted):
            with path.open("a") as more:
                more.write(lines(PATIENT | {"id": "CANARY"}))
            yield one
            return

    monkeypatch.setattr(resources, "read", growing)
    sources = Sources(fhir=Fhir(folder=folder, views=(views,)))
    error = read_here(sources, "SELECT * FROM patient", (), 1 << 30, 1, None, None).table
    assert isinstance(error, WardroundError)
    assert error.code is Code.MALFORMED_DATA
    assert f"{file} changed while it was read" in error.message


def test_the_store_behind_the_tables_is_out_of_reach(tmp_path: Path, views: Path) -> None:
    (tmp_path / "a.ndjson").write_text(lines(PATIENT))
    for sql in ('SELECT * FROM "fhir rows".keys', 'SELECT * FROM "fhir rows".main.keys'):
        assert refused(tmp_path / "a.ndjson", views, sql).code is Code.CONFIGURATION


@pytest.mark.skipif(not (ROOT / "fhir_synthea").is_dir(), reason="Synthea's samples are not here")
def test_synthea_as_ndjson_and_as_bundles(views: Path) -> None:
    counts = "SELECT (SELECT count(*) FROM patient) AS p, (SELECT count(*) FROM visit) AS v,"
    counts += " (SELECT count(*) FROM result) AS r, (SELECT count(*) FROM visit JOIN patient"
    counts += " ON patient.id = visit.patient) AS joined"
    table, notes = told(ROOT / "fhir_synthea/ndjson", views, counts)
    assert {k: v[0] for k, v in table.items()} == {"p": 13, "v": 1215, "r": 0, "joined": 1215}
    assert notes == ["The FHIR export holds no Observation."]
    table, notes = told(ROOT / "fhir_synthea/bundles", views, counts)
    assert {k: v[0] for k, v in table.items()} == {"p": 8, "v": 135, "r": 588, "joined": 135}
    assert not any("lead to" in note for note in notes)
