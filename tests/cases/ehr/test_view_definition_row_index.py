"""%rowIndex counts from 0, also in the one row that forEachOrNull makes of nothing.

SQL on FHIR v2, the official test "%rowIndex with forEachOrNull" (tagged shareable; MIT licence,
FHIR/sql-on-fhir-v2). Fault of this kind: a row that stands for an absent element has no index.
"""

from __future__ import annotations

from typing import Any

from client.data.fhir.view_definition import view_definition

VIEW: dict[str, Any] = {
    "resource": "Patient",
    "status": "active",
    "select": [
        {"column": [{"name": "id", "path": "id", "type": "id"}]},
        {
            "forEachOrNull": "name",
            "column": [
                {"name": "name_index", "path": "%rowIndex", "type": "integer"},
                {"name": "family", "path": "family", "type": "string"},
            ],
        },
    ],
}
PATIENTS: list[dict[str, Any]] = [
    {"resourceType": "Patient", "id": "pt1", "name": [{"family": "Smith"}, {"family": "Jones"}]},
    {"resourceType": "Patient", "id": "pt3"},
]


def test_row_index_under_for_each_or_null() -> None:
    definition = view_definition(VIEW, "view.json")
    names = [column.name for column in definition.columns]
    rows = [
        dict(zip(names, row, strict=True))
        for patient in PATIENTS
        for row in definition.rows(patient)
    ]
    assert rows == [
        {"id": "pt1", "name_index": 0, "family": "Smith"},
        {"id": "pt1", "name_index": 1, "family": "Jones"},
        {"id": "pt3", "name_index": 0, "family": None},
    ]
