"""What a site keeps moves on with the attempts that counted, survives a restart, and stays put."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from client.training.algorithm_state import (
    PERSONAL,
    AlgorithmState,
    algorithm_state_in,
    figures_of,
    sweep,
)
from protocol.errors import Code, WardroundError
from protocol.vectors import Vector


def one(value: float) -> Vector:
    return np.array([value], dtype=np.float32)


def attempt(kept: AlgorithmState, number: int, value: float, lost: Collection[int] = ()) -> None:
    """Prepared, proposed, shared."""
    kept.begin(number, lost)
    kept.propose(one(value))
    kept.share()


@pytest.fixture(params=["memory", "folder"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AlgorithmState:
    return (
        AlgorithmState() if request.param == "memory" else AlgorithmState(tmp_path / "kept" / "s")
    )


def test_what_was_shared_and_not_lost_counts(kept: AlgorithmState) -> None:
    assert kept.vector is None
    attempt(kept, 1, 10.0)
    kept.begin(2, lost=())
    assert kept.vector == one(10.0)


def test_what_was_lost_is_taken_back(kept: AlgorithmState) -> None:
    attempt(kept, 1, 10.0)
    attempt(kept, 2, 20.0)
    kept.begin(3, lost=(2,))
    assert kept.vector == one(10.0)


def test_an_attempt_that_begins_again_was_not_counted(kept: AlgorithmState) -> None:
    """A coordinator was killed between the sum and its checkpoint."""
    attempt(kept, 1, 10.0)
    attempt(kept, 2, 20.0)
    kept.begin(2, lost=())
    assert kept.vector == one(10.0)


def test_a_site_that_missed_rounds_keeps_its_last_that_counted(kept: AlgorithmState) -> None:
    attempt(kept, 1, 10.0)
    kept.begin(7, lost=(3, 5))
    assert kept.vector == one(10.0)


def test_what_was_prepared_and_never_shared_does_not_count(kept: AlgorithmState) -> None:
    attempt(kept, 1, 10.0)
    kept.begin(2, lost=())
    kept.propose(one(20.0))
    kept.begin(3, lost=())
    assert kept.vector == one(10.0)


def test_nothing_is_kept_where_nothing_was_proposed(kept: AlgorithmState) -> None:
    kept.begin(1, lost=())
    kept.share()
    assert kept.vector is None


def test_a_restart_goes_on_with_what_was_shared(tmp_path: Path) -> None:
    folder = tmp_path / "kept" / "s"
    first = AlgorithmState(folder, 1)
    attempt(first, 1, 10.0)
    attempt(first, 2, 20.0)
    first.begin(3, lost=())
    first.propose(one(30.0))  # and the power goes
    again = AlgorithmState(folder, 1)
    again.begin(4, lost=(3,))
    assert again.vector == one(20.0)
    lost = AlgorithmState(folder, 1)
    lost.begin(4, lost=(2, 3))
    assert lost.vector is None, "attempt 1 was given up when attempt 2 had not been called lost"


def test_files_are_the_owners_alone_and_no_more_than_needed(tmp_path: Path) -> None:
    folder = tmp_path / "kept" / "s"
    kept = AlgorithmState(folder)
    for number in range(1, 6):
        attempt(kept, number, float(number))
    assert {path.name for path in folder.iterdir()} == {"shared-4.npy", "shared-5.npy"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_proposal_is_durable_with_the_names_of_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = set[int](), os.fsync

    def noting(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    kept = algorithm_state_in(tmp_path, "a", 1)
    kept.begin(1, lost=())
    kept.propose(one(7.0))
    everything = (tmp_path, *tmp_path.rglob("*"))
    assert {path.stat().st_ino for path in everything} <= synced


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "kept" / "s"
    attempt(AlgorithmState(folder), 1, 10.0)
    (folder / "shared-1.npy").write_bytes(b"no array")
    with pytest.raises(WardroundError) as refused:
        AlgorithmState(folder, 1)
    assert refused.value.code is Code.STATE
    assert "Remove it" in refused.value.remedy


def test_the_own_model_stays_when_a_study_finishes_and_only_then(tmp_path: Path) -> None:
    for name, finished in (("a", True), ("b", False)):
        kept = algorithm_state_in(tmp_path, name, 1)
        attempt(kept, 1, 10.0)
        kept.keep_model(one(7.0), {"own": {"auc": 0.5}})
        kept.close(b"{}", finished=finished)
    assert not list((tmp_path / "kept").iterdir())
    assert [path.name for path in (tmp_path / PERSONAL).iterdir()] == ["a"]
    stays = tmp_path / PERSONAL / "a"
    assert np.load(stays / "weights.npy") == one(7.0)
    assert figures_of(stays) == {"own": {"auc": 0.5}}
    assert (stays / "study.json").read_bytes() == b"{}"
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in stays.iterdir())


def test_a_restart_between_the_last_sum_and_the_close_loses_no_model(tmp_path: Path) -> None:
    algorithm_state_in(tmp_path, "a", 1).keep_model(one(7.0), {})
    algorithm_state_in(tmp_path, "a", 1).close(b"{}", finished=True)
    assert np.load(tmp_path / PERSONAL / "a" / "weights.npy") == one(7.0)


def test_what_revoked_studies_left_is_swept(tmp_path: Path) -> None:
    for name in ("runs", "revoked"):
        attempt(algorithm_state_in(tmp_path, name, 1), 1, 1.0)
    sweep(tmp_path, {"runs"})
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["runs"]
