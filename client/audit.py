"""The audit log: what this site saw, decided, spent and sent. Append-only, chained, signed.

    hash_n = SHA-256(canonical {site, seq, time, event, fields, previous = hash_(n-1)})
    signature_n = Ed25519(identity, "wardround audit entry", hash_n)

Whoever lacks the identity key cannot write an entry; whoever has it still cannot change or remove
an old one without breaking every later hash; cutting the tail shows against head.json, a copy of
the newest hash outside the database (client/head.py). What it cannot show: a holder of the key
who rewrites the whole chain and the head. Ship the export elsewhere against that.
No entry holds patient data: fields are scalars, short, and named by this program.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from client.head import GENESIS
from client.state import State
from protocol.canonical import canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, verify

PURPOSE = "wardround audit entry"
CLOCK_TOLERANCE = timedelta(minutes=2)
"""How far the clock may step back (NTP corrects by less); more is refused."""
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_LONGEST = 300
Scalar = str | int | float | bool | None


class Happened(StrEnum):
    """The vocabulary of the log."""

    STUDY_SEEN = "study_seen"
    STUDY_ACCEPTED = "study_accepted"
    STUDY_REFUSED = "study_refused"
    STUDY_REJECTED = "study_rejected"
    STUDY_REVOKED = "study_revoked"
    STUDY_CLOSED = "study_closed"
    PRIVACY_DEBITED = "privacy_debited"
    MESSAGE_ANSWERED = "message_answered"
    MESSAGE_REFUSED = "message_refused"
    OPERATOR = "operator"
    DAEMON_STARTED = "daemon_started"
    DAEMON_STOPPED = "daemon_stopped"
    ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True)
class Entry:
    """One line of the log. `time` is UTC in ISO 8601; hashes and signature are hexadecimal."""

    seq: int
    time: str
    event: str
    fields: dict[str, Scalar]
    previous: str
    hash: str
    signature: str


class Audit:
    """The log of one state folder, signed with the site's identity."""

    def __init__(self, state: State, site: str, identity: Identity) -> None:
        self._state, self._site, self._identity = state, site, identity

    def append(self, event: Happened, **fields: Scalar) -> None:
        """One durable entry of its own. Raises WardroundError(LEDGER), (CLOCK)."""
        with self._state.transaction() as db:
            self.append_within(db, event, fields)

    def append_within(
        self,
        db: sqlite3.Connection,
        event: Happened,
        fields: Mapping[str, Scalar],
        *,
        clock_may_go_back: bool = False,
    ) -> None:
        """One entry inside a transaction of `State.transaction`: both are kept, or neither.

        Raises WardroundError(CLOCK) where the clock went back by more than CLOCK_TOLERANCE, and
        WardroundError(INTERNAL) for a field that is no short scalar.
        """
        for name, value in fields.items():
            if not _FIELD.match(name) or (isinstance(value, str) and len(value) > _LONGEST):
                raise WardroundError(Code.INTERNAL, f"The audit field {name} is not short.")
        row = db.execute("SELECT seq, hash, time FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        seq, previous = (row[0], row[1]) if row else (0, GENESIS)
        now = self._state.clock()
        if row and not clock_may_go_back and now < datetime.fromisoformat(row[2]) - CLOCK_TOLERANCE:
            raise WardroundError(
                Code.CLOCK,
                "This machine's clock is behind the newest entry of the audit log.",
                remedy="Set the clock (NTP). If the clock was ahead before and is right now, run "
                "`wardround-site ledger acknowledge`.",
            )
        time = now.isoformat(timespec="milliseconds")
        text = canonical(dict(fields)).decode()
        hashed = entry_hash(self._site, seq + 1, time, event, fields, previous)
        signature = self._identity.sign(PURPOSE, bytes.fromhex(hashed)).hex()
        db.execute(
            "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)",
            (seq + 1, time, event.value, text, previous, hashed, signature),
        )

    def entries(self, after: int = 0) -> list[Entry]:
        """Entries with a number above `after`, oldest first."""
        with self._state.reading() as db:
            return list(_rows(db, after))

    def verify(self) -> int:
        """Checks every hash, link, number and signature, the head outside, and that the ledger's
        debits are those in the log. Returns the number of entries.

        Raises WardroundError(AUDIT), naming the first entry at fault.
        """
        public_key = self._identity.public_key
        known = self._state.mirrored_head()
        debits: dict[tuple[str, int], dict[str, Scalar]] = {}
        seen, previous = 0, GENESIS
        with self._state.reading() as db:
            for entry in _rows(db, 0):
                seen += 1
                expected = entry_hash(
                    self._site, seen, entry.time, entry.event, entry.fields, previous
                )
                if entry.seq != seen:
                    raise _broken(seen, "is missing")
                if entry.previous != previous or entry.hash != expected:
                    raise _broken(seen, "was edited, or one before it was removed or moved")
                if not verify(
                    public_key, PURPOSE, bytes.fromhex(entry.hash), _bytes(entry.signature)
                ):
                    raise _broken(seen, "does not carry this site's signature")
                if entry.event == Happened.PRIVACY_DEBITED:
                    fields = entry.fields
                    debits[str(fields["study"]), int(str(fields["attempt"]))] = fields
                if known is not None and entry.seq == known.seq and entry.hash != known.hash:
                    raise _broken(seen, "is not the one that head.json names")
                previous = entry.hash
            if known is None or known.seq > seen:
                raise _broken(seen + 1, "is missing: the newest entries were removed")
            _same_debits(db, debits)
        return seen

    def export(self) -> Iterator[str]:
        """JSON Lines, one entry a line, oldest first."""
        for entry in self.entries():
            yield canonical(asdict(entry) | {"site": self._site}).decode()


def entry_hash(
    site: str, seq: int, time: str, event: str, fields: Mapping[str, Any], previous: str
) -> str:
    """The hash that the chain is made of, in hexadecimal."""
    return digest(
        canonical(
            {
                "site": site,
                "seq": seq,
                "time": time,
                "event": str(event),
                "fields": dict(fields),
                "previous": previous,
            }
        )
    )


def _rows(db: sqlite3.Connection, after: int) -> Iterator[Entry]:
    query = (
        "SELECT seq, time, event, fields, previous, hash, signature FROM audit WHERE seq > ?"
        " ORDER BY seq"
    )
    for seq, time, event, fields, previous, hashed, signature in db.execute(query, (after,)):
        try:
            parsed = json.loads(fields)
        except ValueError:
            raise _broken(seq, "was edited") from None
        if not isinstance(parsed, dict) or canonical(parsed).decode() != fields:
            raise _broken(seq, "was edited")
        yield Entry(seq, time, event, parsed, previous, hashed, signature)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _same_debits(db: sqlite3.Connection, audited: dict[tuple[str, int], dict[str, Scalar]]) -> None:
    """The ledger's rows and running totals against what the log says was debited."""
    rows = db.execute("SELECT study, attempt, part, round, count FROM debits").fetchall()
    told = {
        (study, attempt, part, fields["round"], fields[part])
        for (study, attempt), fields in audited.items()
        for part in ("train", "evaluate")
        if fields.get(part)
    }
    totals: dict[tuple[str, str], int] = {}
    for study, _, part, _, count in rows:
        totals[study, part] = totals.get((study, part), 0) + count
    kept = db.execute("SELECT study, part, debited FROM plans").fetchall()
    lower = [k for k in kept if k[2] != totals.get((k[0], k[1]), 0)]
    if set(rows) != told or lower:
        raise WardroundError(
            Code.AUDIT,
            "The ledger's debits are not those of the audit log.",
            remedy="Put the newest backup back, then acknowledge it; keep this one as evidence.",
        )


def _broken(seq: int, what: str) -> WardroundError:
    return WardroundError(
        Code.AUDIT,
        f"Entry {seq} of the audit log {what}.",
        remedy="Keep a copy of the state folder as evidence, and compare with the last export.",
    )
