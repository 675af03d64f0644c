"""A Ray cluster that `federation=ray` starts is for the one who runs the study.

Kind of fault: a service on this machine's ports that takes anybody on the machine. Whoever
attaches runs code as the user who runs the study, and sees what the study's workers see. It must
be refused, by Ray's token authentication, or federation=ray must say plainly that it is for
machines with one user only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.federations.ray import RayFederation
from tasks import registry
from tests.attack.simulated import TASK, cohorts, study_of
from tests.waiting import HUNG

_STRANGER = """
import sys
import ray

ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print("attached", flush=True)
"""


def stranger(address: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Another process that attaches to the cluster, ended: an account of its own, as far as
    credentials go, has another home and nothing of this environment. It looks for the cluster on
    the loopback address, where it is."""
    from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR

    home.mkdir()
    env = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    env |= {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0", ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}
    return subprocess.run(
        [sys.executable, "-c", _STRANGER, address],
        cwd=home,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(3 * HUNG)
@pytest.mark.usefixtures("no_other_ray")
def test_a_process_without_credentials_cannot_attach_to_a_studys_cluster(tmp_path: Path) -> None:
    import ray

    patients = cohorts(3)
    study = study_of(patients, "privacy=none", "evaluation=exact", "rounds=1")
    with RayFederation(patients, study, registry.load(TASK), workers=2):
        address = ray.get_runtime_context().gcs_address
        ended = stranger(address, tmp_path / "elsewhere")
    assert "attached" not in ended.stdout
    assert "token authentication is enabled" in ended.stderr
