"""A study's events: what comes out is what went in, also after a crash, and nothing else fits."""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, WardroundError
from protocol.outcomes.binary import METRICS
from protocol.outcomes.estimates import Estimate
from server.coordinator.study_events import (
    error_from_json,
    error_to_json,
    outcome_from_json,
    outcome_to_json,
    report_from_json,
    report_to_json,
)
from server.coordinator.study_log import StudyLog
from server.outcome import RoundReport
from tests.server.outcomes import outcome, study
from tests.waiting import HUNG, NEVER

FIGURE = st.floats(allow_nan=False, allow_infinity=False)
REPORTS = st.builds(
    RoundReport,
    round=st.integers(1, 10**5),
    attempt=st.integers(1, 10**5),
    participants=st.integers(1, 1000),
    seconds=FIGURE,
    bytes_sent=st.integers(0, 2**60),
    bytes_received=st.integers(0, 2**60),
    epsilon=st.none() | FIGURE,
    metrics=st.dictionaries(
        st.sampled_from(sorted(METRICS)), st.builds(Estimate, FIGURE, FIGURE, FIGURE)
    ),
)


@given(REPORTS)
def test_a_report_survives_the_wire(report: RoundReport) -> None:
    assert report_from_json(json.loads(json.dumps(report_to_json(report)))) == report


def test_a_figure_that_is_not_finite_becomes_null_and_nan() -> None:
    wrong = Estimate(math.inf, math.nan, 0.5)
    sent = json.dumps(report_to_json(RoundReport(1, 1, 3, 0.1, 1, 1, None, {"auc": wrong})))
    assert json.loads(sent)["metrics"]["auc"] == {"value": None, "low": None, "high": 0.5}
    found = report_from_json(json.loads(sent)).metrics["auc"]
    assert math.isnan(found.value)
    assert found.high == 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"auc_of_north": {"value": 1, "low": 1, "high": 1}}},
        {"round": None},
        {"metrics": 1},
    ],
)
def test_what_is_no_aggregate_is_refused(change: dict[str, object]) -> None:
    plain = report_to_json(RoundReport(1, 1, 3, 0.1, 1, 1, None, {}))
    with pytest.raises(WardroundError) as refused:
        report_from_json(plain | change)
    assert refused.value.code is Code.MESSAGE


def test_an_outcome_survives_the_wire() -> None:
    sent = outcome(study())
    plain = json.loads(json.dumps(outcome_to_json(sent)))
    found = outcome_from_json(plain, sent.study, sent.rounds, sent.weights)
    np.testing.assert_array_equal(found.weights, sent.weights)
    for name in ("status", "metrics", "epsilon", "epsilon_broken", "uncovered", "calibration"):
        assert repr(getattr(found, name)) == repr(getattr(sent, name))  # NaN is not itself


def test_an_error_keeps_its_code_message_and_remedy() -> None:
    error = error_from_json(error_to_json(WardroundError(Code.DIVERGED, "It did.", remedy="Less.")))
    assert (error.code, error.message, error.remedy) == (Code.DIVERGED, "It did.", "Less.")
    assert error_from_json({"code": "of-a-later-version"}).code is Code.INTERNAL


def test_events_are_numbered_and_read_from_anywhere(tmp_path: Path) -> None:
    log = StudyLog(tmp_path / "events.jsonl")
    for number in range(10):
        log.append("lost", round=number)
    for after in range(11):
        found = [json.loads(line) for line in log.lines(after)]
        assert [event["n"] for event in found] == list(range(after + 1, 11))
    assert [json.loads(line)["n"] for line in log.lines(3, most=2)] == [4, 5]
    assert log.lines(99) == []


@given(cut=st.integers(1, 60))
def test_a_line_that_a_crash_cut_off_is_written_anew(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    log = StudyLog(path)
    log.append("started")
    log.append("lost", round=1, attempt=1, why="a reason of some length, so that it can be cut")
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    again = StudyLog(path)
    assert (len(again), again.last_type) == (1, "started")
    again.append("finished")
    assert [json.loads(line)["n"] for line in path.read_bytes().splitlines()] == [1, 2]
    assert again.ended


def test_who_waits_is_woken_by_another_thread_and_by_the_end(tmp_path: Path) -> None:
    log = StudyLog(tmp_path / "events.jsonl")

    async def woken_by(do: Callable[[], None]) -> None:
        waiting = asyncio.create_task(log.wait(len(log), NEVER))
        await asyncio.sleep(0)
        assert len(log._waiting) == 1
        await asyncio.get_running_loop().run_in_executor(None, do)
        await asyncio.wait_for(waiting, HUNG)

    asyncio.run(woken_by(lambda: log.append("started")))
    asyncio.run(woken_by(log.close))
    assert log.closed


@pytest.mark.parametrize("torn", [b'{"n": 3, "ty', b"\0" * 40, b"\0" * 40 + b"\n", b'{"n": 3}\n'])
def test_what_a_power_cut_left_of_the_last_event_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "events.jsonl"
    log = StudyLog(path)
    log.append("submitted")
    log.append("started")
    with path.open("ab") as file:
        file.write(torn)
    log = StudyLog(path)
    assert (len(log), log.last_type) == (2, "started")
    log.append("finished")
    assert [json.loads(line)["n"] for line in path.read_bytes().splitlines()] == [1, 2, 3]


def test_an_event_before_the_last_that_is_damaged_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    StudyLog(path).append("submitted")
    path.write_bytes(b"\0\0\n" + path.read_bytes())
    with pytest.raises(ValueError, match="damaged"):
        StudyLog(path)


def test_half_of_an_event_is_gone_before_the_next_is_written(tmp_path: Path) -> None:
    """The disk took half of a line and then not even its removal."""
    path = tmp_path / "events.jsonl"
    log = StudyLog(path)
    log.append("submitted")
    with path.open("ab") as file:
        file.write(b'{"n": 2, "typ')
    log.append("started")
    assert [json.loads(line)["type"] for line in log.lines(0)] == ["submitted", "started"]
