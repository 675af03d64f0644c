"""By which names a study's patients went, and what becomes of the ledger when a patient is renamed.

Bands hold two patients apart only while a patient has one name (`patient_split.py`). A study is
accepted under a kind of names (`SiteConfig.names_of`), and before its first debit the names of the
patients who are really there are confirmed. Where the kind has changed since the study was
accepted, that study is charged to every patient from then on; where the patient index now gives a
name to another patient, everything that was charged before is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from client.governance.audit import Audit
from client.governance.audit_replay import AuditEvent
from client.governance.database import SiteState
from client.governance.ledger_rows import count_acceptance
from protocol.study.study import Study


def confirm(
    state: SiteState,
    audit: Audit,
    study: Study,
    names: str,
    patients: Mapping[str, Mapping[str, str]],
) -> bool:
    """Returns whether spending must now be charged to more patients than before: then caps are to
    be checked again. Durable on return.

    names: the kind by which the study's patients go now. patients: task -> each name in its view,
    or of another task that might be in it, -> the patient whom the index gives it. Kept are keyed
    hashes of the names that were in a study, and their patients' places. Raises
    WardroundError(LEDGER).
    """
    split = state.split
    places = {
        split.name(task, name): (split.place(patient), task == study.task.name)
        for task, known in patients.items()
        for name, patient in known.items()
    }
    with state.transaction() as db:
        moved = False
        for name, (place, used) in places.items():
            before = _place(db, name)
            if before != place and (used or before is not None):
                db.execute("INSERT OR REPLACE INTO patients VALUES (?, ?)", (name, place))
                moved = moved or before is not None
        if moved:
            db.execute("UPDATE studies SET names = ''")
            audit.append_within(db, AuditEvent.PATIENTS_RENAMED, {"study": None})
        else:
            changed = db.execute(
                "UPDATE studies SET names = '' WHERE digest = ? AND names NOT IN ('', ?)",
                (study.digest, names),
            )
            if not changed.rowcount:
                return False
            audit.append_within(db, AuditEvent.PATIENTS_RENAMED, {"study": study.digest})
        count_acceptance(db)
        return True


def _place(db: sqlite3.Connection, name: bytes) -> float | None:
    row = db.execute("SELECT place FROM patients WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None
