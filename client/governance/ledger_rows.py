"""The ledger's rows: studies, their plans, and what is charged for them.

A plan's row states what one attempt of a part (train, evaluate) spends, how many attempts were
planned and how many debited. Instead of an event, "" is an exact release, which is counted and
which no epsilon covers, and "public" one of data that were declared public or synthetic, which is
kept apart (client/governance/exact_releases.py). A row is read as it was written, and never
compared with what this release would write (invariant 8).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Literal, assert_never

from protocol.document import canonical, digest
from protocol.privacy.accounting import Event
from protocol.privacy.releases import (
    evaluation_event,
    max_evaluations,
    training_event,
)
from protocol.release import unknown_field
from protocol.study.states import StudyState
from protocol.study.study import Study

StudyStatus = Literal[
    "waiting",
    "accepted",
    "refused",
    "rejected",
    "revoked",
    "paused",
    "failed",
    "finished",
    "cancelled",
]
EXACT, PUBLIC = "", "public"
"""What stands in place of an event where nothing is noised."""


def record(db: sqlite3.Connection, study: Study, stand: StudyStatus, now: str) -> bool:
    """Inserts a study, unless it is there. Returns whether it was new."""
    inserted = db.execute(
        "INSERT OR IGNORE INTO studies (digest, document, state, seen, changed)"
        " VALUES (?, ?, ?, ?, ?)",
        (study.digest, study.document, stand, now, now),
    )
    return inserted.rowcount == 1


Plan = Mapping[str, tuple[Event | None, int]]
"""Part -> (what one attempt releases of a patient, None where exact; attempts planned)."""


def write_plan(db: sqlite3.Connection, study: Study, *, public: bool) -> str:
    """Inserts a plan's rows, one for each part, unless the study was accepted before.

    public: whether the site's policy declares the study's data public or synthetic. Returns the
    digest of the plan that this release makes, for the audit log, in which a study's first one
    counts.
    """
    exact = PUBLIC if public else EXACT
    rows = {
        part: (canonical(asdict(unit)).decode() if unit is not None else exact, planned)
        for part, (unit, planned) in plan_of(study).items()
    }
    for part, (text, planned) in rows.items():
        db.execute(
            "INSERT OR IGNORE INTO plans (study, part, event, planned) VALUES (?, ?, ?, ?)",
            (study.digest, part, text, planned),
        )
    return plan_digest(rows)


def plan_digest(rows: Mapping[str, tuple[str, int]]) -> str:
    """Returns the SHA-256 of a plan's rows, part -> (event as written, attempts planned)."""
    return digest(canonical({part: list(row) for part, row in rows.items()}))


def plan_of(study: Study) -> Plan:
    """Returns what the study plans, as this release accounts for it."""
    return {
        "train": (
            training_event(study),
            study.aggregation.attempts if study.query is None else study.exact_attempts,
        ),
        "evaluate": (evaluation_event(study), max_evaluations(study)),
    }


def life_of(status: StudyStatus, expires: str, today: str) -> StudyState:
    """Returns where a study stands here, given its row's `expires`; today: YYYY-MM-DD, UTC."""
    match status:
        case "waiting":
            return StudyState.WAITING
        case "refused" | "rejected" | "revoked":
            return StudyState.PROPOSED
        case "accepted" | "paused" | "failed" if expires and expires < today:
            return StudyState.EXPIRED
        case "accepted":
            return StudyState.RUNNING
        case "paused" | "failed" | "finished" | "cancelled":
            return StudyState(status)
    assert_never(status)


def is_reserved(status: StudyStatus, expires: str, today: str) -> bool:
    """Returns whether a study has its whole plan reserved on the day `today`. In SQL statements it
    is called `reserved` (database.py)."""
    match status:
        case "accepted":
            return not expires or expires >= today
        case "paused" | "failed":
            return expires >= today
        case "waiting" | "refused" | "rejected" | "revoked" | "finished" | "cancelled":
            return False
    assert_never(status)


def lapse(db: sqlite3.Connection, today: str) -> None:
    """Releases for good what has expired before `today`, so that a clock which is set back does not
    bring a reservation to life that another study was accepted without."""
    db.execute("UPDATE studies SET expires = '0' WHERE expires != '' AND expires < ?", (today,))


def acceptances(db: sqlite3.Connection) -> int:
    """Returns how often a plan was reserved or charged; unchanged, nothing more is charged."""
    row = db.execute("SELECT value FROM meta WHERE key = 'acceptances'").fetchone()
    return int(row[0]) if row else 0


def count_acceptance(db: sqlite3.Connection) -> None:
    value = str(acceptances(db) + 1)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('acceptances', ?)", (value,))


def charged(
    db: sqlite3.Connection, today: str, *, but: str | None = None, open_plans: bool = True
) -> tuple[Event, ...]:
    """Returns the events of all studies but one: of those that have their plans reserved `today`
    the whole plans (or, without `open_plans`, the debits), of the others the debits."""
    rows = db.execute(
        "SELECT studies.digest, reserved(state, expires, ?), names, event, planned, debited"
        " FROM plans JOIN studies ON studies.digest = plans.study WHERE event NOT IN (?, ?)",
        (today, EXACT, PUBLIC),
    )
    events = []
    for study, reserved, names, text, planned, debited in rows:
        attempts = planned if reserved and open_plans else debited
        if study != but and attempts:
            unit = parse_event(text)
            events.append(replace(unit, count=unit.count * attempts, names=names))
    return tuple(events)


def names_within(db: sqlite3.Connection, study: str, now: str) -> str:
    """Returns by which names a study's patients go, where those of its task go by `now`: empty
    where it was accepted under others."""
    row = db.execute(
        "SELECT names FROM studies WHERE digest = ? AND digest IN (SELECT study FROM plans)",
        (study,),
    ).fetchone()
    return now if row is None or row[0] == now else ""


def event_of(text: str) -> Event | None:
    """Parses what stands in a row; None where its releases are exact. Raises as `parse_event`."""
    return None if text in (EXACT, PUBLIC) else parse_event(text)


def parse_event(text: str) -> Event:
    """Parses a row's event. Fields added to `Event` since it was written have their defaults.

    Raises WardroundError(RELEASE) naming a field that a newer release wrote.
    """
    values = json.loads(text)
    if unknown := sorted(set(values) - {field.name for field in fields(Event)}):
        raise unknown_field(unknown[0], "The ledger")
    return Event(**(values | {"band": tuple(values["band"])}))
