"""Code systems by all their names, and the keys by which a record's code meets a value set.

A system goes by a URI, an OID, a vendor's or country's own URI, or OMOP's vocabulary_id;
`tables/code_systems.csv` brings them to one, with the source of each name. Where a system is a
hierarchy of prefixes (ICD, ATC, OPS: a category's code begins the codes of all that it holds, with
or without a dot), a record's code meets the codes of every category that holds it; a national
version of ICD-10 keeps the categories of WHO's (ICD-10 vol. 2, 2.4.2), and so meets those too.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from client.data.sources.session import Session, literal

_TABLE = Path(__file__).parent / "tables" / "code_systems.csv"
_SCHEME = r"^(https?://|urn:oid:)|[|].*$|/+$"
_EDITION = r"^snomed\.info/sct/.*$"
_NO_SIGN = "[^A-Z0-9]"


@dataclass(frozen=True)
class CodeSystem:
    """system: its URI; vocabulary: its vocabulary_id in OMOP; refines: the system whose categories
    it keeps."""

    system: str
    vocabulary: str | None
    by_prefix: bool
    refines: str | None


def spelled(name: str) -> str:
    """A name as `known` has it: without scheme, version or SNOMED CT's edition, in lower case."""
    return re.sub(_EDITION, "snomed.info/sct", re.sub(_SCHEME, "", name.strip().lower()))


@cache
def known() -> Mapping[str, CodeSystem]:
    """Name, as `spelled`, -> its system."""
    systems = {}
    with _TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            system = CodeSystem(
                row["system"],
                row["vocabulary"] or None,
                row["hierarchy"] == "prefix",
                row["refines"] or None,
            )
            names = (row["system"], row["vocabulary"], *row["also"].split())
            systems.update({spelled(name): system for name in names if name})
    return systems


def vocabulary(name: str) -> str | None:
    """A system's vocabulary_id in OMOP."""
    system = known().get(spelled(name))
    return system.vocabulary if system else None


def register(session: Session) -> None:
    """Makes the functions `code_key(system, code)`, the code's own key, and
    `code_keys(system, code)`, the list of keys of all categories that hold the code, its own last;
    NULL where the system or the code is NULL. The depth of a key is `code_depth(system, code)`:
    the number of signs of a code in a hierarchy of prefixes, else 0."""
    systems = dict.fromkeys(known().values())
    prefixed = [literal(system.system) for system in systems if system.by_prefix]
    names, meant = [], []
    for name, system in known().items():
        wider = [system.refines] if system.refines else []
        names.append(literal(name))
        meant.append(f"[{', '.join(map(literal, (*wider, system.system)))}]")
    name = (
        f"regexp_replace(regexp_replace(lower(trim(system)), {literal(_SCHEME)}, '', 'g'),"
        f" {literal(_EDITION)}, 'snomed.info/sct')"
    )
    for macro, body in (
        ("code_systems_of(system)", f"coalesce(MAP {{{_pairs(names, meant)}}}[{name}], [{name}])"),
        ("code_by_prefix(uri)", f"uri IN ({', '.join(prefixed)})"),
        ("code_bare(code)", f"regexp_replace(upper(code), {literal(_NO_SIGN)}, '', 'g')"),
        (
            "code_spelled(uri, code)",
            "CASE WHEN code_by_prefix(uri) THEN code_bare(code) ELSE trim(code) END",
        ),
        (
            "code_key(system, code)",
            "code_systems_of(system)[-1] || ' ' || code_spelled(code_systems_of(system)[-1], code)",
        ),
        (
            "code_depth(system, code)",
            "CASE WHEN code_by_prefix(code_systems_of(system)[-1]) THEN length(code_bare(code))"
            " ELSE 0 END",
        ),
        (
            "code_keys(system, code)",
            "flatten(list_transform(code_systems_of(system), lambda uri: list_transform("
            "range(CASE WHEN code_by_prefix(uri) THEN 1 ELSE length(trim(code)) END,"
            " length(code_spelled(uri, code)) + 1),"
            " lambda n: uri || ' ' || left(code_spelled(uri, code), n))))",
        ),
    ):
        session.connection.execute(f"CREATE MACRO {macro} AS {body}")


def _pairs(keys: list[str], values: list[str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True))
