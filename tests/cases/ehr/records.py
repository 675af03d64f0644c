"""Small health records with a known answer, read as a hospital's own daemon reads them.

All patients are made up. A FHIR export is built here out of plain resources; an OMOP CDM is written
by `tests.client.data.clinical_facts` and then changed cell by cell.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.data import templates, view_reader
from client.data.sources.settings import Fhir, Omop, Sources
from protocol.errors import WardroundError
from tasks.schema import Table
from tests.client.data.clinical_facts import Person, write_omop

SNOMED, LOINC = "http://snomed.info/sct", "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"

Resource = dict[str, Any]
Row = dict[str, Any]
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Answer:
    """What reading gave for one patient."""

    row: Row | str | None
    """His row, None where the cohort lacks him, or the words of a refusal."""
    notes: tuple[str, ...]
    """What the hospital was told about its own data."""

    def of(self, *columns: str) -> Row | str | None:
        """The row's `columns` alone."""
        if isinstance(self.row, dict):
            return {column: self.row[column] for column in columns}
        return self.row


# FHIR


def patient(name: str, **more: Any) -> Resource:
    about = {"gender": "female", "birthDate": "1960-03-01"}
    return {"resourceType": "Patient", "id": name, **about, **more}


def encounter(
    name: str, of: str, start: str, end: str | None, kind: str = "IMP", **more: Any
) -> Resource:
    """`end` None: not over."""
    return {
        "resourceType": "Encounter",
        "id": name,
        "status": "finished",
        "class": {"code": kind},
        "subject": {"reference": f"Patient/{of}"},
        "period": {"start": start} | ({"end": end} if end else {}),
        **more,
    }


def diabetes(
    of: str, during: str, system: str = SNOMED, code: str = "73211009", **more: Any
) -> Resource:
    return {
        "resourceType": "Condition",
        "subject": {"reference": f"Patient/{of}"},
        "encounter": {"reference": f"Encounter/{during}"},
        "code": codings((system, code)),
        **more,
    }


def observation(
    of: str, time: str, value: float, code: str = "8867-4", unit: str = "/min", **more: Any
) -> Resource:
    """A heart rate, unless another LOINC code is given."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "subject": {"reference": f"Patient/{of}"},
        "code": codings((LOINC, code)),
        "effectiveDateTime": time,
        "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
        **more,
    }


def codings(*pairs: tuple[str, str]) -> dict[str, Any]:
    """A CodeableConcept of (system, code)."""
    return {"coding": [{"system": system, "code": code} for system, code in pairs]}


def later() -> list[Resource]:
    """Another patient, long after: the records go on, so that outcomes are known."""
    return [patient("z"), encounter("ez", "z", "2021-06-10T09:00:00Z", "2021-06-12T09:00:00Z")]


def icu_stay(
    stay: tuple[str, str | None], icu: tuple[str, str | None], **about: Any
) -> list[Resource]:
    """Patient p in hospital, and in intensive care within that; `about`: more of the patient."""
    unit: Resource = {
        "partOf": {"reference": "Encounter/h"},
        "type": [codings((SNOMED, "305351004"))],
    }
    return [
        patient("p", **about),
        encounter("h", "p", *stay),
        encounter("i", "p", *icu, kind="ACUTE", **unit),
    ]


def read_fhir(
    folder: Path, resources: Sequence[Resource], task: str, ancestors: Sequence[Path] = ()
) -> Answer:
    """Patient p in the cohort of `task`, by the view over FHIR that is shipped."""
    export = folder / "fhir"
    export.mkdir()
    lines: dict[str, list[str]] = {}
    for number, resource in enumerate(resources):
        line = json.dumps({"id": f"x{number}"} | resource)
        lines.setdefault(resource["resourceType"], []).append(line)
    for kind, written in lines.items():
        (export / f"{kind}.ndjson").write_text("\n".join(written) + "\n")
    fhir = Fhir(folder=export, views=templates.definitions(task))
    sources = Sources(fhir=fhir, ancestors=tuple(ancestors))
    found, notes = _read(sources, templates.view("template:fhir", task), folder)
    # These exports are small, of a site at Greenwich: neither says anything here.
    usual = ("holds no", "told in UTC")
    told = tuple(note for note in notes if not any(words in note for words in usual))
    return Answer(_row(found, "p"), told)


# OMOP


@dataclass(frozen=True)
class Edit:
    """Cells of one row of an OMOP table; `row` None: a new row."""

    table: str
    row: int | None
    cells: Mapping[str, object]


def read_omop(folder: Path, people: list[Person], task: str, edits: Sequence[Edit] = ()) -> Answer:
    """Person 1 in the cohort of `task`, by the view over OMOP that is shipped."""
    cdm = write_omop(folder / "omop", people)
    for edit in edits:
        change(cdm, edit)
    found, notes = _read(
        Sources(omop=Omop(folder=cdm)), templates.view("template:omop", task), folder
    )
    return Answer(_row(found, "1"), tuple(notes))


def change(cdm: Path, edit: Edit) -> None:
    """Of a CDM that `write_omop` wrote."""
    path = cdm / f"{edit.table}.csv"
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows, names = list(reader), list(reader.fieldnames or ())
    cells = {name: str(value) for name, value in edit.cells.items()}
    if edit.row is None:
        rows.append(cells)
    else:
        rows[edit.row].update(cells)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


# Files


def read_file(folder: Path, text: str, view: str, name: str = "t.csv") -> Rows | str:
    """The rows of `view` over the file as table t, or the words of a refusal."""
    path = folder / name
    path.write_bytes(text.encode())
    found, _ = _read(Sources(files={"t": path}), view, folder)
    if isinstance(found, str):
        return found
    columns = [[_plain(value) for value in values] for values in found.values()]
    return list(zip(*columns, strict=True))


def _read(sources: Sources, view: str, folder: Path) -> tuple[Table | str, list[str]]:
    notes: list[str] = []
    try:
        return view_reader.read(sources, view, note=notes.append), notes
    except WardroundError as error:
        words = f"{error.code.value}: {error.message} {error.remedy or ''}"
        # The folder is named after the test, and its name must not pass for an explanation.
        return words.replace(str(folder), ""), notes


def _row(found: Table | str, who: str) -> Row | str | None:
    if isinstance(found, str):
        return found
    names = [str(name).split("/")[-1] for name in found["patient"]]
    if who not in names:
        return None
    return {column: _plain(values[names.index(who)]) for column, values in found.items()}


def _plain(value: Any) -> Any:
    """NaN is None, and NumPy's numbers are Python's."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value
