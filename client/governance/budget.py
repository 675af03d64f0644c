"""The privacy budget, read from the ledger: what was spent, and what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from client.config.policy import Policy
from client.governance.database import SiteState
from client.governance.exact_releases import counted_exactly
from client.governance.ledger_rows import StudyStatus, charged, event_of
from protocol.privacy.accounting import Event, epsilon_over_bands, keys_in_use
from protocol.privacy.composition_cache import Kept
from protocol.study.study import Study


@dataclass(frozen=True)
class StudySpending:
    """One study in the ledger.

    trained, evaluated: attempts (debited, planned). epsilon, planned_epsilon: at the policy's
    delta, of what was debited and of the whole plan. exact: the parts that were released without
    noise, so that no epsilon covers them.
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
    """The epsilon of all studies at `delta`, for the most exposed patient.

    spent: of all debits. reserved: of all debits and the open studies' plans, which is what the cap
    limits. left: cap - reserved, at least 0; a lower bound of what another study may spend, since
    epsilon composes better than by adding; None without a cap. exact: sums that were released
    without noise, of `exact_cap` that the policy allows; exact_public: those of public data.
    """

    delta: float
    spent: float
    reserved: float
    cap: float | None
    left: float | None
    exact: int
    exact_cap: int
    exact_public: int


def budget(state: SiteState, policy: Policy) -> Budget:
    """Returns what was spent and reserved in all. Raises WardroundError(LEDGER)."""
    with state.reading() as db:
        spent, reserved = charged(db, state.today(), open_plans=False), charged(db, state.today())
        exact, exact_public = counted_exactly(db)
    delta, cap = policy.delta, policy.epsilon_lifetime
    spent_epsilon = epsilon_over_bands(spent, delta, state.past)
    reserved_epsilon = epsilon_over_bands(reserved, delta, state.past)
    state.past.sweep(lambda: keys_in_use(spent, delta) | keys_in_use(reserved, delta))
    return Budget(
        delta=delta,
        spent=spent_epsilon,
        reserved=reserved_epsilon,
        cap=cap,
        left=None if cap is None else max(0.0, cap - reserved_epsilon),
        exact=exact,
        exact_cap=policy.exact_releases,
        exact_public=exact_public,
    )


def spending_by_study(
    state: SiteState, policy: Policy, progress: Callable[[int, int], None] = lambda done, of: None
) -> tuple[StudySpending, ...]:
    """Returns what each study has spent and planned, oldest first.

    progress: called with (studies done, studies in all). Raises WardroundError(LEDGER).
    """
    plans: dict[str, _Plan] = {}
    with state.reading() as db:
        for study, part, *row in db.execute(
            "SELECT study, part, event, planned, debited FROM plans"
        ):
            plans.setdefault(study, {})[part] = (*row,)
        studies = db.execute(
            "SELECT document, state, digest, names FROM studies ORDER BY seen, digest"
        ).fetchall()
    found = []
    for done, (document, status, digest, names) in enumerate(studies):
        progress(done, len(studies))
        if digest in plans:
            study, plan = Study.parse(document), plans[digest]
            found.append(_spending(study, status, names, plan, policy.delta, state.past))
    return tuple(found)


@dataclass(frozen=True)
class Debit:
    """One row of the ledger: `count` attempts of a part of a study.

    event: of one attempt; None where it was exact. time: UTC in ISO 8601.
    """

    time: str
    study: str
    part: str
    count: int
    event: Event | None


def history(state: SiteState) -> tuple[Debit, ...]:
    """Returns every debit, oldest first. Raises WardroundError(LEDGER)."""
    with state.reading() as db:
        rows = db.execute(
            "SELECT time, debits.study, debits.part, count, names, event FROM debits"
            " JOIN plans ON plans.study = debits.study AND plans.part = debits.part"
            " JOIN studies ON studies.digest = debits.study ORDER BY time, debits.attempt"
        ).fetchall()
    units = {
        (names, text): unit and replace(unit, names=names)
        for names, text, unit in {(*row[-2:], event_of(row[-1])) for row in rows}
    }
    return tuple(Debit(t, study, part, n, units[by, text]) for t, study, part, n, by, text in rows)


_Plan = dict[str, tuple[str, int, int]]
"""Part -> (event as written, attempts planned, attempts debited)."""


def _spending(
    study: Study, state: StudyStatus, names: str, plan: _Plan, delta: float, past: Kept
) -> StudySpending:
    def epsilon_of(column: Literal[1, 2]) -> float:
        rows = [(event_of(row[0]), row[column]) for row in plan.values()]
        return epsilon_over_bands(
            [
                replace(unit, count=unit.count * attempts, names=names)
                for unit, attempts in rows
                if unit is not None and attempts
            ],
            delta,
            past,
        )

    def counts(part: str) -> tuple[int, int]:
        return plan[part][2], plan[part][1]

    return StudySpending(
        digest=study.digest,
        title=study.title,
        state=state,
        trained=counts("train"),
        evaluated=counts("evaluate"),
        epsilon=epsilon_of(2),
        planned_epsilon=epsilon_of(1),
        exact=tuple(
            sorted(part for part in plan if event_of(plan[part][0]) is None and plan[part][2])
        ),
    )
