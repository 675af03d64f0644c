"""How the daemon stands: what status.json, /healthz, /metrics and systemd are told."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from client.config.site_config import SiteConfig
from client.daemon import status
from client.daemon.metrics import Metrics
from client.daemon.status import Status, StatusBoard
from client.daemon.systemd import notify, watchdog_seconds
from client.daemon.watchdog import StatusReporter
from client.enrolment import new_site
from client.enrolment.site_template import SiteAnswers
from client.governance.governance import SiteGovernance
from launch.demo.local_ports import free_port
from protocol.errors import Code, WardroundError
from tests.waiting import HUNG, Calls, until


@pytest.fixture
def board() -> StatusBoard:
    return StatusBoard(Status("north", "c:1", "0", 1, "2026-01-01", "2026-01-01"))


@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    return new_site.init(tmp_path / "north", SiteAnswers("north", epsilon_lifetime=5.0))


@pytest.fixture
def governance(config: SiteConfig) -> Iterator[SiteGovernance]:
    opened = SiteGovernance(config, config.load_identity(), daemon=True)
    yield opened
    opened.close_state()


class Link:
    """A connection as the watch sees it."""

    def __init__(self) -> None:
        self.connected = self.coordinator_paused = False
        self.last_error: WardroundError | None = None


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=HUNG) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_what_is_written_is_read_and_private(tmp_path: Path, board: StatusBoard) -> None:
    board.count("answers", "ready")
    board.count("answers", "ready")
    board.fault(WardroundError(Code.TLS, "No.", remedy="Do."))
    status.write(tmp_path, board.now)
    assert status.read(tmp_path) == board.now
    assert board.now.answers == {"ready": 2}
    assert stat.S_IMODE((tmp_path / status.FILE).stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [status.FILE]


def test_a_damaged_status_is_an_error_with_a_remedy_and_none_is_none(tmp_path: Path) -> None:
    assert status.read(tmp_path) is None
    (tmp_path / status.FILE).write_text('{"site": "nor')
    with pytest.raises(WardroundError) as caught:
        status.read(tmp_path)
    assert caught.value.code == Code.STATE
    assert caught.value.remedy


def test_running_means_that_a_daemon_holds_the_folder(config: SiteConfig) -> None:
    assert not status.running(config.state)
    opened = SiteGovernance(config, config.load_identity(), daemon=True)
    assert status.running(config.state)
    opened.close_state()
    assert not status.running(config.state)


def test_the_watch_tells_of_connection_loss_and_of_the_end(
    config: SiteConfig, board: StatusBoard, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link()
    watch = StatusReporter(config.state, board)
    with caplog.at_level("INFO", logger="wardround.site"), watch:
        watch.connection = link
        link.connected = True
        until(lambda: (s := status.read(config.state)) and s.connected, "the connection is told")
        link.last_error = WardroundError(Code.UNREACHABLE, "Gone.")
        link.connected = False
        until(lambda: (s := status.read(config.state)) and s.last_error, "its loss is told")
    told = status.read(config.state)
    assert told is not None
    assert told.phase == "stopped"
    assert told.last_error is not None
    assert told.last_error.code == "unreachable"
    assert [r.message for r in caplog.records] == ["connected", "not connected"]


def test_health_follows_connection_and_life(
    board: StatusBoard, governance: SiteGovernance, config: SiteConfig
) -> None:
    watch, port = StatusReporter(config.state, board), free_port()
    with Metrics(port, board, governance, watch):
        watch.expect(60)
        assert get(port, "/healthz")[0] == 503, "not connected"
        board.set(connected=True)
        code, body = get(port, "/healthz")
        assert (code, json.loads(body)["connected"]) == (200, True)
        watch.expect(-1)
        assert get(port, "/healthz")[0] == 503, "the loop hangs"
        assert get(port, "/else")[0] == 404


def test_metrics_are_prometheus_text_without_patients(
    board: StatusBoard, governance: SiteGovernance, config: SiteConfig
) -> None:
    board.count("refusals", "refused_policy")
    board.set(debits=7, bytes_sent=12)
    port = free_port()
    with Metrics(port, board, governance, StatusReporter(config.state, board)):
        code, text = get(port, "/metrics")
    assert code == 200
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) .+|[a-z_]+(\{[a-z]+=\"[^\"]*\"(,.*)?\})? \S+", line)
    assert "wardround_site_debits_total 7" in text
    assert 'wardround_site_refusals_total{code="refused_policy"} 1' in text
    assert 'wardround_site_epsilon_cap{delta="1e-05"} 5.0' in text
    assert 'wardround_site_epsilon_spent{delta="1e-05"} 0' in text
    assert "patient" not in text
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


def test_metrics_listen_on_loopback_only_and_refuse_a_taken_port(
    board: StatusBoard, governance: SiteGovernance, config: SiteConfig
) -> None:
    watch = StatusReporter(config.state, board)
    with Metrics(0, board, governance, watch) as first:
        assert first.host == "127.0.0.1"
        with pytest.raises(WardroundError) as caught:
            Metrics(first.port, board, governance, watch)
    assert caught.value.code == Code.PORT_TAKEN
    assert "site.yaml" in caught.value.remedy


def test_systemd_is_told_over_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1", "STATUS=connected")
        assert manager.recv(100) == b"READY=1\nSTATUS=connected"
    notify("WATCHDOG=1")  # the manager is gone: no error
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_the_watchdog_is_this_process_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "120000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_seconds() == 120
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None
    monkeypatch.delenv("WATCHDOG_USEC")
    monkeypatch.delenv("WATCHDOG_PID")
    assert watchdog_seconds() is None


def test_a_hanging_loop_is_not_reported_alive(
    tmp_path: Path, config: SiteConfig, board: StatusBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000")
        reports = Calls(monkeypatch, StatusReporter, "_report")

        def heard() -> list[bytes]:
            messages = []
            with suppress(BlockingIOError):
                while True:
                    messages.append(manager.recv(100))
            return messages

        with StatusReporter(config.state, board) as watch:
            until(lambda: b"WATCHDOG=1" in heard(), "systemd is told")
            watch.expect(-1)
            seen = reports.returned
            until(
                lambda: not heard() and reports.returned >= seen + 2, "what was under way is over"
            )
            heard()
            reports.until_one_more()
            assert heard() == []
