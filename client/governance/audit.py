"""The audit log of what this site received, decided, spent and sent: append-only and signed.

    hash_n = SHA-256(canonical {site, seq, time, event, fields, previous = hash_(n-1)})
    signature_n = Ed25519(identity, "wardround audit entry", hash_n)

Only a holder of the identity key can write an entry, and even he cannot change or remove an old one
without breaking every later hash; a removed tail shows against head.json, a copy of the newest hash
outside the database (client/governance/audit_head.py). A holder of the key who rewrites the whole
chain and the head is not detected: send the export to another machine against that. No entry holds
patient data: fields are short scalars, named by this program.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from client.governance.audit_head import GENESIS
from client.governance.audit_replay import AuditEvent, AuditReplay, Scalar
from client.governance.database import SiteState
from protocol.document import canonical, digest
from protocol.errors import Code, WardroundError
from protocol.identity import Identity, verify
from protocol.untrusted import Throttle

PURPOSE = "wardround audit entry"
SecondClock = Callable[[], datetime | None]
"""The time by another machine's clock; None where it cannot be asked."""
CLOCK_TOLERANCE = timedelta(minutes=2)
"""How far the clock may step back (NTP corrects by less); more is refused."""
_COSTS_NOTHING = frozenset(
    {
        AuditEvent.STUDY_ASKED,
        AuditEvent.STUDY_SEEN,
        AuditEvent.STUDY_ACCEPTED,
        AuditEvent.STUDY_REFUSED,
        AuditEvent.STUDY_CLOSED,
    }
)
"""What a coordinator can cause without spending anything of what it has reserved here."""
MOST, _WINDOW = 600, 600.0
"""Entries of each of these kinds that a daemon writes in so many seconds."""
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_MAX_LENGTH = 300


@dataclass(frozen=True)
class AuditEntry:
    """An entry of the log. `time` is UTC in ISO 8601; hashes and signature are hexadecimal."""

    seq: int
    time: str
    event: str
    fields: dict[str, Scalar]
    previous: str
    hash: str
    signature: str


class Audit:
    """The log of one state folder, signed with the site's identity."""

    def __init__(
        self,
        state: SiteState,
        site: str,
        identity: Identity,
        *,
        rationed: bool = False,
        second_clock: SecondClock = lambda: None,
    ) -> None:
        """rationed: of what costs a coordinator nothing, MOST entries of a kind are written in a
        while, and what would need another is refused. second_clock: is asked when this machine's
        went back."""
        self._state, self._site, self._identity = state, site, identity
        self._second_clock = second_clock
        self._ration, self._counting = Throttle(MOST, _WINDOW), threading.Lock()
        self._rationed = rationed

    def append(self, event: AuditEvent, **fields: Scalar) -> None:
        """Appends one entry, durable on return. Raises WardroundError(LEDGER), (CLOCK)."""
        with self._state.transaction() as db:
            self.append_within(db, event, fields)

    def append_within(
        self,
        db: sqlite3.Connection,
        event: AuditEvent,
        fields: Mapping[str, Scalar],
        *,
        clock_may_go_back: bool = False,
    ) -> None:
        """Appends one entry within a `SiteState.transaction`, with which it is stored or undone.

        Where the clock went back by more than CLOCK_TOLERANCE and the second clock says that it is
        right now, it was ahead before: an entry of its own says so first. Raises
        WardroundError(CLOCK) where nobody says so, as `ration`, and WardroundError(INTERNAL) for a
        field that is no short scalar.
        """
        if event in _COSTS_NOTHING:
            self.ration(event)
        for name, value in fields.items():
            if not _FIELD.match(name) or (isinstance(value, str) and len(value) > _MAX_LENGTH):
                raise WardroundError(Code.INTERNAL, f"The audit field {name} is not short.")
        now = self._state.clock()
        newest = db.execute("SELECT time FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        if newest and not clock_may_go_back:
            behind = datetime.fromisoformat(newest[0]) - now
            if behind > CLOCK_TOLERANCE:
                self._require_a_second_clock(now)
                corrected: dict[str, Scalar] = {"seconds": round(behind.total_seconds())}
                self._write(db, AuditEvent.CLOCK_CORRECTED, corrected, now)
        self._write(db, event, fields, now)

    def _write(
        self,
        db: sqlite3.Connection,
        event: AuditEvent,
        fields: Mapping[str, Scalar],
        now: datetime,
    ) -> None:
        row = db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        seq, previous = row or (0, GENESIS)
        time = now.isoformat(timespec="milliseconds")
        text = canonical(dict(fields)).decode()
        hashed = entry_hash(self._site, seq + 1, time, event, fields, previous)
        signature = self._identity.sign(PURPOSE, bytes.fromhex(hashed)).hex()
        db.execute(
            "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)",
            (seq + 1, time, event.value, text, previous, hashed, signature),
        )

    def _require_a_second_clock(self, now: datetime) -> None:
        """Raises WardroundError(CLOCK) unless the second clock says the same time."""
        second = self._second_clock()
        if second is None or abs(second - now) > CLOCK_TOLERANCE:
            raise WardroundError(
                Code.CLOCK,
                "This machine's clock is behind the newest entry of the audit log.",
                remedy="Set the clock (NTP). If it was ahead before and is right now, the daemon "
                "goes on once it reaches the coordinator, whose clock must say the same; or run "
                "`wardround-site ledger acknowledge`.",
            )

    def ration(self, kind: str) -> None:
        """Counts an entry that costs a coordinator nothing. Raises WardroundError(REFUSED_POLICY)
        where it has caused too many of the kind: nobody fills a hospital's disk."""
        with self._counting:
            allowed, _ = self._ration.admit(kind)
        if self._rationed and not allowed:
            raise WardroundError(
                Code.REFUSED_POLICY,
                f"The coordinator has caused {MOST} entries of the audit log ({kind}) within "
                f"{_WINDOW / 60:.0f} minutes.",
                remedy="It is answered again later. If it lasts, ask who runs the coordinator.",
            )

    def entries(self, after: int = 0, limit: int = -1) -> list[AuditEntry]:
        """Returns at most `limit` entries (-1: all) with a number above `after`, oldest first."""
        with self._state.reading() as db:
            return list(_rows(db, after, limit))

    def verify(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Checks every hash, link, number and signature, the head outside, and that studies,
        plans and debits in the ledger are those of the log. Returns the number of entries.

        progress: called with (entries checked, entries in all). Raises WardroundError(AUDIT),
        naming the first entry at fault.
        """
        head = self._state.mirrored_head()
        checked, previous, replay = 0, GENESIS, AuditReplay()
        with self._state.reading() as db:
            total = db.execute("SELECT COUNT(*) FROM audit").fetchone()[0]
            for entry in _rows(db, 0, -1):
                checked += 1
                self._check(entry, checked, previous)
                if head is not None and entry.seq == head.seq and entry.hash != head.hash:
                    raise _broken(checked, "is not the one that head.json names")
                replay.add(entry.event, entry.fields)
                previous = entry.hash
                if progress is not None and (checked % 1000 == 0 or checked == total):
                    progress(checked, total)
            if head is None or head.seq > checked:
                raise _broken(checked + 1, "is missing: the newest entries were removed")
            replay.compare(db)
        return checked

    def _check(self, entry: AuditEntry, number: int, previous: str) -> None:
        if entry.seq != number:
            raise _broken(number, "is missing")
        expected = entry_hash(self._site, number, entry.time, entry.event, entry.fields, previous)
        if entry.previous != previous or entry.hash != expected:
            raise _broken(number, "was edited, or one before it was removed or moved")
        signature, key = _bytes(entry.signature), self._identity.public_key
        if not verify(key, PURPOSE, bytes.fromhex(entry.hash), signature):
            raise _broken(number, "does not carry this site's signature")

    def export(self) -> Iterator[str]:
        """Yields JSON Lines, one entry a line, oldest first."""
        after = 0
        while batch := self.entries(after, 1000):
            for entry in batch:
                yield canonical(asdict(entry) | {"site": self._site}).decode()
            after = batch[-1].seq


def entry_hash(
    site: str, seq: int, time: str, event: str, fields: Mapping[str, Any], previous: str
) -> str:
    """Returns an entry's hash in the chain, in hexadecimal."""
    content = {"site": site, "seq": seq, "time": time, "event": str(event)}
    return digest(canonical(content | {"fields": dict(fields), "previous": previous}))


def _rows(db: sqlite3.Connection, after: int, limit: int) -> Iterator[AuditEntry]:
    rows = db.execute(
        "SELECT seq, time, event, fields, previous, hash, signature FROM audit WHERE seq > ?"
        " ORDER BY seq LIMIT ?",
        (after, limit),
    )
    for seq, time, event, fields, previous, hashed, signature in rows:
        try:
            parsed = json.loads(fields)
        except ValueError:
            raise _broken(seq, "was edited") from None
        if not isinstance(parsed, dict) or canonical(parsed).decode() != fields:
            raise _broken(seq, "was edited")
        yield AuditEntry(seq, time, event, parsed, previous, hashed, signature)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _broken(seq: int, what: str) -> WardroundError:
    return WardroundError(
        Code.AUDIT,
        f"Entry {seq} of the audit log {what}.",
        remedy="Keep a copy of the state folder as evidence, and compare with the last export.",
    )
