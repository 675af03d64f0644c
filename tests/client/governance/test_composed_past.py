"""What is kept of the past: the same numbers faster, and never a number that is not its own."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from copy import copy
from pathlib import Path

import pytest

from client.governance import composed_past
from client.governance.budget import Budget, budget
from client.governance.composed_past import FILE
from client.governance.ledger_rows import charged
from protocol.privacy import accounting
from protocol.privacy.accounting import epsilon_over_bands
from protocol.privacy.composition_cache import RecentlyUsed
from protocol.study.study import Study
from tests.client.hospital import Hospital, numbered, policy
from tests.failing_sqlite import WRITE_FAULTS, WriteFault, damage, failing_writes

RULES = policy(epsilon_lifetime=100.0)
STUDIES = 20


def different(number: int) -> Study:
    """A study like no other: its training and its evaluation have noise of their own."""
    noise = {"evaluation__noise_multiplier": 50.0 + number}
    return numbered(number, privacy__noise_multiplier=4.0 + 0.1 * number, **noise)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """A ledger with more different studies than are composed in one block, some closed. Nothing is
    open."""
    hospital = Hospital.found(tmp_path_factory.mktemp("founded") / "state", RULES)
    for number in range(STUDIES):
        study = hospital.accept(different(number))
        hospital.debit(study, 1, 1)
        if number % 3:
            hospital.approvals.close(study, "finished")
    hospital.state.close()
    return hospital


@pytest.fixture
def hospital(founded: Hospital, tmp_path: Path) -> Hospital:
    """A copy of it, open."""
    folder = shutil.copytree(founded.folder, tmp_path / "state")
    return Hospital.enter(folder, founded.identity, RULES, clock=copy(founded.clock))


def account(hospital: Hospital) -> Budget:
    return budget(hospital.state, hospital.ledger.policy)


def afresh(hospital: Hospital) -> tuple[float, float]:
    """Spent and reserved, composed of all events with nothing kept."""
    with hospital.state.reading() as db:
        spent, reserved = charged(db, "", open_plans=False), charged(db, "")
    return (
        epsilon_over_bands(spent, 1e-5, RecentlyUsed()),
        epsilon_over_bands(reserved, 1e-5, RecentlyUsed()),
    )


def composes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something was composed again")

    monkeypatch.setattr(accounting, "_losses", refuse)
    monkeypatch.setattr(accounting, "_RECENT", RecentlyUsed())


def entered(closed: Hospital) -> Hospital:
    return Hospital.enter(closed.folder, closed.identity, RULES, clock=closed.clock)


def tampered(hospital: Hospital, change: Callable[[sqlite3.Connection], object]) -> Hospital:
    """Its cache changed by somebody while it is closed."""
    hospital.state.close()
    with sqlite3.connect(hospital.folder / FILE) as db:
        change(db)
    db.close()
    return entered(hospital)


def test_a_kept_past_is_what_composing_everything_gives(hospital: Hospital) -> None:
    found = account(hospital)
    assert (found.spent, found.reserved) == afresh(hospital)
    opened = list(hospital.approvals.accepted())
    hospital.debit(opened[0], 2, 2)
    hospital.approvals.close(opened[1], "finished")
    hospital.approvals.revoke(opened[2])
    hospital.approvals.approve(opened[2])
    hospital.accept(different(STUDIES))
    found = account(hospital)
    assert (found.spent, found.reserved) == afresh(hospital)


def test_after_a_restart_nothing_is_composed_again(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = account(hospital)
    hospital = hospital.again(daemon=True)
    composes_nothing(monkeypatch)
    assert account(hospital) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE kept SET value = zeroblob(8) WHERE length(value) = 8",
        "UPDATE kept SET value = zeroblob(length(value))",
        "UPDATE kept SET value = substr(value, 1, length(value) - 8)",
        "UPDATE kept SET seal = zeroblob(32)",
        "UPDATE kept SET seal = x''",
        "UPDATE kept SET value = (SELECT value FROM kept ORDER BY value LIMIT 1),"
        " seal = (SELECT seal FROM kept ORDER BY value LIMIT 1)",
        "DELETE FROM kept WHERE id % 2",
        "DROP TABLE kept",
    ],
)
def test_what_was_changed_is_composed_again(hospital: Hospital, change: str) -> None:
    before = account(hospital)
    hospital = tampered(hospital, lambda db: db.execute(change))
    assert account(hospital) == before
    assert hospital.again().state.past.get(b"x") is None


@pytest.mark.parametrize("damage", [b"", b"not a database" * 1000, None])
def test_a_damaged_file_is_made_anew(
    hospital: Hospital, damage: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = account(hospital)
    hospital.state.close()
    path = hospital.folder / FILE
    text = path.read_bytes()
    path.write_bytes(text[: len(text) // 2] if damage is None else damage)
    hospital = entered(hospital)
    assert account(hospital) == before
    hospital = hospital.again()
    assert account(hospital) == before
    hospital = hospital.again()
    composes_nothing(monkeypatch)
    assert account(hospital) == before


def test_other_code_and_another_site_find_nothing(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account(hospital)
    other = Hospital.found(tmp_path / "other", RULES)
    with sqlite3.connect(hospital.folder / FILE) as db:
        keys = [key for (key,) in db.execute("SELECT key FROM kept")]
    db.close()
    assert all(hospital.state.past.get(key) is not None for key in keys)
    hospital.state.close()
    shutil.copy(hospital.folder / FILE, other.folder / FILE)
    assert not any(other.state.past.get(key) for key in keys)
    hospital = entered(hospital)
    monkeypatch.setattr(composed_past, "code_digest", lambda: bytes(32))
    assert not any(hospital.state.past.get(key) for key in keys)


def test_an_older_copy_of_the_ledger_finds_its_own_past(hospital: Hospital) -> None:
    older = account(hospital)
    hospital.state.close()
    kept = hospital.folder.parent / "older.sqlite"
    shutil.copy(hospital.folder / "state.sqlite", kept)
    hospital = entered(hospital)
    hospital.debit(hospital.approvals.accepted()[0], 2, 2)
    newer = account(hospital)
    assert newer.spent > older.spent
    hospital.state.close()
    shutil.copy(kept, hospital.folder / "state.sqlite")
    hospital = entered(hospital)
    assert account(hospital) == older
    hospital.ledger.acknowledge()
    found = account(hospital)
    assert (found.spent, found.reserved) == afresh(hospital)
    assert found.spent == found.reserved
    assert found.spent >= older.reserved > newer.spent


def test_only_what_is_in_use_stays(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    before = account(hospital)
    past = hospital.state.past
    for number in range(1000):
        past.put(b"composition %d" % number, bytes(9))
    past.put(b"a number", bytes(8))
    assert account(hospital) == before
    assert past.get(b"composition 1") is None
    assert past.get(b"a number") == bytes(8)
    hospital = hospital.again()
    composes_nothing(monkeypatch)
    assert account(hospital) == before


def test_the_file_is_for_its_owner_only_and_without_it_the_ledger_works(
    hospital: Hospital, caplog: pytest.LogCaptureFixture
) -> None:
    before = account(hospital)
    for path in hospital.folder.glob(f"{FILE}*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    hospital.state.close()
    (hospital.folder / FILE).unlink()
    (hospital.folder / FILE).mkdir(mode=0o700)
    hospital = entered(hospital)
    assert account(hospital) == before
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("fault", WRITE_FAULTS)
def test_a_file_that_cannot_be_written_holds_nothing_up(
    hospital: Hospital, fault: WriteFault
) -> None:
    past = hospital.state.past
    assert past.get(b"nothing") is None
    assert past._db is not None
    with failing_writes(past._db, hospital.folder / FILE, fault):
        past.put(b"a number", bytes(5000))
        assert account(hospital)
    assert hospital.again().state.past.get(b"a number") is None


def test_a_file_that_is_damaged_while_it_is_open_is_made_anew(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, past = account(hospital), hospital.state.past
    assert past._db is not None
    damage(past._db, hospital.folder / FILE)
    assert past.get(b"a number") is None
    past.put(b"a number", bytes(8))
    assert past.get(b"a number") == bytes(8)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    damage(past._db, hospital.folder / FILE)
    monkeypatch.setattr(Path, "unlink", read_only)
    assert past.get(b"a number") is None
    assert account(hospital) == before
