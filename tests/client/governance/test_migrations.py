"""A ledger of an older release is migrated whole or not at all, and a copy of it stays."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from client.governance import migrations
from client.governance.database import SiteState
from client.governance.migrations import SCHEMA_VERSION, note_release
from protocol.errors import Code, WardroundError
from protocol.release import RELEASE
from tests.client.hospital import SITE, Hospital, die, in_child, numbered

COPY = f"state.sqlite.schema-{SCHEMA_VERSION - 1}"


@pytest.fixture
def older(tmp_path: Path) -> Hospital:
    """A hospital whose ledger has the schema before this release's, closed, with a debit in it."""
    hospital = Hospital.found(tmp_path / "state", names="")
    hospital.debit(hospital.accept(numbered(1)), 1, 1)
    hospital.state.close()
    with sqlite3.connect(hospital.folder / "state.sqlite") as db:
        db.execute("DELETE FROM meta WHERE key = 'release'")
        for column in ("names", "expires"):
            db.execute(f"ALTER TABLE studies DROP COLUMN {column}")
        for table in ("patients", "participant_sets"):
            db.execute(f"DROP TABLE {table}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    db.close()
    return hospital


def entered(hospital: Hospital, *, daemon: bool = False) -> Hospital:
    return Hospital.enter(
        hospital.folder,
        hospital.identity,
        hospital.ledger.policy,
        daemon=daemon,
        clock=hospital.clock,
    )


def schema(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def refused(code: Code, action: Callable[[], object]) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        action()
    assert caught.value.code is code, caught.value
    return caught.value


@pytest.mark.parametrize("daemon", [True, False])
def test_it_is_migrated_and_a_copy_stays(older: Hospital, daemon: bool) -> None:
    again = entered(older, daemon=daemon)
    assert again.audit.verify() > 0
    again.debit(numbered(1), 1, 2)
    again.state.close()
    assert schema(older.folder / "state.sqlite") == SCHEMA_VERSION
    copy = older.folder / COPY
    assert schema(copy) == SCHEMA_VERSION - 1
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    before = copy.read_bytes()
    entered(older, daemon=daemon).state.close()
    assert copy.read_bytes() == before
    assert not list(older.folder.glob("*.partial"))


def test_the_copy_put_back_is_noticed_and_acknowledged(older: Hospital) -> None:
    entered(older).state.close()
    for name in ("state.sqlite-wal", "state.sqlite-shm"):
        (older.folder / name).unlink(missing_ok=True)
    shutil.copy2(older.folder / COPY, older.folder / "state.sqlite")
    refused(Code.LEDGER, lambda: entered(older, daemon=True))
    again = entered(older)
    refused(Code.LEDGER, lambda: again.debit(numbered(1), 1, 2))
    assert again.ledger.acknowledge() == ("Study 1",)
    again.state.close()
    entered(older, daemon=True).state.close()


def test_not_under_a_daemon_that_works_on_it(
    older: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon of the older release may still run while a command of this one is typed."""
    monkeypatch.setattr("client.governance.migrations.SCHEMA_VERSION", SCHEMA_VERSION - 1)
    daemon = entered(older, daemon=True)
    monkeypatch.undo()
    error = refused(Code.STATE, lambda: entered(older))
    assert "Another daemon" in error.message
    assert schema(older.folder / "state.sqlite") == SCHEMA_VERSION - 1
    daemon.state.close()
    entered(older).state.close()


def test_a_step_that_fails_leaves_the_older_ledger(
    older: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(db: sqlite3.Connection) -> None:
        note_release(db)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setitem(migrations.STEPS, SCHEMA_VERSION - 1, half)
    refused(Code.LEDGER, lambda: entered(older))
    database = older.folder / "state.sqlite"
    assert schema(database) == SCHEMA_VERSION - 1
    db = sqlite3.connect(database)
    assert db.execute("SELECT 1 FROM meta WHERE key = 'release'").fetchone() is None
    db.close()
    monkeypatch.undo()
    again = entered(older, daemon=True)
    assert again.audit.verify() > 0
    again.state.close()


@pytest.mark.parametrize("point", ["before the copy", "after the copy", "within", "after"])
def test_a_power_cut_leaves_the_older_ledger_or_the_newer(older: Hospital, point: str) -> None:
    copying, step = migrations.copy_database, migrations.STEPS[SCHEMA_VERSION - 1]

    def work(_: int) -> None:
        def cut_copy(db: sqlite3.Connection, target: Path) -> None:
            if point == "before the copy":
                die()
            copying(db, target)
            if point == "after the copy":
                die()

        def cut_step(db: sqlite3.Connection) -> None:
            step(db)
            if point == "within":
                die()

        migrations.copy_database = cut_copy
        migrations.STEPS[SCHEMA_VERSION - 1] = cut_step
        entered(older)
        die()

    killed, said = in_child(work)
    assert (killed, said) == (9, b"")
    again = entered(older, daemon=True)
    assert again.audit.verify() > 0
    again.debit(numbered(1), 1, 2)
    again.state.close()
    assert schema(older.folder / COPY) == SCHEMA_VERSION - 1


def test_one_of_a_newer_release_is_refused_by_its_name(tmp_path: Path) -> None:
    hospital = Hospital.found(tmp_path / "state")
    hospital.state.close()
    database = hospital.folder / "state.sqlite"
    with sqlite3.connect(database) as db:
        db.execute("UPDATE meta SET value = '7.3.0' WHERE key = 'release'")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    error = refused(Code.RELEASE, lambda: entered(hospital))
    assert f"schema {SCHEMA_VERSION + 1}, of wardround 7.3.0" in error.message
    assert RELEASE in error.message
    assert error.remedy == "Install wardround 7.3.0."
    shutil.copy2(database, hospital.folder / f"state.sqlite.schema-{SCHEMA_VERSION}")
    assert "put state.sqlite.schema-" in refused(Code.RELEASE, lambda: entered(hospital)).remedy


def test_another_sites_ledger_is_not_touched(older: Hospital) -> None:
    refused(Code.STATE, lambda: SiteState.open(older.folder, "elsewhere", "00" * 32))
    refused(Code.STATE, lambda: SiteState.open(older.folder, SITE, "00" * 32))
    assert schema(older.folder / "state.sqlite") == SCHEMA_VERSION - 1
    assert not (older.folder / COPY).exists()
