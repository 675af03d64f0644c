"""One set of hospitals for all attacks: they are processes, and take a while to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from launch.demo.local_ports import free_port
from protocol.wire.messages import Standing
from tests.attack.hostile import Hostile
from tests.attack.sites import SITES, Ring
from tests.narrowing import instance


@pytest.fixture(scope="session")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    made = Ring(tmp_path_factory.mktemp("ring"), free_port())
    try:
        made.start(*SITES)
        made.until_online()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def hostile(ring: Ring) -> Hostile:
    """A study with noise, which any three of the four sites may carry out."""
    study, _ = ring.study(
        "privacy=distributed",
        "privacy.epsilon=20",
        "privacy.sampling_rate=0.5",
        "rounds=4",
        "aggregation.spare_attempts=80",
        "evaluation.every=2",
    )
    attacker = Hostile(ring, study)
    replies = attacker.propose()
    states = {site: instance(Standing, reply.message).state for site, reply in replies.items()}
    assert states == dict.fromkeys(SITES, "accepted")
    return attacker
