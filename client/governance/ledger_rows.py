"""The rows of the ledger: studies, their plans, their debits. What charges whom, in SQL.

A plan's row says what one attempt of a part (train, evaluate) spends, how many attempts were
planned and how many debited; an event of "" is an exact release, which is counted and which no
epsilon covers.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, replace
from typing import Literal

from protocol.document import canonical
from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import Event
from protocol.privacy.releases import (
    evaluation_event,
    exposed_events,
    most_evaluations,
    training_event,
)
from protocol.study.study import Study

Stand = Literal["waiting", "accepted", "refused", "rejected", "revoked", "closed"]


def record(db: sqlite3.Connection, study: Study, stand: Stand, now: str) -> bool:
    """Writes a study down, once. Returns whether it was new."""
    inserted = db.execute(
        "INSERT OR IGNORE INTO studies (digest, document, state, seen, changed)"
        " VALUES (?, ?, ?, ?, ?)",
        (study.digest, study.document, stand, now, now),
    )
    return inserted.rowcount == 1


def write_plan(db: sqlite3.Connection, study: Study) -> None:
    """One row for each part; kept as it is where the study was accepted before."""
    for part, (text, planned) in plan_rows(study).items():
        db.execute(
            "INSERT OR IGNORE INTO plans (study, part, event, planned) VALUES (?, ?, ?, ?)",
            (study.digest, part, text, planned),
        )


def plan_rows(study: Study) -> dict[str, tuple[str, int]]:
    """Part -> (canonical event of one attempt, or "" where exact; attempts planned)."""
    rows: dict[str, tuple[Event | None, int]] = {
        "train": (training_event(study), study.aggregation.attempts if study.query is None else 0),
        "evaluate": (evaluation_event(study), most_evaluations(study)),
    }
    return {
        part: (
            canonical(asdict(exposed_events(study, (unit,))[0])).decode() if unit else "",
            planned,
        )
        for part, (unit, planned) in rows.items()
    }


def debit_part(
    db: sqlite3.Connection, study: str, part: str, round_: int, attempt: int, count: int, now: str
) -> None:
    changed = db.execute(
        "UPDATE plans SET debited = debited + ? WHERE study = ? AND part = ?"
        " AND debited + ? <= planned",
        (count, study, part, count),
    )
    if changed.rowcount != 1:
        raise WardroundError(
            Code.REFUSED_BUDGET,
            f"The study's reserved plan has no {part} attempt left.",
            remedy="The coordinator asked for more than the study says.",
        )
    db.execute(
        "INSERT INTO debits VALUES (?, ?, ?, ?, ?, ?)", (study, attempt, part, round_, count, now)
    )


def acceptances(db: sqlite3.Connection) -> int:
    """How often something was reserved or charged: while it stays, no charge has grown."""
    row = db.execute("SELECT value FROM meta WHERE key = 'acceptances'").fetchone()
    return int(row[0]) if row else 0


def count_acceptance(db: sqlite3.Connection) -> None:
    value = str(acceptances(db) + 1)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('acceptances', ?)", (value,))


def charged(
    db: sqlite3.Connection, *, but: str | None = None, open_plans: bool = True
) -> tuple[Event, ...]:
    """Events of all studies but one: whole plans of open ones, debits of the others."""
    rows = db.execute(
        "SELECT studies.digest, state, event, planned, debited FROM plans"
        " JOIN studies ON studies.digest = plans.study WHERE event != ''"
    )
    events = []
    for digest, state, text, planned, debited in rows:
        attempts = planned if state == "accepted" and open_plans else debited
        if digest != but and attempts:
            unit = event(text)
            events.append(replace(unit, count=unit.count * attempts))
    return tuple(events)


def event(text: str) -> Event:
    fields = json.loads(text)
    return Event(**(fields | {"band": tuple(fields["band"])}))
