"""The privacy ledger: what was spent on this site's patients, over all studies and for ever.

    accept       reserves the study's whole plan; refused where all debits and all open plans
                 together would exceed a cap
    debit        charges one attempt within the reserved plan, before any data are used; durable
                 on return, and never credited, whatever becomes of the attempt
    close or     releases what the plan has not debited; where the study has failed or is paused,
    revoke       after the day that it states (`Study.expires`)
    resume       goes on with what is reserved, or reserves the rest again within the caps

So two studies cannot stop each other half-way, and a debit counts integers without composing
epsilon. A crash before the commit has spent nothing, since nothing was computed; a crash after it
has spent the attempt.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from client.config.policy import Policy
from client.governance.audit import Audit
from client.governance.audit_replay import AuditEvent, Scalar
from client.governance.database import SiteState
from client.governance.exact_releases import exact_releases
from client.governance.ledger_rows import (
    StudyStatus,
    acceptances,
    charged,
    count_acceptance,
    lapse,
    names_within,
    record,
    write_plan,
)
from protocol.errors import Code, WardroundError
from protocol.privacy.accounting import Event, epsilon_over_bands
from protocol.privacy.releases import (
    check_claim,
    planned_broken_epsilon,
    planned_events,
)
from protocol.study.study import Study

_NOT_OPEN: dict[StudyStatus, tuple[Code, str]] = {
    "waiting": (Code.WAITING_APPROVAL, "waits for approval"),
    "refused": (Code.REFUSED_STUDY, "was refused"),
    "rejected": (Code.REFUSED_STUDY, "was rejected by hand"),
    "revoked": (Code.REVOKED, "was revoked"),
    "paused": (Code.REFUSED_REPLAY, "is paused"),
    "failed": (Code.REFUSED_REPLAY, "has failed"),
    "finished": (Code.REFUSED_REPLAY, "has finished"),
    "cancelled": (Code.REFUSED_REPLAY, "was cancelled"),
}
_RESTING: tuple[StudyStatus, ...] = ("paused", "failed")


class Ledger:
    """Accepts and debits studies. Each change is one transaction with its audit entry."""

    def __init__(
        self,
        state: SiteState,
        audit: Audit,
        policy: Policy,
        names: Callable[[str], str] = lambda task: "",
    ) -> None:
        """names: a task -> by which names its patients go (`SiteConfig.names_of`)."""
        self.state, self.audit, self.policy = state, audit, policy
        self._names = names

    def check_caps(self, study: Study) -> tuple[float, float]:
        """Returns (epsilon of the study's plan, epsilon of all that is charged with it), at the
        policy's delta. Raises WardroundError(REFUSED_STUDY) where the study states less epsilon
        than it spends, (REFUSED_BUDGET) naming the cap that it would exceed, and as
        `ExactReleases.check` does.
        """
        check_claim(study)
        with self.state.reading() as db:
            today = self.state.today()
            others = charged(db, today, but=study.digest)
            exact = exact_releases(db, study, today)
            names = names_within(db, study.digest, self._names(study.task.name))
        exact.check(study, self.policy)
        return self._compose(study, names, others)

    def accept(self, study: Study, *, by: str, among: Collection[StudyStatus]) -> None:
        """Reserves the study's plan and opens it; durable on return. `by`: hand, rule, policy or
        resumption.

        Raises WardroundError: what `check_caps` raises, and USAGE unless the study is recorded
        in one of the states `among`.
        """
        check_claim(study)
        today = self.state.today()
        while True:
            with self.state.reading() as db:
                others, seen = charged(db, today, but=study.digest), acceptances(db)
                names = names_within(db, study.digest, self._names(study.task.name))
                exact = exact_releases(db, study, today)
            exact.check(study, self.policy)
            self._compose(study, names, others)  # outside the transaction: it may take a second
            with self.state.transaction() as db:
                if acceptances(db) != seen:
                    continue  # another study came first: what is charged may have grown
                row = db.execute(
                    "SELECT state FROM studies WHERE digest = ?", (study.digest,)
                ).fetchone()
                if row is None or row[0] not in among:
                    raise WardroundError(
                        Code.USAGE,
                        f"The study is {row[0] if row else 'not known'}: it cannot be accepted.",
                        remedy="Run `wardround-site studies` for the list.",
                    )
                lapse(db, today)
                plan = write_plan(db, study, public=self._is_public(study))
                expires = study.expires if study.expires >= today else ""
                self._open(db, study, expires, {"by": by, "plan": plan, "names": names})
                count_acceptance(db)
                return

    def resume(self, study: Study) -> None:
        """Opens a paused or failed study again, with the counters that it has; durable on return.
        What it still has reserved it keeps; what has lapsed is reserved again. Does nothing where
        the study is open with its plan reserved.

        Raises WardroundError: what `check_caps` raises, where the rest does not fit the caps now;
        USAGE where the study is in another state.
        """
        today = self.state.today()
        with self.state.reading() as db:
            if self._reserved(db, study, today) == "accepted":
                return
        with self.state.transaction() as db:
            if self._reserved(db, study, today) is not None:
                names, expires = db.execute(
                    "SELECT names, expires FROM studies WHERE digest = ?", (study.digest,)
                ).fetchone()
                self._open(db, study, expires, {"by": "resumption", "names": names})
                return
        self.accept(study, by="resumption", among=("accepted", *_RESTING))

    def holds(self, study: Study) -> bool:
        """Returns whether the study's plan is reserved here, under the current rules."""
        with self.state.reading() as db:
            return self._reserved(db, study, self.state.today()) is not None

    def _reserved(self, db: sqlite3.Connection, study: Study, today: str) -> StudyStatus | None:
        """Returns where a study stands whose plan is reserved under the current rules."""
        row = db.execute(
            "SELECT state FROM studies WHERE digest = ? AND reserved(state, expires, ?)"
            " AND (policy = ? OR state = 'accepted')",
            (study.digest, today, self.policy.digest),
        ).fetchone()
        return row[0] if row else None

    def _open(
        self, db: sqlite3.Connection, study: Study, expires: str, fields: Mapping[str, Scalar]
    ) -> None:
        db.execute(
            "UPDATE studies SET state = 'accepted', code = NULL, reason = '', policy = ?,"
            " changed = ?, names = ?, expires = ? WHERE digest = ?",
            (self.policy.digest, self._now(), fields["names"], expires, study.digest),
        )
        about: dict[str, Scalar] = {"study": study.digest}
        if study.permit is not None:
            about |= {"permit": study.permit.identifier, "person": study.permit.person}
        self.audit.append_within(db, AuditEvent.STUDY_ACCEPTED, about | dict(fields))

    def admit(self, study: str) -> None:
        """Raises WardroundError unless the study is open here, under the current policy and within
        its hours: WAITING_APPROVAL, REVOKED, REFUSED_STUDY, REFUSED_REPLAY, REFUSED_POLICY,
        OUTSIDE_HOURS.
        """
        with self.state.reading() as db:
            self._last_answered(db, study)
        self.policy.check_hours(self.state.clock())

    def debit(
        self, study: Study, round_: int, attempt: int, *, train: bool, evaluate: bool
    ) -> None:
        """Charges one attempt, durably when it returns; never credited.

        A round before the last one may come again, under a higher attempt: a coordinator that was
        put back from a backup repeats it.

        Raises WardroundError: REFUSED_REPLAY where the attempt is not above the last one,
        REFUSED_STUDY for a round or section that the study does not have, ATTEMPTS_SPENT,
        REFUSED_BUDGET beyond the reserved plan and where it has lapsed and cannot be reserved
        again, REFUSED_POLICY where no permit covers the study any more, what `admit` raises, LEDGER
        and CLOCK.
        """
        _check_planned(study, round_, attempt, train, evaluate)
        self.policy.check_hours(self.state.clock())
        self.policy.check_permit(study, self.state.today())
        self._renew(study)
        with self.state.transaction() as db:
            last_attempt = self._last_answered(db, study.digest)
            if self._reserved(db, study, self.state.today()) is None:
                raise WardroundError(
                    Code.REFUSED_BUDGET,
                    f"What was reserved for the study {study.digest[:12]} has just lapsed.",
                    remedy="Resume the study: the rest is then reserved again.",
                )
            if attempt <= last_attempt:
                raise WardroundError(
                    Code.REFUSED_REPLAY,
                    f"Attempt {attempt} is not above the last one answered here, {last_attempt}.",
                    remedy="A coordinator that lost its state goes on from its newest backup, with "
                    "`wardround coordinator restore`.",
                )
            for part, wanted in (("train", train), ("evaluate", evaluate)):
                if wanted:
                    self._charge(db, study.digest, part, round_, attempt, 1)
            db.execute(
                "UPDATE studies SET round = ?, attempt = ? WHERE digest = ?",
                (round_, attempt, study.digest),
            )
            fields: dict[str, Scalar] = {"study": study.digest, "round": round_, "attempt": attempt}
            fields |= {"train": int(train), "evaluate": int(evaluate)}
            self.audit.append_within(db, AuditEvent.PRIVACY_DEBITED, fields)

    def _renew(self, study: Study) -> None:
        """Reserves the plan of an open study again where it has lapsed. Raises as `accept`."""
        with self.state.reading() as db:
            self._last_answered(db, study.digest)
        self.resume(study)

    def take_part(self, study: str, round_: int, participants: Collection[str]) -> None:
        """Notes, durably, among whom a sum is that this site is about to add to.

        The sums that a round asks for are of one model. What two of them over different sites
        differ by is what the sites that are in one alone have added, with the noise of both; so the
        policy bounds how many sets of sites a round may have. Raises WardroundError(REFUSED_POLICY)
        for one more.
        """
        sites, most = ",".join(sorted(participants)), self.policy.participant_sets
        with self.state.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO participant_sets VALUES (?, ?, ?)", (study, round_, sites)
            )
            (sets,) = db.execute(
                "SELECT COUNT(*) FROM participant_sets WHERE study = ? AND round = ?",
                (study, round_),
            ).fetchone()
            if sets > most:  # the transaction is undone
                raise WardroundError(
                    Code.REFUSED_POLICY,
                    f"policy.participant_sets allows {most} different sets of sites in the sums of "
                    f"a round; round {round_} asks for one more.",
                    remedy="Ask the coordinator's operator why attempts are lost again and again; "
                    "a new study starts afresh.",
                    rule="participant_sets",
                )

    def witness(self, study: str, attempt: int) -> None:
        """Checks that the ledger has an attempt for which this site has signed a Ready.

        Where the debit is missing, the ledger is an older copy: it is marked as one, so that every
        write is refused until `acknowledge`, and WardroundError(LEDGER) is raised.
        """
        with self.state.transaction() as db:
            row = db.execute("SELECT attempt FROM studies WHERE digest = ?", (study,)).fetchone()
            if row is not None and row[0] >= attempt:
                return
            db.execute("INSERT OR REPLACE INTO meta VALUES ('backup', 'witnessed')")
        self.state.refuse_older()

    def older_copy(self) -> datetime | None:
        """The time of the newest entry of an older copy of the ledger; None for the ledger itself.
        What happened later is not in it."""
        try:
            self.state.refuse_older()
        except WardroundError:
            with self.state.reading() as db:
                (newest,) = db.execute("SELECT max(time) FROM audit").fetchone()
            return datetime.fromisoformat(newest) if newest else datetime.fromtimestamp(0, UTC)
        return None

    def acknowledge(self, lost: Sequence[Study] = ()) -> tuple[str, ...]:
        """Accepts an older copy of the ledger, or one written while the clock was ahead.

        In an older copy every open study is charged in full and revoked, since nobody knows how
        much of it was spent; so are the `lost` studies, which the copy may lack. Returns the titles
        of the studies charged. Raises WardroundError(LEDGER).
        """
        try:
            self.state.refuse_older()
            older = False
        except WardroundError:
            older = True
        with self.state.transaction(acknowledging=True) as db:
            studies = {study.digest: study for study in lost}
            if older:
                rows = db.execute(
                    "SELECT digest, document FROM studies"
                    " WHERE state IN ('accepted', 'paused', 'failed')"
                )
                studies |= {digest: Study.parse(document) for digest, document in rows.fetchall()}
            for study in studies.values():
                self._charge_in_full(db, study)
            if studies:
                count_acceptance(db)
            db.execute("DELETE FROM meta WHERE key = 'backup'")
            self.audit.append_within(
                db,
                AuditEvent.ACKNOWLEDGED,
                {"older_copy": older, "studies_charged": len(studies)},
                clock_may_go_back=True,
            )
        return tuple(study.title for study in studies.values())

    def _compose(self, study: Study, names: str, others: Sequence[Event]) -> tuple[float, float]:
        """Returns epsilon of the study and with `others`; raises where a cap is exceeded."""
        policy = self.policy
        own = planned_events(study)
        alone = epsilon_over_bands(own, policy.delta)
        _within(alone, policy.epsilon_per_study, bool(own), "epsilon_per_study")
        if study.shares_noise:
            broken = planned_broken_epsilon(study, policy.delta)
            _within(broken, policy.epsilon_broken, True, "epsilon_broken")
        named = [replace(event, names=names) for event in own]
        total = epsilon_over_bands((*others, *named), policy.delta, self.state.past)
        _within(total, policy.epsilon_lifetime, bool(own), "epsilon_lifetime")
        return alone, total

    def last_attempt(self, study: str) -> int:
        """Returns the number of the last attempt that was debited; 0 before the first."""
        with self.state.reading() as db:
            row = db.execute("SELECT attempt FROM studies WHERE digest = ?", (study,)).fetchone()
        return int(row[0]) if row else 0

    def _last_answered(self, db: sqlite3.Connection, study: str) -> int:
        """Returns the last attempt of an open study; raises for any other."""
        row = db.execute(
            "SELECT state, policy, attempt FROM studies WHERE digest = ?", (study,)
        ).fetchone()
        if row is None:
            raise WardroundError(Code.REFUSED_STUDY, "A message for a study never seen here.")
        if row[0] != "accepted":
            code, what = _NOT_OPEN[row[0]]
            raise WardroundError(code, f"The study {study[:12]} {what}.")
        if row[1] != self.policy.digest:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"The study {study[:12]} was accepted under other rules than today's.",
                remedy="Restart the daemon: it checks open studies against the rules of site.yaml.",
            )
        return int(row[2])

    def _charge(
        self, db: sqlite3.Connection, study: str, part: str, round_: int, attempt: int, count: int
    ) -> None:
        """Debits `count` attempts of a part, within the plan that was reserved for it."""
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
            "INSERT INTO debits VALUES (?, ?, ?, ?, ?, ?)",
            (study, attempt, part, round_, count, self._now()),
        )

    def _charge_in_full(self, db: sqlite3.Connection, study: Study) -> None:
        record(db, study, "revoked", self._now())
        plan = write_plan(db, study, public=self._is_public(study))
        past_the_last = study.aggregation.attempts + 1
        remaining: dict[str, int] = dict(
            db.execute(
                "SELECT part, planned - debited FROM plans WHERE study = ?", (study.digest,)
            ).fetchall()
        )
        about: dict[str, Scalar] = {"study": study.digest}
        if any(remaining.values()):
            for part, count in remaining.items():
                if count:
                    self._charge(db, study.digest, part, 0, past_the_last, count)
            debit = about | {"round": 0, "attempt": past_the_last, "plan": plan, **remaining}
            self.audit.append_within(db, AuditEvent.PRIVACY_DEBITED, debit, clock_may_go_back=True)
        self.audit.append_within(db, AuditEvent.STUDY_REVOKED, about, clock_may_go_back=True)
        db.execute(
            "UPDATE studies SET state = 'revoked', code = 'revoked', reason = ?, changed = ?,"
            " round = ?, attempt = ? WHERE digest = ?",
            (
                "charged in full: an older copy of the ledger was put back",
                self._now(),
                study.optimisation.rounds + 1,
                past_the_last,
                study.digest,
            ),
        )

    def _is_public(self, study: Study) -> bool:
        return study.task.name in self.policy.public_data

    def _now(self) -> str:
        return self.state.clock().isoformat(timespec="milliseconds")


def _check_planned(study: Study, round_: int, attempt: int, train: bool, evaluate: bool) -> None:
    """Raises WardroundError for an attempt that the study does not plan."""
    rounds = study.optimisation.rounds
    if not 1 <= round_ <= rounds + 1 or attempt < 1:
        raise WardroundError(Code.REFUSED_STUDY, f"The study has no round {round_}.")
    if attempt > study.aggregation.attempts:
        raise WardroundError(
            Code.ATTEMPTS_SPENT, f"The study pays for {study.aggregation.attempts} attempts."
        )
    if not (train or evaluate) or (train and not study.trains(round_)):
        raise WardroundError(Code.REFUSED_STUDY, f"Round {round_} does not train.")
    if evaluate and not study.evaluates(round_):
        raise WardroundError(Code.REFUSED_STUDY, f"Round {round_} does not evaluate.")


def _within(value: float, cap: float | None, needed: bool, rule: str) -> None:
    """Raises WardroundError(REFUSED_BUDGET) above the cap, or without a cap that is needed."""
    if needed and not (cap is not None and math.isfinite(value) and value <= cap):
        limit = "is not set" if cap is None else f"is {cap:g}"
        raise WardroundError(
            Code.REFUSED_BUDGET,
            f"policy.{rule} {limit}; with this study {value:.4g} would be spent.",
            remedy="Refuse the study, ask for one with more noise or fewer rounds, or revoke "
            "another one. A cap is raised in site.yaml alone.",
            rule=rule,
        )
