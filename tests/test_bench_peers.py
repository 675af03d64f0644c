"""A peer that does not start is named with a remedy, and its bars do not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import side_by_side
from peers import nvflare
from side_by_side import LARGE, SMALL, Shown, Side


def failing(rounds: int, parameters: int) -> list[float]:
    raise RuntimeError("no port")


def fine(rounds: int, parameters: int) -> list[float]:
    return [float(number) for number in range(rounds)]


def test_a_peer_that_cannot_be_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"NVFlare .*: provision: .*No such file"):
        nvflare._checked("provision", [str(tmp_path / "nvflare"), "provision"])


def test_a_peer_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvflare, "_LONGEST", 0.2)
    with pytest.raises(RuntimeError, match=r"the job did not end in 0\.2 s"):
        nvflare._checked("the job", ["sleep", "20"])


def test_a_peer_that_runs_nothing_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"wardround": Side(0, fine), "NVFlare tuned": Side(0, failing)}
    assert list(side_by_side.warmed(found)) == ["wardround"]
    said = capsys.readouterr().err
    assert "NVFlare is left out: no port" in said
    assert "--environment" in said
    with pytest.raises(RuntimeError, match="no port"):
        side_by_side.warmed({"wardround": Side(0, failing)})


def test_what_was_not_measured_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    ours = Shown([0.1, 0.1], 10, 100, 1.0)
    alone = {("wardround", size): ours for size in (SMALL, LARGE)}
    assert side_by_side.report(4, alone) == [False, False]
    assert "not measured" in capsys.readouterr().err
    theirs = Shown([1.0, 1.0], 100, 1000, 1.0)
    both = alone | {("NVFlare tuned", size): theirs for size in (SMALL, LARGE)}
    assert side_by_side.report(4, both) == [True, True, True]
    few = {("wardround", SMALL): ours, ("NVFlare tuned", SMALL): theirs}
    assert side_by_side.report(4, few) == [True], "a size that was not asked for is no failure"
