"""No write that fails ends a coordinator or a study: it waits, says so, and goes on by itself."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch.federations.deployment import RemoteFederation
from protocol.errors import Code, WardroundError
from protocol.study.states import StudyState
from server.coordinator import setup, storage
from server.coordinator.journal import Journal
from server.coordinator.storage import Storage
from server.coordinator.study_transport import StudySuspendedError
from server.outcome import Outcome
from tests.failing_disk import FAULTS, disk
from tests.server.coordinator.test_coordinator import Noted
from tests.server.hospitals import Deployment, deployed, study_of
from tests.waiting import until

SUBMITTING = {
    f"state/studies/.new-N{end}"
    for end in ("", "/study.json", "/submission.json", "/configuration.json", "/events.jsonl")
}
"""Written while somebody submits a study, who is told that it could not be stored."""
RUNNING = {
    "state/events.log",
    "state/status.json",
    "state/studies/N/events.jsonl",
    "state/studies/N/accepted.json",
    "state/studies/N/attempts.json",
    "state/studies/N/checkpoint.pt",
    "state/studies/N/untold.json",
    "state/studies/N/weights.fN",
    "state/studies/N/summary.json",
}
"""Written by the service and by a study's thread."""
_seeds = iter(range(1, 1000))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployment")) as deployment:
        deployment.connect()
        until(lambda: len(deployment.coordinator.link.online()) == 4, "online")
        yield deployment


@pytest.fixture(scope="module")
def alice(here: Deployment) -> Iterator[RemoteFederation]:
    with here.account("alice") as federation:
        yield federation


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "RETRY", 0.02)
    monkeypatch.setattr("server.coordinator.service._STATUS_INTERVAL", 0.0)


def ran(alice: RemoteFederation) -> Outcome:
    study, configuration = study_of(alice.patients(), "rounds=2", f"seed={next(_seeds)}")
    return alice.run(study, configuration, None, Noted())


def test_these_are_all_the_files_that_a_coordinator_writes(
    here: Deployment, alice: RemoteFederation
) -> None:
    with disk(here.config.folder) as watched:
        assert ran(alice).status == "finished"
        until(lambda: "state/status.json" in watched.written, "the status is written")
    assert watched.written == SUBMITTING | RUNNING


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", sorted(RUNNING))
def test_a_failing_write_ends_neither_the_service_nor_a_study(
    here: Deployment, alice: RemoteFederation, name: str, fault: int
) -> None:
    study, configuration = study_of(alice.patients(), "rounds=2", f"seed={next(_seeds)}")
    digest = alice.submit(study, configuration)
    with disk(here.config.folder, name, fault) as watched:
        until(
            lambda: watched.failed.is_set() or alice.study(digest)["state"] == "finished",
            "the disk has failed",
        )
        row = alice.study(digest)
    in_its_folder = name.startswith("state/studies")
    if watched.failed.is_set() and in_its_folder:
        assert StudyState(row["state"]).works
        assert row["paused"] == os.strerror(fault)
    until(lambda: alice.study(digest)["state"] == "finished", "the study goes on by itself")
    assert not alice.study(digest)["paused"]
    assert {e["round"] for e in alice.events(digest) if e["type"] == "round"} == {1, 2}
    assert ran(alice).status == "finished"


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", sorted(SUBMITTING))
def test_whoever_submits_is_told_that_the_disk_is_full(
    here: Deployment, alice: RemoteFederation, name: str, fault: int
) -> None:
    study, configuration = study_of(alice.patients(), "rounds=1", f"seed={next(_seeds)}")
    with disk(here.config.folder, name, fault), pytest.raises(WardroundError) as caught:
        alice.submit(study, configuration)
    assert caught.value.code is Code.STATE
    assert os.strerror(fault) in caught.value.message
    assert caught.value.remedy
    assert alice.run(study, configuration, None, Noted()).status == "finished"


def test_a_pause_is_told_in_the_status_the_log_and_to_the_sites(
    here: Deployment, alice: RemoteFederation
) -> None:
    study, configuration = study_of(alice.patients(), "rounds=2", f"seed={next(_seeds)}")
    sites = here.hospitals.connections
    with disk(here.config.folder, "state/studies/N/checkpoint.pt"):
        digest = alice.submit(study, configuration)
        until(lambda: row_of(here, digest).get("paused"), "the status says so")
        until(lambda: all(site.coordinator_paused for site in sites), "the sites are told")
    until(lambda: alice.study(digest)["state"] == "finished", "it goes on")
    until(lambda: not row_of(here, digest).get("paused"), "the status says that too")
    until(lambda: not any(site.coordinator_paused for site in sites), "and so do the sites")
    log = [json.loads(line) for line in here.config.event_log.read_text().splitlines()]
    said = [e["event"] for e in log if e.get("study") == digest[:12]]
    assert said.count("study-paused") == said.count("study-resumed") == 1


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("word", ["cancelled", "paused"])
def test_whoever_stops_a_study_is_told_that_the_disk_is_full(
    here: Deployment, alice: RemoteFederation, word: str, fault: int
) -> None:
    """The study goes on meanwhile, and stops once the wish has been written."""
    study, configuration = study_of(alice.patients(), "rounds=500", f"seed={next(_seeds)}")
    digest = alice.submit(study, configuration)
    stop: Callable[[str], object] = alice.cancel if word == "cancelled" else alice.pause
    with disk(here.config.folder, f"state/studies/N/{word}", fault) as watched:
        with pytest.raises(WardroundError) as caught:
            stop(digest)
        if word == "cancelled":
            with pytest.raises(OSError, match=os.strerror(fault)):
                setup.cancel(here.config, digest)  # as the operator
        assert watched.failures
    assert caught.value.code is Code.STATE
    assert os.strerror(fault) in caught.value.message
    assert caught.value.remedy
    assert StudyState(alice.study(digest)["state"]).works
    stop(digest)
    until(lambda: alice.study(digest)["state"] == word, "it stops")
    assert ran(alice).status == "finished"


def row_of(here: Deployment, digest: str) -> dict[str, object]:
    rows = setup.status(here.config)["studies"]
    return next((row for row in rows if row["study"] == digest), {})


def test_a_status_that_is_not_written_any_longer_says_so(here: Deployment) -> None:
    path = here.config.state / "status.json"
    with disk(here.config.folder, "state/status.json") as watched:
        assert watched.failed.wait()
        old = time.time() - 100
        os.utime(path, (old, old))
        assert "disk" in setup.status(here.config)["failing"]["status"]
    until(lambda: not setup.status(here.config)["failing"], "it is written again")


def test_a_suspended_study_does_not_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def suspended() -> None:
        raise StudySuspendedError

    def full() -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(StudySuspendedError):
        Storage(suspended, lambda why: None).write(full)


def test_no_log_raises(tmp_path: Path) -> None:
    with (tmp_path / "console").open("w") as console:
        journal = Journal(tmp_path / "events.log", console=console)
        with disk(tmp_path, "events.log"):
            for _ in range(3):
                journal.write("something")
        assert journal.trouble == os.strerror(errno.ENOSPC)
        journal.write("more")
        assert not journal.trouble
    journal.write("nobody reads the console")
    said = [json.loads(line) for line in (tmp_path / "events.log").read_text().splitlines()]
    assert [event["event"] for event in said] == [
        "events-lost",
        "more",
        "nobody reads the console",
    ]
    assert said[0]["count"] == 3
    assert "No space left" in (tmp_path / "console").read_text()


def test_a_study_whose_thread_could_not_start_starts_later(
    here: Deployment, alice: RemoteFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = threading.Thread.start, threading.Event()

    def full(thread: threading.Thread) -> None:
        if thread.name.startswith("study-") and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", full)
    assert ran(alice).status == "finished"
    assert refused.is_set()
