"""kill -9 at named points of a real deployment: the ledger never under-counts, the rest goes on.

bench/kill_loop.py does the same at every point, many times.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from protocol.study.study import Study
from tests.client.daemon_federation import Wards, renamed
from tests.client.daemon_process import Daemon
from tests.client.kill_points import POINTS
from tests.waiting import until

VICTIM = "west"
TESTED = (
    "accepted, not said",
    "inside the debit's transaction",
    "debit committed, head not written",
    "computed, not said",
    "ready sent",
    "share noted, not sent",
)


@pytest.fixture(scope="module")
def wards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wards]:
    wards = Wards(tmp_path_factory.mktemp("wards"))
    rest = [wards.daemon(site) for site in wards.sites if site != VICTIM]
    wards.until_online(*(site for site in wards.sites if site != VICTIM))
    yield wards
    statuses = [daemon.stop() for daemon in rest]
    wards.close()
    assert statuses == [0] * len(rest)


@pytest.fixture(scope="module")
def template(wards: Wards) -> Study:
    return wards.study(rounds=3)


def test_the_points_cover_the_protocol() -> None:
    assert len(POINTS) >= 12
    assert set(TESTED) <= set(POINTS)


@pytest.mark.parametrize("point", TESTED)
def test_a_site_killed_here_has_paid_and_the_others_finish(
    wards: Wards, template: Study, point: str
) -> None:
    study = renamed(template, list(POINTS).index(point))
    killed = wards.daemon(VICTIM, point)
    wards.until_online()
    running = wards.run(study)
    assert killed.ended() == -signal.SIGKILL
    wards.verify_books(VICTIM)
    restarted = wards.daemon(VICTIM)
    outcome = running.outcome()
    wards.until_online()
    assert restarted.stop() == 0
    assert outcome.status == "finished"
    assert [report.round for report in running.told.rounds] == [1, 2, 3]
    assert len(running.told.losses) <= 1, "one kill costs one attempt at most"
    for site in wards.sites:
        wards.verify_books(site)


def test_a_restarted_site_takes_part_again(wards: Wards) -> None:
    study = wards.study(rounds=200, spare=20, **{"aggregation.scale": 1024})
    first: Daemon = wards.daemon(VICTIM)
    wards.until_online()
    running = wards.run(study)
    until(lambda: len(running.told.rounds) >= 2, "under way")
    first.process.kill()
    assert first.ended() == -signal.SIGKILL
    back = wards.daemon(VICTIM)
    started = len(back.events())
    until(lambda: any(e["event"] == "sent" for e in back.events()[started:]), "taking part")
    running.cancel()
    assert back.stop() == 0
    wards.verify_books(VICTIM)
