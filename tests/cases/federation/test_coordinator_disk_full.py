"""A coordinator outlives a disk that is full for a few seconds, and so do its studies.

The disk fills up in mid-study and has room again five seconds later. The coordinator must stay up,
and the study go on, by itself or once it is submitted again. The kind of fault: a full disk is
fatal where it should be a state.

The coordinator is a process of its own here, so that its files alone can be limited: every write
beyond the first 64 bytes of a file fails, for which no root is needed.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from launch.demo.child_process import script
from protocol.errors import WardroundError
from server.coordinator.setup import status
from tests.cases.real_federation import SITES, WORDS, Federation, Hospital
from tests.forked import Python
from tests.waiting import until

LIMIT = 64
"""Bytes of a file that can be written while the disk is full."""
FULL = 5.0
"""Seconds."""


@contextmanager
def coordinator_process(folder: Path) -> Iterator[Python]:
    """`wardround coordinator start`; its words go nowhere, since a file would be limited too."""
    nowhere = Path(os.devnull)
    words = [script("wardround"), "coordinator", "start", str(folder)]
    process = Python(words, folder, nowhere, nowhere)
    try:
        yield process
    finally:
        try:
            process.stop()
        finally:
            process.kill()


def online(federation: Federation) -> set[str]:
    """Who is connected, as `wardround coordinator status` says."""
    sites = status(federation.config)["sites"]
    return {name for name, site in sites.items() if site["online"]}


def lives(process: Python, seconds: float) -> bool:
    """Whether the process is still there after so many seconds; it is told at once when not."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_coordinator_outlives_a_full_disk(tmp_path: Path) -> None:
    with (
        Federation(tmp_path / "federation") as federation,
        coordinator_process(federation.config.folder) as process,
    ):
        until(lambda: bool(status(federation.config)["running"]), "the coordinator runs")
        for name in federation.names:
            Hospital(federation, name)
        until(lambda: online(federation) == set(SITES), "four sites online")
        study, configuration = federation.study(
            federation.patients(), *WORDS, "rounds=200", "evaluation.every=200"
        )
        digest = federation.submit(study, configuration)
        if not federation.wait_round(digest, 3):
            raise RuntimeError("the study did not get to its third round")
        limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (LIMIT, limits[1]))
        if lives(process, FULL):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        alive = lives(process, 3.0)
        at = federation.rounds(digest)
        if alive:
            with suppress(WardroundError), federation.remote() as remote:
                if remote.study(digest)["state"] != "running":
                    federation.submit(study, configuration)
            federation.wait_round(digest, at + 3)
        end = federation.end(digest)  # on a quick machine it may be over by now
        on = federation.rounds(digest) > at or (end is not None and end["type"] == "finished")
    seen = f"the coordinator {'lives' if alive else 'ended'}, the study "
    seen += f"{'goes on' if on else 'stands'} after round {at}"
    assert alive, seen
    assert on, seen
