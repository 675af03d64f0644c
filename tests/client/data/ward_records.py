"""A ward of `same_wards` as a FHIR export, an OMOP CDM and CSV files, and what the shipped view of
`deterioration` says of it."""

from __future__ import annotations

import csv
import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from client.data import templates
from client.data.sources.file_format import FileFormat
from client.data.sources.settings import Fhir, Sources
from client.data.view_reader import read
from tests.client.data import same_patients
from tests.client.data.clinical_facts import SYSTEMS
from tests.client.data.same_patients import (
    ZONE,
    Route,
    Style,
    append_rows,
    date_columns,
    intensive_spans,
    segments_of,
    time_text,
)
from tests.client.data.same_wards import Event, Result, Ward

Row = dict[str, Any]
_OTHER_CODINGS = {"8867-4": ("SNOMED", "364075005"), "8480-6": ("SNOMED", "271649006")}
"""Another code of the same thing; of all others, a number of the hospital's own."""
_UCUM = ("/min", "mm[Hg]", "Cel", "[degF]", "%", "{score}", "1", "mg/dL", "umol/L", "mmol/L",
         "10*3/uL", "g/dL", "g/L", "mg/L")  # fmt: skip
_NO_ORDERS: tuple[Row, ...] = (
    {"status": "entered-in-error"},
    {"status": "cancelled"},
    {"status": "draft"},
    {"intent": "proposal"},
    {"doNotPerform": True},
)
_VOCABULARIES = {"medicine": "ATC", "procedure": "SNOMED", "diagnosis": "SNOMED"}


def sources(folder: Path, ward: Ward, route: Route, style: Style) -> Sources:
    """The ward as one kind of source."""
    chance = random.Random(len(ward.results))
    match route:
        case "fhir":
            same_patients.sources(folder, ward.patients, route, style)
            made = [one for result in ward.results for one in _observation(result, style, chance)]
            made += [one for event in ward.events for one in _happening(event, style, chance)]
            chance.shuffle(made)
            lines = [
                json.dumps({"id": f"w{place}"} | resource) for place, resource in enumerate(made)
            ]
            (folder / "ward.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
            return Sources(fhir=Fhir(folder=folder, views=templates.definitions("deterioration")))
        case "omop":
            found = same_patients.sources(folder, ward.patients, route, style)
            _write_omop(folder, ward, style)
            return found
        case "csv":
            folder.mkdir()
            return _write_csv(folder, ward, style, chance)


def _known(at: datetime, day: bool, style: Style, chance: random.Random | None = None) -> str:
    return time_text(at, "days" if day else style, chance) or ""


def _subject(patient: int, chance: random.Random) -> Row:
    forms = ("Patient/{}", "Patient/{}/_history/3", "http://ehr.example.org/fhir/Patient/{}")
    return {"subject": {"reference": chance.choice(forms).format(patient)}}


def _codings(vocabulary: str, code: str, twice: bool, chance: random.Random) -> Row:
    made = [(SYSTEMS[vocabulary], code)]
    if twice:
        second, other = _OTHER_CODINGS.get(code, ("", "4711"))
        made.append((SYSTEMS.get(second, "http://hospital.example.org/codes"), other))
    chance.shuffle(made)
    return {"coding": [{"system": system, "code": code} for system, code in made]}


def _observation(result: Result, style: Style, chance: random.Random) -> list[Row]:
    unit = result.unit[0]
    quantity: Row = {"value": result.value}
    if unit in _UCUM and chance.random() < 0.6:
        quantity |= {"unit": "as printed", "system": SYSTEMS["UCUM"], "code": unit}
    elif unit:
        quantity |= {"unit": unit}
    what: Row = {
        "code": _codings("LOINC", result.analyte.code, result.told == "twice", chance),
        "valueQuantity": quantity,
    }
    if result.analyte.feature == "systolic_bp" and chance.random() < 0.5:
        pressure = {"coding": [{"system": SYSTEMS["LOINC"], "code": "85354-9"}]}
        what = {"code": pressure, "component": [what]}
    at = _known(result.at, result.day, style, chance)
    when: Row = {"effectiveDateTime": at}
    if chance.random() < 0.2:
        begun = _known(result.at - timedelta(hours=1), result.day, style, chance)
        when = {"effectivePeriod": {"start": begun, "end": at}}
    wrong = chance.choice(("entered-in-error", "cancelled"))
    status = {"status": wrong if result.told == "mistaken" else chance.choice(("final", "amended"))}
    made = (
        {"resourceType": "Observation", **_subject(result.patient, chance)} | status | what | when
    )
    return _versions(made, result.told == "corrected", chance, _earlier(what))


def _earlier(what: Row) -> Row:
    if "component" in what:
        return what | {"component": [_earlier(part) for part in what["component"]]}
    return what | {"valueQuantity": what["valueQuantity"] | {"value": 61.5}}


def _versions(made: Row, corrected: bool, chance: random.Random, earlier: Row) -> list[Row]:
    """The resource; of a corrected one, the version before it too, which said `earlier`."""
    if not corrected:
        return [made]
    of = {"id": f"v{chance.getrandbits(60)}"}
    before = made | earlier | of | {"meta": {"lastUpdated": "2021-07-02T10:00:00+02:00"}}
    return [before, made | of | {"meta": {"lastUpdated": "2021-07-02T09:00:00Z"}}]


def _happening(event: Event, style: Style, chance: random.Random) -> list[Row]:
    at = _known(event.at, event.day, style, chance)
    code = _codings(_VOCABULARIES[event.kind], event.code, event.told == "twice", chance)
    of = _subject(event.patient, chance)
    mistaken = event.told == "mistaken"
    made: Row
    match event.kind:
        case "medicine":
            made = {"resourceType": "MedicationRequest", "authoredOn": at} | of
            made |= {"status": chance.choice(("active", "completed", "stopped")), "intent": "order"}
            if mistaken:
                made |= chance.choice(_NO_ORDERS)
            way = chance.random()
            if way < 0.6:
                return [made | {"medicationCodeableConcept": code}]
            product: Row = {
                "resourceType": "Medication",
                "id": f"m{chance.getrandbits(60)}",
                "code": code,
            }
            if way < 0.8:
                inside: Row = {
                    "contained": [product | {"id": "m"}],
                    "medicationReference": {"reference": "#m"},
                }
                return [made | inside]
            to = {"medicationReference": {"reference": f"Medication/{product['id']}"}}
            return [made | to, product]
        case "procedure":
            when: Row = {"performedDateTime": at}
            if chance.random() < 0.5:
                when = {"performedPeriod": {"start": at}}
            wrong = chance.choice(("entered-in-error", "not-done", "preparation"))
            status = wrong if mistaken else "completed"
            made = {"resourceType": "Procedure", "status": status, "code": code} | of | when
        case "diagnosis":
            made = {"resourceType": "Condition", "code": code} | of
            made |= {"onsetDateTime": at} if chance.random() < 0.5 else {"recordedDate": at}
            if mistaken:
                wrong = chance.choice(("refuted", "entered-in-error"))
                made["verificationStatus"] = {"coding": [{"code": wrong}]}
    return _versions(made, event.told == "corrected", chance, {})


class _Concepts:
    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}

    def of(self, vocabulary: str, code: str) -> int:
        number = 2_000_000_000 + len(self.rows)
        row = {"concept_id": number, "vocabulary_id": vocabulary, "concept_code": code}
        return int(self.rows.setdefault((vocabulary, code), row)["concept_id"])


def _write_omop(folder: Path, ward: Ward, style: Style) -> None:
    concepts = _Concepts()
    tables: dict[str, list[Row]] = {
        name: []
        for name in ("measurement", "drug_exposure", "procedure_occurrence", "condition_occurrence")
    }
    below = set[tuple[int, int]]()
    row: Row
    for result in ward.results:
        if result.told == "mistaken":
            continue
        unit = result.unit[0]
        row = {
            "person_id": result.patient,
            "measurement_concept_id": concepts.of("LOINC", result.analyte.code),
            "value_as_number": result.value,
            "unit_concept_id": concepts.of("UCUM", unit) if unit in _UCUM else 0,
            "unit_source_value": "as printed" if unit in _UCUM else unit,
        }
        tables["measurement"].append(row | _omop_time("measurement", result, style))
    for number, event in enumerate(ward.events):
        if event.told == "mistaken":
            continue
        person = {"person_id": event.patient}
        concept = concepts.of(_VOCABULARIES[event.kind], event.code)
        match event.kind:
            case "medicine":
                product = concepts.of("RxNorm", f"product {event.code}")
                below |= {(concepts.of("ATC", event.code[:n]), product) for n in (1, 3, 4, 5, 7)}
                row = person | {"drug_exposure_id": number, "drug_concept_id": product}
                row |= _omop_time("drug_exposure_start", event, style)
                tables["drug_exposure"].append(row)
            case "procedure":
                row = person | {"procedure_concept_id": concept}
                tables["procedure_occurrence"].append(row | _omop_time("procedure", event, style))
            case "diagnosis":
                row = person | {"condition_occurrence_id": -1 - number}
                row |= {"condition_concept_id": concept, "condition_source_concept_id": 0}
                row |= _omop_time("condition_start", event, style)
                tables["condition_occurrence"].append(row)
    for name, rows in tables.items():
        append_rows(folder / f"{name}.csv", rows)
    append_rows(folder / "concept.csv", list(concepts.rows.values()))
    append_rows(
        folder / "concept_ancestor.csv",
        [
            {"ancestor_concept_id": above, "descendant_concept_id": under}
            for above, under in sorted(below)
        ],
    )


def _omop_time(name: str, fact: Result | Event, style: Style) -> Row:
    day, time = date_columns(name, fact.at, "days" if fact.day else style)
    return day | time


def _write_csv(folder: Path, ward: Ward, style: Style, chance: random.Random) -> Sources:
    offsets = chance if style == "times" and chance.random() < 0.5 else None
    patients, stays = list[Row](), list[Row]()
    for patient in ward.patients:
        of = {"patient": patient.number}
        death = time_text(patient.death, "days" if style == "midnight" else style, offsets)
        about = {"sex": patient.sex, "birth": patient.born, "death": death}
        patients.append(of | about | ({"death": "yes"} if patient.undated else {}))
        for part in segments_of(patient, chance):
            spans: list[tuple[str, datetime, datetime | None]]
            spans = [("icu", *span) for span in intensive_spans(part, style)]
            if style == "times":
                spans.append(("inpatient", part.start, part.stop))
            elif part.first:
                spans.append(("inpatient", part.stay.start, part.stay.stop))
            died = None
            if part.stay.left and (part.last or style != "times"):
                died = float(part.stay.left == "dead")
            stays += [
                of
                | {"kind": kind, "started": time_text(start, style, offsets)}
                | {"ended": time_text(stop, style, offsets)}
                | {"died": died if kind == "inpatient" else None}
                for kind, start, stop in spans
            ]
    results = [
        {"patient": r.patient, "taken": _known(r.at, r.day, style, offsets), "system": "LOINC"}
        | {"code": r.analyte.code, "value": r.value, "unit": r.unit[0]}
        for r in ward.results
        if r.told != "mistaken"
    ]
    events = [
        {"patient": e.patient, "happened": _known(e.at, e.day, style, offsets), "kind": e.kind}
        | {"system": _VOCABULARIES[e.kind], "code": e.code}
        for e in ward.events
        if e.told != "mistaken"
    ]
    tables = {"patients": patients, "stays": stays, "results": results, "events": events}
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    files = {name: folder / f"{name}.csv" for name in tables}
    formats: dict[str, FileFormat] = {}
    if style == "times":
        formats = {
            "events": FileFormat(types={"happened": "text"}),
            "results": FileFormat(types={"taken": "text"}),
        }
    return Sources(files=files, formats=formats)


_MORE = """,
  max(w.first) FILTER (w.feature = 'glucose') AS glucose_first,
  max(w.times) FILTER (w.feature = 'glucose') AS glucose_times, l.at
FROM landmark l
"""


def found(ward_sources: Sources, route: Route) -> pd.DataFrame:
    """What the shipped view says, as `ward_landmarks.landmarks` has it."""
    view = templates.view(f"template:{route}", "deterioration").replace(
        "\nFROM landmark l\n", _MORE
    )
    rows = pd.DataFrame(dict(read(ward_sources, view, time_zone=ZONE)))
    rows["patient"] = rows["patient"].str.removeprefix("Patient/")
    rows["day"] = rows["day"].astype(str).str[:10]
    return rows.sort_values(["patient", "at"], ignore_index=True)
