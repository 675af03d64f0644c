"""Public data of one place, dealt to several sites."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from tasks.schema import PATIENT, Table


def dealt(table: Table, shares: Mapping[str, float]) -> dict[str, Table]:
    """The rows of a table -> those of each site, in alphabetical order of sites. Who is where
    follows from the patient's identifier alone. shares: parts of 1, by site."""
    keys = [hashlib.sha256(f"site of {p}".encode()).hexdigest() for p in table[PATIENT]]
    ends = np.rint(np.cumsum(list(shares.values())) * len(keys)).astype(int)
    rows = dict(zip(shares, np.split(np.argsort(keys), ends[:-1]), strict=True))
    return {
        site: {name: column[np.sort(rows[site])] for name, column in table.items()}
        for site in sorted(rows)
    }
