"""No write that fails ends a site: its answer is a refusal, its report is a line in the log.

(What the ledger cannot write does not leave the site at all: tests/client/governance.)
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

import numpy as np
import pytest

from client.cohorts.feature_cache import features_of
from client.daemon import status, systemd
from client.daemon.status import Status, StatusBoard
from client.daemon.watchdog import StatusReporter
from client.data.stored_rows import StoredRows
from protocol.study.study import Study
from tasks import registry
from tests.cases.real_federation import WORDS, Federation, Hospital
from tests.client.daemon.test_status import Link
from tests.failing_disk import FAULTS, disk
from tests.waiting import until

WRITTEN = {
    "state/answers",
    "state/answers/N",
    "state/composed.sqlite",
    "state/kept",
    "state/kept/N",
    "state/kept/N/proposed-N.npy",
    "state/kept/N/figures.json",
    "state/kept/N/personal.npy",
    "state/personal",
    "state/personal/N",
    "state/personal/N/study.json",
}
LEDGER = {"state/head.json"}
_numbers = count()


@pytest.fixture
def board() -> StatusBoard:
    return StatusBoard(Status("north", "c:1", "0", 1, "2026-01-01", "2026-01-01"))


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("federation") / "of") as made:
        made.start()
        for name in made.names:
            Hospital(made, name)
        made.online(4)
        yield made


def submit(federation: Federation) -> str:
    words = (*WORDS, "algorithm=ditto", "rounds=2", "aggregation.spare_attempts=8")
    study, configuration = federation.study(federation.patients(), *words)
    study = Study.model_validate(study.model_dump() | {"title": f"study {next(_numbers)}"})
    return federation.submit(study, configuration)


def test_these_are_all_the_files_that_a_study_writes_at_a_site(federation: Federation) -> None:
    with disk(federation.base / "north") as watched:
        end = federation.wait_end(submit(federation))
        assert end["type"] == "finished", end
        until(lambda: "state/personal/N/study.json" in watched.written, "the study is closed")
    assert watched.written == WRITTEN | LEDGER


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), zip(sorted(WRITTEN), cycle(FAULTS)))
def test_a_site_outlives_a_failing_write(federation: Federation, name: str, fault: int) -> None:
    with disk(federation.base / "north", name, fault) as watched:
        digest = submit(federation)
        until(lambda: watched.failures or federation.end(digest), "the disk fails")
    federation.wait_end(digest)
    north = next(site for site in federation.hospitals if site.name == "north")
    assert north._thread.is_alive()
    assert federation.wait_end(submit(federation))["type"] == "finished"


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
def test_a_status_that_cannot_be_written_is_written_later(
    tmp_path: Path, board: StatusBoard, caplog: pytest.LogCaptureFixture, fault: int
) -> None:
    with caplog.at_level("INFO", logger="wardround.site"), StatusReporter(tmp_path, board) as watch:
        with disk(tmp_path, status.FILE, fault) as watched:
            assert watched.failed.wait()
        until(lambda: status.read(tmp_path), "it is written")
        assert watch._thread.is_alive()
    said = [(record.message, getattr(record, "why", None)) for record in caplog.records]
    assert said == [("not written", os.strerror(fault)), ("written again", None)]


def test_a_paused_coordinator_is_told_to_the_operator(
    tmp_path: Path, board: StatusBoard, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link()
    with caplog.at_level("INFO", logger="wardround.site"), StatusReporter(tmp_path, board) as watch:
        watch.connection = link
        for paused in (True, False):
            link.coordinator_paused = paused
            until(
                lambda: (now := status.read(tmp_path)) and now.coordinator_paused is paused,  # noqa: B023 (called within the loop)
                "the status says so",
            )
    assert [r.message for r in caplog.records] == ["coordinator paused", "coordinator goes on"]


def test_without_a_file_for_a_socket_the_service_manager_is_told_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setenv("NOTIFY_SOCKET", "/run/nobody")
    monkeypatch.setattr(socket, "socket", full)
    systemd.notify("WATCHDOG=1")


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
def test_features_that_cannot_be_kept_are_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    from tasks.models import backbone

    flat = np.ones((5, backbone.WIDTH), np.float32)
    monkeypatch.setattr(backbone, "features", lambda pictures: flat)
    task = registry.load("chest_xray", {"model": "backbone"})
    pictures = np.ones((5, 28, 28), np.uint8)
    made = task.features({"radiograph": pictures})
    table = {"radiograph": StoredRows.all_of(pictures)}
    with disk(tmp_path, "*", fault) as watched:
        assert np.array_equal(features_of(tmp_path, task, table), made)
    assert watched.failures
