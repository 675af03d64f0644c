"""Value sets, in CSV files: which codes of LOINC, SNOMED CT, ICD-10 and others mean one thing.

The shipped ones are in `client/data/sources/codes`; a site adds files with the same header:
name,system,code,display.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from client.data.sources.session import Session, unreadable
from protocol.errors import Code, WardroundError

SHIPPED = Path(__file__).parent / "codes"
HEADER = ("name", "system", "code", "display")
VOCABULARIES = {
    "http://loinc.org": "LOINC",
    "http://snomed.info/sct": "SNOMED",
    "http://unitsofmeasure.org": "UCUM",
    "http://hl7.org/fhir/sid/icd-9-cm": "ICD9CM",
    "http://hl7.org/fhir/sid/icd-10": "ICD10",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD10CM",
    "http://fhir.de/CodeSystem/bfarm/icd-10-gm": "ICD10GM",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RxNorm",
    "http://www.whocc.no/atc": "ATC",
    "http://www.ama-assn.org/go/cpt": "CPT4",
    "http://www.cms.gov/Medicare/Coding/ICD10": "ICD10PCS",
    "http://hl7.org/fhir/sid/ndc": "NDC",
}
"""URI of a code system in FHIR -> its vocabulary_id in OMOP."""


def read(path: Path) -> list[tuple[str, str, str, str]]:
    """Rows of one file. Raises WardroundError: NO_DATA, MALFORMED_DATA with the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except OSError as error:
        raise unreadable(path, error, "Correct value_sets in site.yaml.") from None
    except (UnicodeDecodeError, csv.Error):
        raise _wrong(path, "not UTF-8 text in CSV") from None
    if not rows or tuple(rows[0]) != HEADER:
        raise _wrong(path, f"line 1 is not {','.join(HEADER)}")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(HEADER) or not all(text.strip() for text in row[:3]):
            raise _wrong(path, f"line {line} lacks a name, system or code")
    return [(row[0], row[1], row[2], row[3]) for row in rows[1:]]


def _wrong(path: Path, what: str) -> WardroundError:
    return WardroundError(
        Code.MALFORMED_DATA,
        f"{path}: {what}.",
        remedy="Write it as the shipped files in client/data/sources/codes are.",
    )


def register(session: Session, own: Sequence[Path]) -> None:
    """Makes the table value_set(name, system, code, display, vocabulary): the last is OMOP's name
    of the code system. A set that a site gives replaces the shipped one of the same name."""
    sets = _by_name(sorted(SHIPPED.glob("*.csv"))) | _by_name(own)
    rows = [
        (*row, VOCABULARIES.get(row[1])) for group in sets.values() for row in dict.fromkeys(group)
    ]
    session.check_name("value_set")
    session.connection.execute(
        "CREATE TABLE value_set (name VARCHAR, system VARCHAR, code VARCHAR, display VARCHAR,"
        " vocabulary VARCHAR)"
    )
    if rows:
        session.connection.execute(
            "INSERT INTO value_set SELECT unnest(?), unnest(?), unnest(?), unnest(?), unnest(?)",
            [list(column) for column in zip(*rows, strict=True)],
        )


def _by_name(paths: Sequence[Path]) -> dict[str, list[tuple[str, str, str, str]]]:
    sets: dict[str, list[tuple[str, str, str, str]]] = {}
    for path in paths:
        for row in read(path):
            sets.setdefault(row[0], []).append(row)
    return sets
