"""The state folder: one daemon, one owner, no older copy, and nothing lost to a cut."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from client.governance.audit import Audit
from client.governance.audit_head import GENESIS, ChainHead
from client.governance.audit_replay import AuditEvent
from client.governance.database import SiteState
from protocol.errors import Code, WardroundError
from protocol.identity import Identity
from tests.client.hospital import SITE, Hospital, die, in_child, numbered
from tests.full_disk import disk_of


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital.found(tmp_path / "state")


def refused(code: Code, action: Callable[[], object]) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        action()
    assert caught.value.code == code, caught.value
    return caught.value


def test_everything_in_the_folder_is_for_its_owner_only(hospital: Hospital) -> None:
    hospital.audit.append(AuditEvent.OPERATOR, command="check")
    assert stat.S_IMODE(hospital.folder.stat().st_mode) == 0o700
    names = {path.name for path in hospital.folder.iterdir()}
    assert {"state.sqlite", "state.sqlite-wal", "head.json", "split.key"} <= names
    for path in hospital.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_a_commit_waits_for_the_disk(hospital: Hospital) -> None:
    with hospital.state.reading() as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_a_second_daemon_is_refused_until_the_first_has_ended(hospital: Hospital) -> None:
    first = hospital.again(daemon=True)
    error = refused(Code.STATE, lambda: first.enter(first.folder, first.identity, daemon=True))
    assert str(os.getpid()) in error.message
    command = Hospital.enter(first.folder, first.identity, clock=first.clock)
    command.audit.append(AuditEvent.OPERATOR, command="studies")
    command.state.close()
    first.again(daemon=True).state.close()


def test_a_daemon_that_was_killed_leaves_no_lock(hospital: Hospital) -> None:
    hospital.state.close()

    def work(_: int) -> None:
        Hospital.enter(hospital.folder, hospital.identity, daemon=True)
        die()

    assert in_child(work)[0] == 9
    Hospital.enter(hospital.folder, hospital.identity, daemon=True).state.close()


def test_another_sites_folder_and_another_key_are_refused(hospital: Hospital) -> None:
    key = hospital.identity.public_key.hex()
    refused(Code.STATE, lambda: SiteState.open(hospital.folder, "beta", key))
    other = Identity.generate().public_key.hex()
    refused(Code.STATE, lambda: SiteState.open(hospital.folder, SITE, other))


@pytest.mark.parametrize("name", [".", "state.sqlite", "split.key"])
def test_what_others_can_read_is_refused(hospital: Hospital, name: str) -> None:
    hospital.state.close()
    (hospital.folder / name).chmod(0o755 if name == "." else 0o640)
    error = refused(Code.STATE, lambda: Hospital.enter(hospital.folder, hospital.identity))
    assert "chmod" in error.remedy


def test_an_existing_state_is_never_made_anew(hospital: Hospital) -> None:
    before = hospital.state.split.check
    key = hospital.identity.public_key.hex()
    refused(Code.STATE, lambda: SiteState.create(hospital.folder, SITE, key))
    assert hospital.again().state.split.check == before


def test_a_deleted_ledger_is_not_replaced_by_an_empty_one(hospital: Hospital) -> None:
    hospital.audit.append(AuditEvent.OPERATOR, command="check")
    hospital.state.close()
    for path in hospital.folder.glob("state.sqlite*"):
        path.unlink()
    key = hospital.identity.public_key.hex()
    refused(Code.LEDGER, lambda: SiteState.create(hospital.folder, SITE, key))
    refused(Code.STATE, lambda: SiteState.open(hospital.folder, SITE, key))


def test_another_split_secret_is_refused(hospital: Hospital) -> None:
    hospital.state.close()
    (hospital.folder / "split.key").write_bytes(os.urandom(32))
    refused(Code.STATE, lambda: Hospital.enter(hospital.folder, hospital.identity))
    (hospital.folder / "split.key").unlink()
    refused(Code.STATE, lambda: Hospital.enter(hospital.folder, hospital.identity))


def test_an_interrupted_creation_is_finished_by_the_next(tmp_path: Path) -> None:
    identity = Identity.generate()
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    os.close(os.open(folder / "state.sqlite", os.O_CREAT, 0o600))
    ChainHead(0, GENESIS).write(folder / "head.json")
    SiteState.create(folder, SITE, identity.public_key.hex()).close()
    Hospital.enter(folder, identity, daemon=True).state.close()


def test_an_older_database_is_refused_and_stays_refused(hospital: Hospital) -> None:
    hospital.audit.append(AuditEvent.OPERATOR, command="one")
    hospital.state.close()
    old = hospital.folder.parent / "old"
    shutil.copytree(hospital.folder, old)
    hospital = Hospital.enter(hospital.folder, hospital.identity, clock=hospital.clock)
    hospital.audit.append(AuditEvent.OPERATOR, command="two")
    hospital.state.close()
    shutil.copy(old / "state.sqlite", hospital.folder / "state.sqlite")
    refused(Code.LEDGER, lambda: Hospital.enter(hospital.folder, hospital.identity, daemon=True))
    command = Hospital.enter(hospital.folder, hospital.identity, clock=hospital.clock)
    refused(Code.LEDGER, lambda: command.audit.append(AuditEvent.OPERATOR, command="three"))
    command.ledger.acknowledge()
    command.audit.append(AuditEvent.OPERATOR, command="three")
    assert command.audit.verify() == 3
    command.again(daemon=True).state.close()


def test_another_branch_of_the_same_length_is_refused(hospital: Hospital) -> None:
    hospital.state.close()
    old = hospital.folder.parent / "old"
    shutil.copytree(hospital.folder, old)
    for folder, command in ((hospital.folder, "one"), (old, "another")):
        branch = Hospital.enter(folder, hospital.identity, clock=hospital.clock)
        branch.audit.append(AuditEvent.OPERATOR, command=command)
        branch.state.close()
    shutil.copy(old / "state.sqlite", hospital.folder / "state.sqlite")
    refused(Code.LEDGER, lambda: Hospital.enter(hospital.folder, hospital.identity, daemon=True))


@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_a_lost_head_is_refused_until_acknowledged(hospital: Hospital, damage: str) -> None:
    hospital.audit.append(AuditEvent.OPERATOR, command="one")
    head = hospital.folder / "head.json"
    if damage == "missing":
        head.unlink()
    else:
        head.write_bytes(b"" if damage == "empty" else b'{"seq": "x"}')
    refused(Code.LEDGER, lambda: hospital.audit.append(AuditEvent.OPERATOR, command="two"))
    hospital.ledger.acknowledge()
    hospital.audit.append(AuditEvent.OPERATOR, command="two")


def test_a_head_one_entry_behind_is_what_a_cut_leaves_and_no_alarm(hospital: Hospital) -> None:
    hospital.audit.append(AuditEvent.OPERATOR, command="one")
    head = (hospital.folder / "head.json").read_bytes()
    hospital.audit.append(AuditEvent.OPERATOR, command="two")
    (hospital.folder / "head.json").write_bytes(head)
    restarted = hospital.again(daemon=True)
    assert restarted.audit.verify() == 2
    restarted.audit.append(AuditEvent.OPERATOR, command="three")
    assert restarted.state.mirrored_head() == restarted.state.head()


def test_a_backup_is_whole_private_and_known_when_put_back(hospital: Hospital) -> None:
    first = hospital.accept(numbered(1))
    hospital.debit(first, 1, 1)
    folder = hospital.folder.parent / "backups"
    folder.mkdir(mode=0o700)
    hospital.state.backup(folder / "monday.sqlite")
    assert stat.S_IMODE((folder / "monday.sqlite").stat().st_mode) == 0o600
    refused(Code.LEDGER, lambda: hospital.state.backup(folder / "monday.sqlite"))
    hospital.state.close()
    elsewhere = hospital.folder.parent / "new-machine"
    elsewhere.mkdir(mode=0o700)
    shutil.copy(folder / "monday.sqlite", elsewhere / "state.sqlite")
    shutil.copy(hospital.folder / "split.key", elsewhere / "split.key")
    refused(Code.LEDGER, lambda: Hospital.enter(elsewhere, hospital.identity, daemon=True))
    restored = Hospital.enter(elsewhere, hospital.identity, clock=hospital.clock)
    assert restored.ledger.acknowledge() == (first.title,)
    refused(Code.REVOKED, lambda: restored.debit(first, 2, 2))
    restored.audit.verify()
    restored.again(daemon=True).state.close()


def test_a_backup_that_does_not_fit_leaves_nothing(hospital: Hospital) -> None:
    folder = hospital.folder.parent / "backups"
    folder.mkdir(mode=0o700)
    with disk_of(8192):
        refused(Code.LEDGER, lambda: hospital.state.backup(folder / "monday.sqlite"))
    assert not list(folder.iterdir())
    hospital.state.backup(folder / "monday.sqlite")


@pytest.mark.parametrize("off", [None, timedelta(minutes=-3), timedelta(minutes=3)])
def test_a_clock_gone_back_is_believed_once_a_second_one_says_the_same(
    hospital: Hospital, off: timedelta | None
) -> None:
    """It was ahead before: by a day, until the hospital's NTP came back."""
    heard: list[datetime | None] = [None if off is None else hospital.clock.now + off]
    audit = Audit(hospital.state, SITE, hospital.identity, second_clock=lambda: heard[0])
    hospital.clock.now += timedelta(days=1)
    audit.append(AuditEvent.OPERATOR, command="ahead")
    hospital.clock.now -= timedelta(days=1)
    refused(Code.CLOCK, lambda: audit.append(AuditEvent.OPERATOR, command="nobody agrees"))
    heard[0] = hospital.clock.now + timedelta(seconds=90)
    audit.append(AuditEvent.OPERATOR, command="right")
    audit.append(AuditEvent.OPERATOR, command="right again")
    events = [(entry.event, entry.fields) for entry in audit.entries()]
    assert events[-4:] == [
        ("operator", {"command": "ahead"}),
        ("clock_corrected", {"seconds": 86400}),
        ("operator", {"command": "right"}),
        ("operator", {"command": "right again"}),
    ]
    audit.verify()


def test_a_clock_gone_back_is_refused_until_acknowledged(hospital: Hospital) -> None:
    hospital.audit.append(AuditEvent.OPERATOR, command="one")
    hospital.clock.now -= timedelta(seconds=60)
    hospital.audit.append(AuditEvent.OPERATOR, command="NTP corrected a little")
    hospital.clock.now -= timedelta(minutes=10)
    refused(Code.CLOCK, lambda: hospital.audit.append(AuditEvent.OPERATOR, command="two"))
    assert hospital.ledger.acknowledge() == ()
    hospital.audit.append(AuditEvent.OPERATOR, command="two")
    assert hospital.audit.verify() == 4


def test_a_damaged_database_is_refused(hospital: Hospital) -> None:
    hospital.state.close()
    database = hospital.folder / "state.sqlite"
    content = bytearray(database.read_bytes())
    content[4096:12288] = os.urandom(8192)
    database.write_bytes(content)
    refused(Code.LEDGER, lambda: Hospital.enter(hospital.folder, hospital.identity, daemon=True))
    database.write_bytes(b"no database at all, just some text" * 200)
    refused(Code.LEDGER, lambda: Hospital.enter(hospital.folder, hospital.identity, daemon=True))


def test_a_folder_without_state_is_named(tmp_path: Path) -> None:
    error = refused(Code.STATE, lambda: SiteState.open(tmp_path, SITE, "00" * 32))
    assert "init" in error.remedy


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE plans SET debited = debited - 1 WHERE part = 'train'",
        "UPDATE plans SET debited = debited + 1 WHERE part = 'evaluate'",
        "DELETE FROM plans WHERE part = 'train'",
        "DELETE FROM debits WHERE attempt = 2",
    ],
)
def test_plans_that_disagree_with_their_debits_stop_the_daemon(
    hospital: Hospital, change: str
) -> None:
    study = hospital.accept(numbered(1))
    hospital.accept(numbered(2))
    for attempt in (1, 2):
        hospital.debit(study, attempt, attempt)
    hospital.again(daemon=True).state.close()
    with sqlite3.connect(hospital.folder / "state.sqlite") as db:
        db.execute("DROP TRIGGER debits_are_append_only_d")
        db.execute(change)
    db.close()
    error = refused(
        Code.LEDGER, lambda: Hospital.enter(hospital.folder, hospital.identity, daemon=True)
    )
    assert study.digest[:12] in error.message
    assert "audit verify" in error.remedy
    site = Hospital.enter(hospital.folder, hospital.identity)
    refused(Code.AUDIT, site.audit.verify)
