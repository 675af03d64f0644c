"""Ray clusters: our own is for this machine and this study; a running one must ask for a token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from launch.federations.ray_cluster import _patiently, connected
from protocol.errors import Code, WardroundError
from tests.waiting import HUNG

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3 * HUNG),
    pytest.mark.usefixtures("no_other_ray"),
]
_RUNNING = """
import sys
import ray

for attempt in range(5):  # Ray waits for 30 s, too short on a busy machine
    try:
        ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR")
        break
    except Exception:
        ray.shutdown()
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def running(home: Path, **settings: str) -> Iterator[str]:
    """The address of somebody's Ray cluster, a process with these environment variables."""
    home.mkdir()
    clean = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    with subprocess.Popen(
        [sys.executable, "-c", _RUNNING],
        env={**clean, "HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0", **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address, "the other cluster did not start"
            yield address
        finally:
            assert process.stdin is not None
            process.stdin.close()


TOKEN = "5" * 64


@pytest.fixture(scope="module")
def guarded(no_other_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster that takes nobody without TOKEN."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with running(tmp_path_factory.mktemp("guarded") / "home", **token) as address:
        yield address


@pytest.mark.parametrize(
    ("fails", "told", "starts"),
    [
        (2, "The current node timed out during startup.", 3),
        (1, "no disk", 1),
        (9, "timed out during startup", 5),
    ],
)
def test_a_start_that_ray_gave_up_on_is_tried_again(fails: int, told: str, starts: int) -> None:
    tried = []

    def start() -> None:
        tried.append(1)
        if len(tried) <= fails:
            raise Exception(told)

    with nullcontext() if starts > fails else pytest.raises(Exception, match=told):
        _patiently(start)
    assert len(tried) == starts


def test_our_own_cluster_has_a_new_token_and_listens_on_the_loopback_address() -> None:
    import ray

    tokens, before = [], dict(os.environ)
    for _ in range(2):
        with connected(1, None):
            assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
            tokens.append(os.environ["RAY_AUTH_TOKEN"])
        assert "RAY_AUTH_TOKEN" not in set(os.environ) - set(before)
    assert len(set(tokens)) == 2


def test_a_cluster_that_takes_anybody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with (
        running(tmp_path / "elsewhere") as address,
        pytest.raises(WardroundError, match="does not refuse") as refused,
        connected(1, address),
    ):
        pytest.fail("a cluster that takes anybody is used")
    assert refused.value.code is Code.CREDENTIALS
    assert "RAY_AUTH_MODE=token" in refused.value.remedy


def test_a_cluster_with_our_token_is_used(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with connected(1, guarded):
        assert ray.get_runtime_context().gcs_address == guarded


def test_without_a_token_a_running_cluster_is_refused(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with (
        pytest.raises(WardroundError, match="refuses this token, or there is none"),
        connected(1, guarded),
    ):
        pytest.fail("a cluster is used without its token")
