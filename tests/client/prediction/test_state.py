"""What was scored and what waits survive together; a destination's pauses grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.prediction.state import LONGEST_PAUSE, PredictionState, deliveries
from protocol.errors import WardroundError
from tests.client.hospital import die, in_child


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path / "state"


@pytest.fixture
def state(folder: Path) -> Iterator[PredictionState]:
    with PredictionState.open(folder) as opened:
        yield opened


def sent(state: PredictionState, destination: str) -> list[bytes]:
    found, number = [], 0
    while (report := state.next_report(destination, number)) is not None:
        found.append(report.content)
        number = report.number
    return found


def test_reports_wait_in_the_order_in_which_they_came(state: PredictionState) -> None:
    state.add("m", ["r1", "r2"], ["PACS", "RIS"], {"9": b"first", "1": b"second"})
    state.add("m", ["r3"], ["PACS"], {"5": b"third", "1": b"again"})
    assert sent(state, "PACS") == [b"first", b"second", b"third"]
    assert sent(state, "RIS") == [b"first", b"second"]
    assert state.due() == ["PACS", "RIS"]
    assert state.scored("m") == {"r1", "r2", "r3"}
    assert state.scored("another") == frozenset()


def killed_on_the_way() -> Iterator[str]:
    """Destinations of which the first is never reached."""
    die()
    yield "PACS"


def test_a_killed_process_leaves_scores_with_reports_or_neither(folder: Path) -> None:
    def work(_: int) -> None:
        with PredictionState.open(folder) as state:
            state.add("m", ["r1"], ["PACS"], {"1": b"whole"})
            state.add("m", ["r2"], killed_on_the_way(), {"2": b"half"})

    signal, said = in_child(work)
    assert signal == 9, said
    with PredictionState.open(folder) as state:
        assert state.scored("m") == {"r1"}
        assert sent(state, "PACS") == [b"whole"]


def test_what_was_taken_is_deleted_and_counted(folder: Path, state: PredictionState) -> None:
    state.add("m", ["r"], ["PACS"], {"1": b"CANARY" * 1000})
    report = state.next_report("PACS")
    assert report is not None
    state.taken(report)
    assert state.due() == []
    (found,) = deliveries(folder).values()
    assert (found.taken, found.waiting) == (1, 0)
    assert str(found) == "1 reports taken, 0 waiting"


def test_pauses_double_to_a_quarter_of_an_hour(state: PredictionState) -> None:
    now = [1000.0]
    state.clock = lambda: now[0]
    state.add("m", ["r"], ["PACS"], {"1": b""})
    pauses = []
    for _ in range(12):
        state.put_off("PACS", "it cannot be reached")
        assert state.due() == []
        begun = now[0]
        while not state.due():
            now[0] += 1
        pauses.append(now[0] - begun)
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == LONGEST_PAUSE
    assert state.deliveries()["PACS"].why == "it cannot be reached"


def test_what_was_given_up_is_kept_and_can_be_sent_again(state: PredictionState) -> None:
    state.add("m", ["r"], ["PACS"], {"1": b"a", "2": b"b"})
    report = state.next_report("PACS")
    assert report is not None
    state.give_up(report, "it refused the report (status C000)")
    assert sent(state, "PACS") == [b"b"]
    assert state.deliveries()["PACS"].given_up == {"it refused the report (status C000)": 1}
    assert state.send_again() == 1
    assert sent(state, "PACS") == [b"a", b"b"]


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / "predictions.db").write_bytes(b"garbage" * 1000)
    (folder / "predictions.db").chmod(0o600)
    with (
        pytest.raises(WardroundError, match=r"predictions\.db"),
        PredictionState.open(folder) as opened,
    ):
        opened.scored("m")
    with pytest.raises(WardroundError, match=r"predictions\.db"):
        deliveries(folder)
