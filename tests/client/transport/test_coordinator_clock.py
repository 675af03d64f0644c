from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.transport import coordinator_clock
from client.transport.coordinator_clock import CoordinatorClock
from client.transport.fleet_config import FleetConfig
from client.transport.node_key import create_node_key
from server.enrolment.certificates import Pki
from server.transport.superlink import SuperLink, SuperLinkConfig
from tests.narrowing import present
from tests.waiting import NEVER


def test_the_coordinator_says_what_time_it_is_to_a_site_that_it_does_not_know_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pki = Pki(tmp_path / "pki")
    pki.create("Test", ["localhost", "127.0.0.1"])
    other = Pki(tmp_path / "other")
    other.create("Other", ["localhost", "127.0.0.1"])
    create_node_key(tmp_path / "node.key")
    with SuperLink(SuperLinkConfig(pki.certificate, pki.private_key, hold=NEVER)) as link:
        config, impostor = (
            FleetConfig(link.address, by.ca_certificate, tmp_path / "node.key")
            for by in (pki, other)
        )
        clock, before = CoordinatorClock(config), datetime.now(UTC)
        first = present(clock())
        slack = timedelta(minutes=1)  # whole seconds, made anew by an event loop that may be busy
        assert before - slack <= first <= datetime.now(UTC) + slack
        assert CoordinatorClock(impostor)() is None, "by a certificate of another CA"
    assert present(clock()) > first, "not asked again at once"
    monkeypatch.setattr(coordinator_clock, "_AGE", 0.0)
    assert clock() is None, "the coordinator is away"
