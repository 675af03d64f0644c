"""What governance does is seen on the status board and in the log, and nothing of it is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from client.daemon.observer import Observer
from client.daemon.status import Status, StatusBoard
from client.governance.notices import Answered, Closed, Debited, Proposed, Refused
from client.log_events import LOGGER
from protocol.errors import Code, WardroundError
from tests.client.hospital import study

ONE = study()
READY = Answered(ONE.digest, "ready", 2, 3, 412)
SHARE = Answered(ONE.digest, "share", 2, 3, 1000)


@pytest.fixture
def board() -> StatusBoard:
    return StatusBoard(Status("north", "c:1", "0", 1, "2026-01-01", "2026-01-01", phase="idle"))


@pytest.fixture
def observer(board: StatusBoard) -> Observer:
    return Observer(board)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """Events since the last call, with the keys that this program gives them."""
    caplog.set_level(logging.DEBUG, logger=LOGGER)
    standard = set(vars(logging.makeLogRecord({}))) | {"message"}

    def take() -> list[dict[str, Any]]:
        found = [
            {"event": record.getMessage()}
            | {k.removesuffix("_"): v for k, v in vars(record).items() if k not in standard}
            for record in caplog.records
        ]
        caplog.clear()
        return found

    return take


def shown(board: StatusBoard, *names: str) -> tuple[Any, ...]:
    now = asdict(board.now)
    return tuple(now[name] for name in names)


def test_a_standing_is_logged_when_it_changes(
    observer: Observer, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    for standing, code in (("waiting", None), ("refused", Code.REFUSED_POLICY)):
        for _ in range(3):  # a coordinator asks again and again
            observer(Proposed(ONE, standing, code))  # type: ignore[arg-type]  # parametrised words
        (line,) = logged()
        assert line["event"] == "study"
        assert (line["study"], line["title"]) == (ONE.digest, ONE.title)
        assert (line["standing"], line["code"]) == (standing, code)


def test_an_attempt_is_followed_from_debit_to_share(
    observer: Observer, board: StatusBoard, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    place = {"study": ONE.digest, "round": 2, "attempt": 3}
    observer(Debited(ONE, 2, 3))
    assert shown(board, "phase", "study", "title", "round", "attempt", "debits") == (
        "training",
        ONE.digest,
        ONE.title,
        2,
        3,
        1,
    )
    assert board.now.rounds == ONE.optimisation.rounds
    assert not observer.owes_share
    observer(READY)
    assert shown(board, "phase", "bytes_sent") == ("summing", 412)
    assert observer.owes_share
    observer(SHARE)
    assert shown(board, "phase", "bytes_sent") == ("idle", 1412)
    assert board.now.answers == {"ready": 1, "share": 1}
    assert not observer.owes_share
    assert logged() == [
        {"event": "debited", **place},
        {"event": "sent", "kind": "ready", "bytes": 412, **place},
        {"event": "sent", "kind": "share", "bytes": 1000, **place},
    ]


def test_the_next_debit_or_the_end_of_the_study_ends_what_is_owed(
    observer: Observer, board: StatusBoard, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    observer(Proposed(ONE, "accepted", None))
    for end in (Debited(ONE, 2, 4), Closed(ONE, "failed")):
        observer(READY)
        assert observer.owes_share
        observer(end)
        assert not observer.owes_share
    assert shown(board, "phase", "study", "title", "round", "attempt") == (
        ("idle", None, None, None, None)
    )
    assert logged()[-1] == {"event": "closed", "study": ONE.digest, "outcome": "failed"}
    observer(Proposed(ONE, "accepted", None))
    assert len(logged()) == 1, "a study that has ended is logged anew"


def test_a_refusal_is_counted_and_leaves_an_attempt_in_hand(
    observer: Observer, board: StatusBoard
) -> None:
    observer(Debited(ONE, 2, 3))
    observer(READY)
    observer(Refused(None, WardroundError(Code.REFUSED_REPLAY, "Not above the last one.")))
    assert board.now.refusals == {"refused_replay": 1}
    assert board.now.last_error is not None
    assert board.now.last_error.code == "refused_replay"
    assert board.now.phase == "summing"
    assert observer.owes_share
    observer(Debited(ONE, 2, 4))
    observer(Refused(ONE.digest, WardroundError(Code.DIVERGED, "It could not be computed.")))
    assert board.now.phase == "idle"


def test_several_studies_are_followed_at_once(observer: Observer, board: StatusBoard) -> None:
    other = study(title="Another study")
    observer(Debited(ONE, 2, 3))
    observer(Debited(other, 1, 1))
    observer(READY)
    assert (board.now.phase, board.now.study) == ("training", other.digest)
    observer(Answered(other.digest, "ready", 1, 1, 1))
    assert board.now.phase == "summing"
    observer(Answered(other.digest, "share", 1, 1, 1))
    assert observer.owes_share, "the first study's sum"
    observer(Closed(ONE, "failed"))
    assert not observer.owes_share
    assert board.now.study == other.digest
