"""Value sets: codes of LOINC, SNOMED CT, ICD-10 and others that mean one thing, and all below.

The shipped ones are in `client/data/sources/codes`; `tables/code_lists.csv` says of each where its
codes are from, of what day it is, and whether they were compared with an edition (codes and names)
or chosen by hand. A site adds CSV files with the same header
(name,system,code,display), or ValueSets of FHIR with their expansion (.json). What lies below a
code is known from the code itself where a category's code begins it (ICD, ATC), and else from the
site's own vocabulary: `ancestors` in site.yaml, CSV files with the header
system,ancestor,descendant (parents alone suffice), or CodeSystems of FHIR (.json).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from client.data.sources import code_systems
from client.data.sources.session import Session, unreadable
from protocol.errors import Code, WardroundError

SHIPPED = Path(__file__).parent / "codes"
HEADER = ("name", "system", "code", "display")
ANCESTORS = ("system", "ancestor", "descendant")
_BATCH = 50_000
_Row = tuple[str, str, str, str]


def read(path: Path) -> list[_Row]:
    """Rows of one file. Raises WardroundError: NO_DATA, MALFORMED_DATA with the line."""
    if path.suffix.lower() == ".json":
        return list(_expansion(path))
    rows = list(_lines(path, HEADER, "value_sets"))
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def _lines(path: Path, header: tuple[str, ...], key: str) -> Iterator[list[str]]:
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, row in enumerate(csv.reader(file, strict=True), start=1):
                if line == 1 and tuple(row) != header:
                    raise _wrong(path, f"line 1 is not {','.join(header)}")
                if len(row) != len(header) or not all(text.strip() for text in row[:3]):
                    raise _wrong(
                        path, f"line {line} lacks a {header[0]}, {' or '.join(header[1:3])}"
                    )
                if line > 1:
                    yield row
    except OSError as error:
        raise unreadable(path, error, f"Correct {key} in site.yaml.") from None
    except (UnicodeDecodeError, csv.Error):
        raise _wrong(path, "not UTF-8 text in CSV") from None
    if not line:
        raise _wrong(path, f"line 1 is not {','.join(header)}")


def _wrong(path: Path, what: str) -> WardroundError:
    return WardroundError(
        Code.MALFORMED_DATA,
        f"{path}: {what}.",
        remedy="Write it as the shipped files in client/data/sources/codes are.",
    )


def _resource(path: Path, kind: str, key: str) -> dict[str, Any]:
    try:
        resource = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise unreadable(path, error, f"Correct {key} in site.yaml.") from None
    except (ValueError, RecursionError):
        raise _wrong(path, "not well formed") from None
    if type(resource) is not dict or resource.get("resourceType") != kind:
        raise _wrong(path, f"no {kind} of FHIR")
    return resource


def _expansion(path: Path) -> Iterator[_Row]:
    """The codes of an expanded ValueSet, under its computable name."""
    resource = _resource(path, "ValueSet", "value_sets")
    name, expansion = resource.get("name"), resource.get("expansion")
    if type(name) is not str or type(expansion) is not dict:
        raise _wrong(path, "a ValueSet without a name or an expansion ($expand makes one)")
    pending = _mappings(expansion.get("contains"))
    while pending:
        item = pending.pop()
        pending += _mappings(item.get("contains"))
        if item.get("system") and item.get("code") and not item.get("abstract"):
            yield name, str(item["system"]), str(item["code"]), str(item.get("display") or "")


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if type(item) is dict] if type(value) is list else []


def _ancestry(path: Path) -> Iterator[Sequence[str]]:
    """(system, a code above, a code below), parents at least."""
    if path.suffix.lower() != ".json":
        yield from _lines(path, ANCESTORS, "ancestors")
        return
    resource = _resource(path, "CodeSystem", "ancestors")
    system = str(resource.get("url") or "")
    pending = [("", concept) for concept in _mappings(resource.get("concept"))]
    while pending:
        above, concept = pending.pop()
        code = str(concept.get("code") or "")
        pending += [(code, child) for child in _mappings(concept.get("concept"))]
        if above:
            yield system, above, code
        for told in _mappings(concept.get("property")):
            other = str(told.get("valueCode") or "")
            if told.get("code") == "parent" and other:
                yield system, other, code
            elif told.get("code") == "child" and other:
                yield system, code, other


def register(session: Session, own: Sequence[Path], ancestors: Sequence[Path] = ()) -> None:
    """Makes the table value_set(name, system, code, display, vocabulary, key, depth), and the
    functions of `code_systems`. `vocabulary`: OMOP's name of the code system; `key`: what one of a
    record's `code_keys` equals; `depth`: as `code_depth`. A set that a site gives replaces the
    shipped one of the same name. Beside the codes of a set stand those that `ancestors` put below
    them; `known_descendant(key)` holds every code that they put below any."""
    code_systems.register(session)
    sets = _by_name(sorted(SHIPPED.glob("*.csv"))) | _by_name(own)
    rows = [
        (*row, code_systems.vocabulary(row[1]))
        for group in sets.values()
        for row in dict.fromkeys(group)
    ]
    for name in ("value_set", "known_descendant"):
        session.check_name(name)
    connection = session.connection
    connection.execute("CREATE TEMP TABLE ancestry (above VARCHAR, below VARCHAR)")
    for path in ancestors:
        pairs = _ancestry(path)
        while some := list(islice(pairs, _BATCH)):
            connection.execute(
                "INSERT INTO ancestry SELECT code_key(s, a), code_key(s, d)"
                " FROM (SELECT unnest(?) AS s, unnest(?) AS a, unnest(?) AS d)",
                [list(column) for column in zip(*some, strict=True)],
            )
    connection.execute(
        "CREATE TABLE known_descendant AS SELECT DISTINCT below AS key FROM ancestry"
    )
    connection.execute(
        "CREATE TABLE value_set AS WITH RECURSIVE stated AS MATERIALIZED ("
        " SELECT *, code_key(system, code) AS key, code_depth(system, code) AS depth"
        " FROM (SELECT unnest(?::VARCHAR[]) AS name, unnest(?::VARCHAR[]) AS system,"
        " unnest(?::VARCHAR[]) AS code, unnest(?::VARCHAR[]) AS display,"
        " unnest(?::VARCHAR[]) AS vocabulary)),"
        " closure AS (SELECT name, system, vocabulary, depth, key FROM stated UNION"
        " SELECT c.name, c.system, c.vocabulary, c.depth, a.below"
        " FROM closure c JOIN ancestry a ON a.above = c.key)"
        " SELECT name, system, code, display, vocabulary, key, depth FROM stated UNION ALL"
        " SELECT DISTINCT name, system, split_part(key, ' ', 2), NULL, vocabulary, key, depth"
        " FROM closure c WHERE NOT EXISTS"
        " (FROM stated s WHERE s.name = c.name AND s.key = c.key)",
        [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 5,
    )
    connection.execute("DROP TABLE ancestry")


def _by_name(paths: Sequence[Path]) -> dict[str, list[_Row]]:
    sets: dict[str, list[_Row]] = {}
    for path in paths:
        for row in read(path):
            sets.setdefault(row[0], []).append(row)
    return sets
