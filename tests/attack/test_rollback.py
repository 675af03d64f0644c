"""An older copy of a hospital's state folder is put back: noticed, and nothing more is spent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from protocol.errors import Code
from tests.attack.hostile import Hostile
from tests.attack.sites import SITES, Ring

VICTIM = "south"


@pytest.fixture
def state(hostile: Hostile) -> Path:
    return hostile.ring.config(VICTIM).state


def restart(ring: Ring) -> None:
    ring.start(VICTIM)
    ring.until_online()


def test_an_older_database_ends_the_daemon(hostile: Hostile, state: Path, tmp_path: Path) -> None:
    ring = hostile.ring
    assert ring.stop(VICTIM) == 0
    shutil.copytree(state, tmp_path / "older")
    restart(ring)
    attempt = hostile.next_attempt()
    hostile.prepare(attempt)
    ring.kill(VICTIM)
    shutil.copytree(state, tmp_path / "newest")
    for name in ("state.sqlite", "state.sqlite-wal", "state.sqlite-shm"):
        (state / name).unlink(missing_ok=True)
        if (tmp_path / "older" / name).exists():
            shutil.copy2(tmp_path / "older" / name, state / name)
    ring.start(VICTIM)
    assert ring.ended(VICTIM) == 7
    assert "older copy" in ring.log(VICTIM)
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "newest", state)
    restart(ring)
    assert attempt in ring.debited(VICTIM, hostile.study)


def test_a_whole_older_folder_is_witnessed_by_the_sites_own_signature(
    hostile: Hostile, state: Path, tmp_path: Path
) -> None:
    """A virtual machine set back takes the copy outside the database with it. The Ready that comes
    back with the list of participants is signed by this site, and its books do not know it."""
    ring = hostile.ring
    assert ring.stop(VICTIM) == 0
    shutil.copytree(state, tmp_path / "older")
    restart(ring)
    known = hostile.prepare(hostile.next_attempt())
    old = hostile.next_attempt()
    readys = hostile.prepare(old)
    ring.kill(VICTIM)
    shutil.copytree(state, tmp_path / "newest")
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "older", state)
    restart(ring)
    answers = hostile.collect(readys.values(), old, [VICTIM])
    assert answers[VICTIM].code == Code.LEDGER
    frame = hostile.preparing(hostile.next_attempt())
    assert hostile.ask({VICTIM: frame})[VICTIM].code == Code.LEDGER, "nothing more is spent"
    ring.kill(VICTIM)
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "newest", state)
    restart(ring)
    # With the right books the same messages are mere replays, and the site goes on.
    for listed, attempt in ((readys, old), (known, old - 1), (known, old + 50)):
        replies = hostile.collect(listed.values(), attempt, [VICTIM])
        assert replies[VICTIM].code == Code.REFUSED_REPLAY
    after = hostile.next_attempt()
    assert sorted(hostile.prepare(after)) == sorted(SITES)
