"""Who objects to the use of their data: they are in no cohort, no picture and no query.

`objections` in site.yaml names a file with one identifier a line, or a query. It is read anew
whenever a site loads patients or prepares a round; what cannot be read for certain refuses the
study, since silence never means that nobody objects. Identifiers are compared exactly as views name
patients. One that is nearly a patient's name (a space, a zero or a quote away) is refused too: who
compares it strictly would keep the patient. No message quotes an identifier.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from client.data.cohort import identifiers
from protocol.errors import Code, WardroundError
from tasks.schema import PATIENT, Table

_LONGEST = 1 << 28
"""Bytes of a file that are read: some ten million identifiers."""


def in_file(path: Path) -> frozenset[str]:
    """The identifiers in a text file, one a line; UTF-8, quoted or not, spaces around them left
    out. A header line is one that names nobody.

    Raises WardroundError: NO_DATA for a file that is missing, unreadable or empty, MALFORMED_DATA
    where a line holds more than one identifier or the text is not UTF-8."""
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise WardroundError(
            Code.NO_DATA,
            f"The objections in {path} cannot be read: {error.strerror}. Every study is refused.",
            remedy="Put the file back, readable by this user, or correct objections in site.yaml.",
        ) from None
    try:
        if b"\0" in content or len(content) > _LONGEST:
            raise ValueError
        lines = content.decode("utf-8-sig").splitlines()
    except ValueError:
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"The objections in {path} are no text in UTF-8 with one identifier a line.",
            remedy="Save it as UTF-8, or give objections.query with `formats`.",
        ) from None
    found = frozenset(_unquoted(line, path) for line in lines) - {""}
    if not found:
        raise WardroundError(
            Code.NO_DATA,
            f"The file of objections {path} is empty, as an export that failed leaves it.",
            remedy="Export it again. Where nobody objects, leave a header line such as `patient`.",
        )
    return found


def _unquoted(line: str, path: Path) -> str:
    text = line.strip()
    if quoted := re.fullmatch(r'"((?:[^"]|"")*)"', text):
        return quoted[1].replace('""', '"').strip()
    if any(sign in text for sign in ",;|\t"):
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"A line of the objections in {path} holds more than one value.",
            remedy="Leave one identifier a line (in double quotes where it has such a sign), or "
            "select the column with objections.query.",
        )
    return text


def in_query(table: Table) -> frozenset[str]:
    """The identifiers in the column `patient`. Raises WardroundError(MALFORMED_DATA) where it is
    missing, or a row names nobody."""
    if PATIENT not in table or any(v is None or v != v for v in table[PATIENT]):
        raise WardroundError(
            Code.MALFORMED_DATA,
            f"The query of objections gives no column {PATIENT}, or a row without an identifier.",
            remedy=f"SELECT one column AS {PATIENT}, WHERE it IS NOT NULL.",
        )
    return frozenset(identifiers(table[PATIENT]))


def objecting(listed: Iterable[str], known: Collection[tuple[str, str]]) -> frozenset[str]:
    """Of `known`, pairs of a name and its patient, the patients for whom a listed name stands.

    Raises WardroundError(MALFORMED_DATA) where a listed name is nearly that of another."""
    names = frozenset(listed)
    patients = frozenset(patient for name, patient in known if name in names)
    near = {_plain(name) for name in names - {name for name, _ in known}}
    if any(_plain(name) in near for name, patient in known if patient not in patients):
        raise WardroundError(
            Code.MALFORMED_DATA,
            "An identifier of the objections differs from a patient's only in case, spaces, quotes"
            " or leading zeros.",
            remedy="Write it exactly as the patient is named; or, where they are two patients, "
            "give site.yaml a patient index (`patients`) that has both.",
        )
    return patients


def _plain(name: str) -> str:
    """Without what an export adds to a name or takes from it."""
    text = unicodedata.normalize("NFKC", name).casefold().removesuffix(".0")
    kept = (c for c in text if not (c.isspace() or c in "'\"`" or unicodedata.category(c) == "Cf"))
    return "".join(kept).lstrip("0")
