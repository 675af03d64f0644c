"""Exact releases: sums without noise, which no epsilon covers and which can show one patient.

Whoever chooses the model can read a patient's whole record off a few exact sums, over however many
hospitals; and two exact sums over rosters that differ by one hospital show what that hospital
added. So a site counts the attempts that release something exactly, over all studies for ever,
allows `policy.exact_releases` of them, and answers for one roster only, unless a person here has
permitted another. As with epsilon, an open study counts with its whole plan.

Likewise two exact analyses of patients that differ by one: so all of them work on one set of rows,
whichever study fixed it first, unless a person here has permitted the study to use another.

What is released of data that `policy.public_data` names is kept apart: its rows say so, and it is
neither counted nor compared. It stays apart only while the policy says that the data are public.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from client.config.policy import Policy
from client.governance.audit_replay import AuditEvent, Scalar
from client.governance.ledger_rows import EXACT, PUBLIC, plan_of
from protocol.document import canonical, digest
from protocol.errors import Code, WardroundError
from protocol.study.study import Study

_MIN_HONEST = 2
"""Sites in an exact sum that do not side with the coordinator: of one alone, it is that site's."""
_RULE = "exact_releases"


@dataclass(frozen=True)
class ExactReleases:
    """What the ledger says of exact releases before a study: those counted for all other studies,
    their rosters, the rosters permitted by hand (digests), and whether the study was accepted as
    one on public data."""

    counted: int = 0
    rosters: frozenset[tuple[str, ...]] = frozenset()
    permitted: frozenset[str] = frozenset()
    accepted_as_public: bool = False

    def check(self, study: Study, policy: Policy) -> None:
        """Raises WardroundError naming the rule: REFUSED_BUDGET where the study plans more exact
        releases than are left, REFUSED_POLICY for another roster than before, for a sum of fewer
        than two honest sites, and where the data are no longer said to be public."""
        planned = planned_exactly(study)
        if not planned or study.task.name in policy.public_data:
            return
        if self.accepted_as_public:
            raise WardroundError(
                Code.REFUSED_POLICY,
                "The study was accepted while policy.public_data named its task; it no longer "
                "does.",
                remedy="Submit it again, as another study.",
                rule=_RULE,
            )
        if self.counted + planned > policy.exact_releases:
            raise WardroundError(
                Code.REFUSED_BUDGET,
                f"policy.exact_releases is {policy.exact_releases}; with this study "
                f"{self.counted + planned} sums without noise would be released, each of which "
                "can show one patient.",
                remedy="Ask for a study whose training and evaluation are noised. Where the data "
                "are public or synthetic, name the task in policy.public_data.",
                rule=_RULE,
            )
        if len(study.sites) - study.aggregation.colluding_sites < _MIN_HONEST:
            raise WardroundError(
                Code.REFUSED_POLICY,
                "An exact sum takes two honest sites or more: the study's roster less the "
                "colluding sites that it tolerates is smaller.",
                remedy="Ask for a larger roster, or for a noised study.",
                rule=_RULE,
            )
        if self.revealed_by_subtraction(study) and roster_digest(study) not in self.permitted:
            raise WardroundError(
                Code.REFUSED_POLICY,
                "Exact sums were released here for another roster; together with this study's "
                "they would let data be computed of: "
                f"{', '.join(self.revealed_by_subtraction(study))}.",
                remedy=f"Only if they agree: `wardround-site permit {study.digest[:12]}`.",
                rule=_RULE,
            )

    def revealed_by_subtraction(self, study: Study) -> tuple[str, ...]:
        """The sites whose data could be told from this study's exact sums and earlier ones: those
        by which its roster differs from others'. Empty where its roster had exact sums before."""
        if study.sites in self.rosters or not planned_exactly(study):
            return ()
        differing = (set(study.sites).symmetric_difference(other) for other in self.rosters)
        return tuple(sorted(set().union(*differing)))


def planned_exactly(study: Study) -> int:
    """Exact releases that the study plans: attempts that train, and that evaluate, without
    noise."""
    return sum(attempts for unit, attempts in plan_of(study).values() if unit is None)


def exact_releases(db: sqlite3.Connection, study: Study, today: str) -> ExactReleases:
    """Reads what counts when this study is decided about, on the day `today`."""
    rows = db.execute(
        "SELECT document,"
        " SUM(CASE WHEN reserved(state, expires, ?) THEN planned ELSE debited END) AS counted"
        " FROM plans JOIN studies ON studies.digest = plans.study"
        " WHERE event = ? AND study != ? GROUP BY study HAVING counted > 0",
        (today, EXACT, study.digest),
    ).fetchall()
    rosters = (json.loads(document)["roster"] for document, _ in rows)
    as_public = db.execute(
        "SELECT 1 FROM plans WHERE study = ? AND event = ?", (study.digest, PUBLIC)
    ).fetchone()
    permissions = db.execute(
        "SELECT fields FROM audit WHERE event = ?", (AuditEvent.ROSTER_PERMITTED,)
    )
    return ExactReleases(
        counted=sum(counted for _, counted in rows),
        rosters=frozenset(tuple(member["name"] for member in roster) for roster in rosters),
        permitted=frozenset(json.loads(fields)["roster"] for (fields,) in permissions),
        accepted_as_public=as_public is not None,
    )


def rows_allowed(db: sqlite3.Connection, study: Study, rows: str) -> bool:
    """Whether an exact analysis may work on these rows: those of earlier ones, the first ones, or
    any where the study was permitted by hand."""
    fixed = {
        row
        for (row,) in db.execute(
            "SELECT json_extract(fields, '$.rows') FROM audit WHERE event = ?",
            (AuditEvent.ROWS_FIXED,),
        )
    }
    permitted = db.execute(
        "SELECT 1 FROM audit WHERE event = ? AND json_extract(fields, '$.study') = ?",
        (AuditEvent.ROSTER_PERMITTED, study.digest),
    ).fetchone()
    return not fixed or rows in fixed or permitted is not None


def other_rows() -> WardroundError:
    """The refusal of an exact analysis that would work on other rows."""
    return WardroundError(
        Code.REFUSED_POLICY,
        "Exact analyses here have worked on another set of patients; sums over two sets show the "
        "patients by which these differ.",
        remedy="Only if that may be: `wardround-site permit` the study.",
        rule=_RULE,
    )


def counted_exactly(db: sqlite3.Connection) -> tuple[int, int]:
    """Exact releases debited in all: of patients, and of data that were said to be public."""
    rows = db.execute(
        "SELECT event, SUM(debited) FROM plans WHERE event IN (?, ?) GROUP BY event",
        (EXACT, PUBLIC),
    ).fetchall()
    counts: dict[str, int] = dict(rows)
    return counts.get(EXACT, 0), counts.get(PUBLIC, 0)


def permission(study: Study) -> dict[str, Scalar]:
    """The fields of the audit entry by which exact sums over the study's roster are permitted."""
    return {"study": study.digest, "roster": roster_digest(study)}


def roster_digest(study: Study) -> str:
    """Identifies the sites of a study, in whatever study they take part."""
    return digest(canonical({"sites": list(study.sites)}))
