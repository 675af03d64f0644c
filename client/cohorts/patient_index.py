"""One name for each patient of a site, whichever view he comes from.

The ledger tells patients apart by their names. Where site.yaml has `patients`, the site's patient
index, every view's column `patient` is looked up in one of its columns (`names`), and the index's
column `patient` is the name that counts. Whom it does not know is set aside: nobody could say
whether he is another name's patient. Without an index each view has names of its own, and the
ledger adds up what different views spend (`SiteConfig.names_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data.cohort import identifiers
from protocol.errors import Code, WardroundError
from tasks.schema import PATIENT, Table


def names_in(index: Table, column: str) -> list[tuple[str, str]]:
    """Each name in a column of the index, and the patient for whom it stands.

    Raises WardroundError(MALFORMED_DATA) where a column is missing, or where a row has a name and
    no patient.
    """
    for needed in dict.fromkeys((PATIENT, column)):
        if needed not in index:
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"The patient index lacks the column {needed}.",
                remedy="Correct patients.view in site.yaml, or the `names` of a task's data.",
            )
    named = np.array([value is not None and value == value for value in index[column]], dtype=bool)
    names, patients = identifiers(index[column][named]), identifiers(index[PATIENT][named])
    return list(zip(names, patients, strict=True))


def patients_by_name(index: Table, column: str, without: Container[str] = ()) -> dict[str, str]:
    """A column of the index -> the patient that each of its names stands for, unless it is one of
    `without`.

    Raises WardroundError(MALFORMED_DATA) as `names_in` does, and where a name stands for two
    patients.
    """
    found: dict[str, str] = {}
    for name, patient in names_in(index, column):
        if patient in without:
            continue
        if found.setdefault(name, patient) != patient:
            raise WardroundError(
                Code.MALFORMED_DATA,
                f"In the patient index a name in the column {column} stands for two patients.",
                remedy="Give each name to one patient, or leave it out.",
            )
    return found


def with_one_name(
    table: Table, known: Mapping[str, str], note: Callable[[str], None]
) -> tuple[Table, dict[str, str]]:
    """A view's rows under the patients' one name, without those of unknown patients; and for each
    name in the view the patient's.

    Raises WardroundError(NO_DATA) where the index knows nobody, (MALFORMED_DATA) for a row that
    names none.
    """
    names = identifiers(table[PATIENT])
    kept = np.array([name in known for name in names], dtype=bool)
    if len(kept) and not kept.any():
        raise WardroundError(
            Code.NO_DATA,
            "The patient index knows none of the view's patients.",
            remedy="Set data.<task>.names in site.yaml to the index's column of such names.",
        )
    if unknown := int((~kept).sum()):
        note(f"{unknown} rows of patients whom the patient index does not know were set aside.")
    named = {name: known[name] for name in names[kept]}
    rows: dict[str, npt.NDArray[Any]] = {column: values[kept] for column, values in table.items()}
    rows[PATIENT] = np.array([named[name] for name in names[kept]], dtype=object)
    return rows, named


def refuse_two_names(table: Table) -> None:
    """Raises WardroundError(MALFORMED_DATA) where two names in a view differ in nothing but case,
    spaces and leading zeros, as if one patient came from two sources."""
    names = set(identifiers(table[PATIENT]))
    if len({"".join(name.split()).casefold().lstrip("0") for name in names}) < len(names):
        raise WardroundError(
            Code.MALFORMED_DATA,
            "Two names in the view's column patient differ only in case, spaces or leading zeros.",
            remedy="Write one patient's name in one way in the view; or, where they are two "
            "patients, give site.yaml a patient index (`patients`).",
        )
