"""A coordinator that restarts goes on with the shares it stored, or says that they are lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from server.rounds.exact_run import SHARES, ExactRun
from tests.attack.test_exact_oracle import Coordinator


def restarted(coordinator: Coordinator, path: Path) -> ExactRun:
    return ExactRun(coordinator.study, coordinator.roster, path, lambda write: write())


def test_an_analysis_goes_on_where_it_was_and_asks_for_no_sum_twice(tmp_path: Path) -> None:
    coordinator, path = Coordinator(), tmp_path / SHARES
    coordinator.run = restarted(coordinator, path)
    taken = 0
    while not coordinator.run.over:
        before = coordinator.run.past
        coordinator.run = restarted(coordinator, path)
        assert coordinator.run.past == before
        assert coordinator.run.round == taken + 1
        coordinator.run.take(coordinator.sum())
        taken += 1
    resumed = restarted(coordinator, path)
    assert resumed.over
    assert resumed.result() == coordinator.run.result()
    assert coordinator.made == taken


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_shares_that_are_not_as_they_were_stored_are_not_gone_on_with(
    tmp_path: Path, damage: str
) -> None:
    coordinator, path = Coordinator(), tmp_path / SHARES
    coordinator.run = restarted(coordinator, path)
    coordinator.run.take(coordinator.sum())
    stored = path.read_bytes()
    if damage == "cut":
        path.write_bytes(stored[:-100])
    else:
        at = stored.index(b'"words":"') + 20
        other = b"A" if stored[at : at + 1] != b"A" else b"B"
        path.write_bytes(stored[:at] + other + stored[at + 1 :])
    with pytest.raises(WardroundError) as caught:
        restarted(coordinator, path)
    assert caught.value.code is (Code.STATE if damage == "cut" else Code.IDENTITY)
    assert caught.value.remedy
