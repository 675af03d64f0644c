"""A secret is a regular file of its owner alone; whatever else it is, the error says what to do."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from protocol.secret_files import (
    SECRET_BYTES,
    create_secret,
    make_database,
    read_secret,
    refuse_shared,
)
from tests.full_disk import disk_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_secret(tmp_path / "split.key")
    return tmp_path / "split.key"


def refused(path: Path, size: int | None = None) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        read_secret(path, "node key", Code.NODE_KEY, remedy="Make one.", exposed="ask", size=size)
    assert caught.value.code is Code.NODE_KEY
    assert str(path) in caught.value.message
    return caught.value


def test_a_secret_is_made_once_and_read_again(path: Path) -> None:
    secret = read_secret(path, "secret", Code.STATE, remedy="", size=SECRET_BYTES)
    assert len(set(secret)) > 8
    assert secret == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with disk_of(0):  # nothing need be written
        create_secret(path)
    assert path.read_bytes() == secret


def test_the_quicker_of_two_processes_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def overtaken(source: Path, target: Path) -> None:
        target.write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    create_secret(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == b"theirs"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o660])
def test_a_secret_that_others_can_reach_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    error = refused(path)
    assert error.message == f"The node key {path} is open to other users."
    assert error.remedy == f"Run `chmod 600 {path}`, and ask."


def test_another_user_s_secret_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "belongs to another user" in refused(path).message


def test_what_is_not_there_or_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name, why in (
        ("none", "cannot be read: No such file"),
        ("none/below", "cannot be read: No such file"),
        ("pipe", "is not a file"),
        ("folder", "is not a file"),
    ):
        error = refused(tmp_path / name)
        assert why in error.message
        assert error.remedy == "Make one."


def test_a_secret_of_another_size_is_damaged(path: Path) -> None:
    path.write_bytes(b"short")
    assert "is damaged" in refused(path, size=SECRET_BYTES).message


def test_a_folder_is_its_owner_s_too(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    refuse_shared(folder, "state folder")
    folder.chmod(0o750)
    with pytest.raises(WardroundError, match="open to other users") as caught:
        refuse_shared(folder, "state folder")
    assert "chmod 700" in caught.value.remedy
    with pytest.raises(WardroundError, match="cannot be read") as caught:
        refuse_shared(tmp_path / "none", "state folder", Code.LEDGER)
    assert caught.value.code is Code.LEDGER


def test_a_database_that_is_made_again_keeps_the_locks_of_who_has_it_open(tmp_path: Path) -> None:
    """Another process that thinks it is the last one deletes the log, with what stands in it."""
    path, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    make_database(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "print(db.execute('SELECT count(*) FROM t').fetchone()[0])\n"
        "db.close()\n"
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a)")
        db.execute("INSERT INTO t VALUES (1)")
        make_database(path)
        done = subprocess.run([sys.executable, "-c", other, path], check=True, capture_output=True)
        assert done.stdout.split() == [b"1"]
        assert log.exists()
        assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)
