"""What was spent and what is left: the ledger as a person reads it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from typing import Literal

from client.config.policy import Policy
from client.governance.database import SiteState
from client.governance.ledger_rows import StudyStatus, charged, event
from protocol.privacy.accounting import Event, epsilon_over_bands
from protocol.study.study import Study


@dataclass(frozen=True)
class Spending:
    """One study in the ledger. Attempts that trained and evaluated: debited of planned.

    epsilon, planned_epsilon: at the policy's delta, of what was debited and of the whole plan.
    exact: which parts, if any, were released without noise, so that no epsilon covers them.
    """

    digest: str
    title: str
    state: StudyStatus
    trained: tuple[int, int]
    evaluated: tuple[int, int]
    epsilon: float
    planned_epsilon: float
    exact: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """The lifetime's account, at `delta`, for the patient touched most.

    spent: epsilon of all debits. reserved: of all debits and the open studies' plans, which is
    what the cap is compared with. left: cap - reserved, not below 0; a bound from below of what
    another study may spend, since epsilon composes better than by adding. None: no cap set.
    """

    delta: float
    spent: float
    reserved: float
    cap: float | None
    left: float | None


def budget(state: SiteState, policy: Policy) -> Budget:
    """What was spent and reserved in all. Raises WardroundError(LEDGER)."""
    with state.reading() as db:
        spent, reserved = charged(db, open_plans=False), charged(db)
    delta, cap = policy.delta, policy.epsilon_lifetime
    reserved_epsilon = epsilon_over_bands(reserved, delta)
    return Budget(
        delta=delta,
        spent=epsilon_over_bands(spent, delta),
        reserved=reserved_epsilon,
        cap=cap,
        left=None if cap is None else max(0.0, cap - reserved_epsilon),
    )


def spending_by_study(state: SiteState, policy: Policy) -> tuple[Spending, ...]:
    """What each study has spent and planned, oldest first. Raises WardroundError(LEDGER)."""
    with state.reading() as db:
        rows = _study_rows(db)
    return tuple(_spending(row, policy.delta) for row in rows)


@dataclass(frozen=True)
class Debit:
    """One row of the ledger: `count` attempts of a part of a study. `event`: of one attempt, or
    None where it was exact. time: UTC in ISO 8601."""

    time: str
    study: str
    part: str
    count: int
    event: Event | None


def history(state: SiteState) -> tuple[Debit, ...]:
    """Every debit, oldest first. Raises WardroundError(LEDGER)."""
    with state.reading() as db:
        rows = db.execute(
            "SELECT time, debits.study, debits.part, count, event FROM debits JOIN plans"
            " ON plans.study = debits.study AND plans.part = debits.part ORDER BY time, attempt"
        ).fetchall()
    units = {text: event(text) for text in {row[-1] for row in rows} if text}
    return tuple(Debit(t, study, part, n, units.get(text)) for t, study, part, n, text in rows)


_Row = tuple[str, bytes, StudyStatus, dict[str, tuple[str, int, int]]]


def _study_rows(db: sqlite3.Connection) -> list[_Row]:
    plans: dict[str, dict[str, tuple[str, int, int]]] = {}
    for study, part, text, planned, debited in db.execute(
        "SELECT study, part, event, planned, debited FROM plans"
    ):
        plans.setdefault(study, {})[part] = (text, planned, debited)
    rows = db.execute("SELECT digest, document, state FROM studies ORDER BY seen, digest")
    return [(d, doc, state, plans[d]) for d, doc, state in rows.fetchall() if d in plans]


def _spending(row: _Row, delta: float) -> Spending:
    digest, document, state, plan = row
    units = [(event(text), planned, debited) for text, planned, debited in plan.values() if text]

    def epsilon_of(column: Literal[1, 2]) -> float:
        attempts = [(unit[0], unit[column]) for unit in units]
        return epsilon_over_bands(
            [replace(unit, count=unit.count * n) for unit, n in attempts if n], delta
        )

    def counts(part: str) -> tuple[int, int]:
        return plan[part][2], plan[part][1]

    return Spending(
        digest=digest,
        title=Study.parse(document).title,
        state=state,
        trained=counts("train"),
        evaluated=counts("evaluate"),
        epsilon=epsilon_of(2),
        planned_epsilon=epsilon_of(1),
        exact=tuple(sorted(part for part in plan if not plan[part][0] and plan[part][2])),
    )
