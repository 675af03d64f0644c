"""A stranger without credentials does not end the service.

Kind of fault: no bound on connections that have not shown a key, and housekeeping that is fatal
when it fails.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.security.besieged import Besieged, descriptors_for_strangers

_FILES = 1024
"""What the coordinator may open, as service managers set it."""
_CONNECTIONS = 1100


@pytest.mark.slow
def test_a_coordinator_outlives_more_connections_than_it_may_open_files(tmp_path: Path) -> None:
    with descriptors_for_strangers(8192) as allowed:
        if allowed < _CONNECTIONS + 200:
            pytest.skip("this process itself may not open as many connections")
        with Besieged(tmp_path, _FILES) as coordinator:
            coordinator.hold(_CONNECTIONS, seconds=20)
            assert coordinator.afterwards() == "lives and answers"
