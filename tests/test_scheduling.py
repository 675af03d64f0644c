"""What one worker must run whole, and what comes first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from tests.fast_suite import TESTS
from tests.scheduling import slowest_first, unit

ATTACK, DEPLOYMENT = TESTS / "attack", TESTS / "deployment"
DAEMON = TESTS / "client/daemon/test_daemon.py"
QUICK = TESTS / "protocol/test_address.py"


@dataclass(frozen=True)
class _Item:
    path: Path


def test_a_federation_that_is_kept_running_is_started_by_one_worker() -> None:
    assert unit(ATTACK / "test_wire.py") == unit(ATTACK / "test_roster.py") == ATTACK
    assert unit(DEPLOYMENT / "test_demo.py") == DEPLOYMENT
    assert unit(DAEMON) == DAEMON
    assert unit(QUICK) == QUICK


def test_what_waits_comes_first_and_keeps_its_order() -> None:
    items = [_Item(path) for path in (QUICK, DAEMON, ATTACK / "test_wire.py", DAEMON)]
    slowest_first(cast(list[pytest.Item], items))
    assert [item.path for item in items] == [ATTACK / "test_wire.py", DAEMON, DAEMON, QUICK]
