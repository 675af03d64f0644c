"""The event log: whole lines, or none, whatever the disk and the last process did."""

import json
import stat
from pathlib import Path

from server.transport.event_log import EventLog
from tests.full_disk import disk_of


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def test_a_line_that_a_crash_left_unfinished_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    EventLog(path).write("first")
    with path.open("a") as file:
        file.write('{"time": "2026-')
    EventLog(path).write("second")
    assert events(path) == ["first", "second"]


def test_a_disk_that_takes_half_a_line_gets_a_whole_one_later(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    log = EventLog(path)
    log.write("first")
    with disk_of(path.stat().st_size + 20):
        log.write("lost")
        log.write("lost")
        assert log.trouble
    assert events(path) == ["first"]
    log.write("second")
    assert not log.trouble
    assert events(path) == ["first", "events-lost", "second"]


def test_only_its_owner_reads_it_and_it_is_made_again_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    log = EventLog(path)
    log.write("first")
    path.rename(tmp_path / "events.log.1")
    log.write("second")
    assert events(path) == ["second"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
