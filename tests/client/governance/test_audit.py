"""The audit log: whatever is edited, removed, moved or cut is found, and no patient is in it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.governance.audit import entry_hash
from client.governance.audit_head import ChainHead
from client.governance.audit_replay import AuditEvent
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from tests.client.hospital import SITE, Hospital, numbered

ENTRIES = 12


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """A site with a history of one study, its folder closed."""
    hospital = Hospital.found(tmp_path_factory.mktemp("audit") / "state")
    study = hospital.accept(numbered(1))
    for round_ in range(1, 7):
        hospital.debit(study, round_, round_)
    hospital.audit.append(AuditEvent.MESSAGE_ANSWERED, study=study.digest, kind="ready", bytes=512)
    hospital.audit.append(AuditEvent.OPERATOR, command="revoke")
    hospital.approvals.revoke(study, reason="asked by patient MRN-4711")
    hospital.audit.append(AuditEvent.DAEMON_STOPPED)
    assert hospital.audit.verify() == ENTRIES
    hospital.state.close()
    return hospital


@pytest.fixture
def hospital(closed: Hospital, tmp_path: Path) -> Hospital:
    """A copy of it, to be tampered with."""
    shutil.copytree(closed.folder, tmp_path / "state")
    return Hospital(**(vars(closed) | {"folder": tmp_path / "state"}))


@contextmanager
def intruder(hospital: Hospital) -> Iterator[sqlite3.Connection]:
    """Someone who can write the file and takes the triggers off first."""
    db = sqlite3.connect(hospital.folder / "state.sqlite")
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    yield db
    db.commit()
    db.close()


def found(hospital: Hospital) -> str:
    site = Hospital.enter(hospital.folder, hospital.identity, clock=hospital.clock)
    with pytest.raises(WardroundError) as caught:
        site.audit.verify()
    site.state.close()
    assert caught.value.code == Code.AUDIT
    return caught.value.message


@pytest.mark.parametrize("seq", range(1, ENTRIES + 1))
@pytest.mark.parametrize(
    "change",
    [
        "time = '2020-01-01T00:00:00.000+00:00'",
        "event = 'operator_'",
        "fields = '{\"a\":1}'",
        "fields = 'no JSON'",
        "fields = ' ' || fields",
        "previous = substr(hash, 1, 64)",
        "hash = 'zz'",
        "signature = substr(signature, 3) || '00'",
        "signature = ''",
    ],
)
def test_an_edited_entry_is_named(hospital: Hospital, seq: int, change: str) -> None:
    with intruder(hospital) as db:
        db.execute("UPDATE audit SET " + change + " WHERE seq = ?", (seq,))
    assert f"Entry {seq} " in found(hospital)


@pytest.mark.parametrize("seq", range(1, ENTRIES + 1))
def test_a_removed_entry_is_named(hospital: Hospital, seq: int) -> None:
    with intruder(hospital) as db:
        db.execute("DELETE FROM audit WHERE seq = ?", (seq,))
    assert f"Entry {seq} " in found(hospital)


@pytest.mark.parametrize("seq", range(1, ENTRIES + 1))
def test_a_removed_entry_is_named_when_the_rest_is_renumbered(hospital: Hospital, seq: int) -> None:
    with intruder(hospital) as db:
        db.execute("DELETE FROM audit WHERE seq = ?", (seq,))
        for later in range(seq + 1, ENTRIES + 1):
            db.execute("UPDATE audit SET seq = ? WHERE seq = ?", (later - 1, later))
    assert f"Entry {seq} " in found(hospital)


@pytest.mark.parametrize("seq", range(1, ENTRIES))
def test_two_entries_that_changed_places_are_found(hospital: Hospital, seq: int) -> None:
    with intruder(hospital) as db:
        for old, new in ((seq, -1), (seq + 1, seq), (-1, seq + 1)):
            db.execute("UPDATE audit SET seq = ? WHERE seq = ?", (new, old))
    assert f"Entry {seq} " in found(hospital)


@pytest.mark.parametrize("kept", range(ENTRIES))
def test_a_cut_tail_is_found(hospital: Hospital, kept: int) -> None:
    with intruder(hospital) as db:
        db.execute("DELETE FROM audit WHERE seq > ?", (kept,))
    assert f"Entry {kept + 1} " in found(hospital)


def test_a_rewritten_chain_lacks_the_sites_signature(hospital: Hospital) -> None:
    other = Identity.generate()
    with intruder(hospital) as db:
        row = db.execute("SELECT * FROM audit WHERE seq = ?", (ENTRIES,)).fetchone()
        fields = {"command": "nothing"}
        hashed = entry_hash(SITE, ENTRIES, row[1], "operator", fields, row[4])
        db.execute("DELETE FROM audit WHERE seq = ?", (ENTRIES,))
        db.execute(
            "INSERT INTO audit VALUES (?, ?, 'operator', ?, ?, ?, ?)",
            (
                ENTRIES,
                row[1],
                '{"command":"nothing"}',
                row[4],
                hashed,
                other.sign("wardround audit entry", bytes.fromhex(hashed)).hex(),
            ),
        )
    ChainHead(ENTRIES, hashed).write(hospital.folder / "head.json")
    assert "signature" in found(hospital)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM debits WHERE attempt = 6 AND part = 'evaluate'",
        "DELETE FROM debits",
        "UPDATE debits SET count = 0 WHERE attempt = 3",
        "UPDATE debits SET round = 1 WHERE attempt = 3",
        "UPDATE plans SET debited = 0",
        "UPDATE plans SET planned = planned + 1",
        "UPDATE plans SET event = replace(event, '2.0', '9.0')",
        "DELETE FROM plans",
        "UPDATE studies SET state = 'accepted'",
        "UPDATE studies SET digest = replace(digest, '1', '2')",
        "UPDATE studies SET document = replace(document, 'Study 1', 'Study 2')",
    ],
)
def test_a_ledger_that_says_less_than_the_log_is_found(hospital: Hospital, change: str) -> None:
    with intruder(hospital) as db:
        if "document" in change:
            text = db.execute("SELECT document FROM studies").fetchone()[0]
            db.execute("UPDATE studies SET document = ?", (text.replace(b"Study 1", b"Study 2"),))
        else:
            db.execute(change)
    assert "not those of the audit log" in found(hospital)


def test_the_tables_refuse_changes_through_sql(closed: Hospital) -> None:
    db = sqlite3.connect(closed.folder / "state.sqlite")
    for statement in (
        "UPDATE audit SET event = 'x'",
        "DELETE FROM audit",
        "UPDATE debits SET count = 0",
        "DELETE FROM debits",
        "UPDATE plans SET debited = planned + 1",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(statement)
    db.close()


def test_the_export_is_json_lines_without_free_text(hospital: Hospital) -> None:
    site = Hospital.enter(hospital.folder, hospital.identity, clock=hospital.clock)
    lines = [json.loads(line) for line in site.audit.export()]
    assert [line["seq"] for line in lines] == list(range(1, ENTRIES + 1))
    assert {line["site"] for line in lines} == {SITE}
    assert lines[2]["event"] == "privacy_debited"
    assert "MRN-4711" not in "\n".join(site.audit.export())
    site.state.close()


def test_only_short_scalars_are_written(tmp_path: Path) -> None:
    hospital = Hospital.found(tmp_path / "state")
    for fields in ({"note": "x" * 301}, {"Note": "x"}, {"a b": 1}):
        with pytest.raises(WardroundError) as caught:
            hospital.audit.append(AuditEvent.OPERATOR, **fields)
        assert caught.value.code == Code.INTERNAL
    assert hospital.audit.verify() == 0


def test_verification_tells_how_far_it_is(hospital: Hospital) -> None:
    site = Hospital.enter(hospital.folder, hospital.identity, clock=hospital.clock)
    told: list[tuple[int, int]] = []
    site.audit.verify(lambda done, total: told.append((done, total)))
    assert told == [(ENTRIES, ENTRIES)]
    site.state.close()
