"""A checkpoint is read by the format that it says, or refused by what is wrong with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from protocol.errors import Code, WardroundError
from protocol.release import RELEASE
from server.model import checkpoint
from server.model.checkpoint import FORMAT, Checkpoint
from tests.full_disk import disk_of

STUDY = "a" * 64
MADE = Checkpoint(
    study=STUDY,
    round=3,
    attempt=4,
    trainings=4,
    evaluations=1,
    weights=torch.arange(3.0),
    average=None,
    averaged=0,
    optimiser={"state": {}, "param_groups": [{"lr": 0.5, "params": [0]}]},
    control=None,
    lost=[2],
    stopping=(None, None, 0),
    pending=None,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    MADE.save(path)
    return path


def rewritten(path: Path, **changes: Any) -> None:
    """The file as somebody else would have written it; a change to None takes a field away."""
    fields = torch.load(path, weights_only=True) | changes
    torch.save(
        {name: value for name, value in fields.items() if name not in changes or value is not None},
        path,
    )


def refused(path: Path) -> WardroundError:
    with pytest.raises(WardroundError) as caught:
        Checkpoint.load(path, STUDY)
    return caught.value


def test_what_was_saved_is_what_is_loaded(path: Path) -> None:
    found = Checkpoint.load(path, STUDY)
    assert found is not None
    assert torch.equal(found.weights, MADE.weights)
    assert (found.round, found.lost, found.optimiser) == (3, [2], MADE.optimiser)
    assert path.stat().st_mode & 0o077 == 0
    saved = torch.load(path, weights_only=True)
    assert (saved["format"], saved["release"]) == (FORMAT, RELEASE)
    assert Checkpoint.load(path.with_name("none.pt"), STUDY) is None


def test_one_of_the_first_release_is_read_and_a_copy_stays(path: Path) -> None:
    """0.1.0 said neither format nor release."""
    rewritten(path, format=None, release=None)
    older = path.read_bytes()
    found = Checkpoint.load(path, STUDY)
    assert found is not None
    assert (found.round, found.attempt) == (3, 4)
    found.save(path)
    copy = path.with_name("checkpoint.pt.format-1")
    assert copy.read_bytes() == older != path.read_bytes()
    Checkpoint.load(path, STUDY)
    assert copy.read_bytes() == older


def test_an_older_format_goes_through_every_step(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a later release would have it: one field was called otherwise two formats ago."""
    rewritten(path, format=FORMAT, epoch=3, round=None)
    steps = {
        FORMAT: lambda f: f | {"round": f.pop("epoch")},
        FORMAT + 1: lambda f: f | {"lost": []},
    }
    monkeypatch.setattr(checkpoint, "_OLDER", checkpoint._OLDER | steps)
    monkeypatch.setattr(checkpoint, "FORMAT", FORMAT + 2)
    found = Checkpoint.load(path, STUDY)
    assert found is not None
    assert (found.round, found.lost) == (3, [])


def test_one_of_a_newer_release_is_refused_by_its_name(path: Path) -> None:
    rewritten(path, format=FORMAT + 1, release="8.0.1")
    error = refused(path)
    assert error.code is Code.RELEASE
    assert f"format {FORMAT + 1}, of wardround 8.0.1" in error.message
    rewritten(path, format=FORMAT, momentum=1.0)
    error = refused(path)
    assert error.code is Code.RELEASE
    assert "`momentum`" in error.message


@pytest.mark.parametrize(
    "changes", [{"weights": None}, {"format": "two"}, {"format": 0}, {"format": [1]}]
)
def test_what_is_no_checkpoint_is_said_to_be_none(path: Path, changes: dict[str, Any]) -> None:
    rewritten(path, **changes)
    error = refused(path)
    assert error.code is Code.STATE
    assert "Move it away" in error.remedy


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_one_that_was_cut_short_is_said_to_be_unreadable(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    error = refused(path)
    assert error.code is Code.STATE


def test_another_studys_is_refused(path: Path) -> None:
    with pytest.raises(WardroundError, match="another study"):
        Checkpoint.load(path, "b" * 64)


@pytest.mark.parametrize("size", [0, 64, 300_000, 600_000])
def test_a_full_disk_is_said_to_be_one_and_leaves_the_last_checkpoint(
    path: Path, size: int
) -> None:
    """github.com/pytorch/pytorch/issues/10577: torch raises RuntimeError, with the cause lost."""
    large = dataclasses.replace(MADE, round=MADE.round + 1, weights=torch.zeros(150_000))
    before = path.read_bytes()
    with disk_of(size), pytest.raises(OSError, match="too large"):
        large.save(path)
    assert path.read_bytes() == before
    large.save(path)
    assert Checkpoint.load(path, MADE.study).round == large.round  # type: ignore[union-attr]  # it was just saved
