"""A Ray cluster that nobody without its token can use.

Whoever attaches to a Ray cluster runs code as the user who started it. Our own cluster listens on
this machine's loopback address alone, and takes a token that is drawn for it and ends with it. A
running cluster is used only if it refuses whoever comes without a token.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from protocol.errors import Code, WardroundError

_WORKERS = {
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Environment of the processes that play the sites."""
_ATTEMPTS = 5
_ANSWER = 30.0
"""Seconds for the cluster to refuse a call without a token."""


@contextmanager
def connected(workers: int, address: str | None) -> Iterator[None]:
    """This process as a driver of a Ray cluster; on leaving, a cluster of our own ends.

    workers: CPUs of a cluster of our own. address: a running cluster's instead.

    Raises WardroundError(CREDENTIALS): a running cluster that takes anybody, or refuses this
    process's token.
    """
    import ray
    from ray.exceptions import AuthenticationError

    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    cluster: dict[str, Any] = {"address": address}
    if address is None:
        cluster = {"num_cpus": workers, "include_dashboard": False}
    with _authenticated(own=address is None):
        try:
            _patiently(
                lambda: ray.init(
                    runtime_env={"env_vars": {**_WORKERS, "PYTHONPATH": paths}},
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    **cluster,
                )
            )
            _require_refusal(ray.get_runtime_context().gcs_address)
            yield
        except AuthenticationError:
            raise _unusable("refuses this token, or there is none here") from None
        finally:
            ray.shutdown()


def _patiently(start: Callable[[], object]) -> None:
    """start(), again where Ray gave up on its own processes: after 30 s, whatever the machine has
    to do beside them."""
    import ray

    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            start()
            return
        except Exception as error:  # Ray has no type for it
            if "timed out during startup" not in str(error) or not attempts_left:
                raise
            ray.shutdown()


@contextmanager
def _authenticated(*, own: bool) -> Iterator[None]:
    """Ray's environment: token authentication, and for a cluster of our own a new token and the
    loopback address. Ray has read most of it when it was imported, so that it is told anew."""
    from ray import _raylet
    from ray._private import ray_constants

    core: Any = _raylet  # its stub leaves these names out

    settings = {name: value for name, value in _WORKERS.items() if name.startswith("RAY_")}
    settings["RAY_AUTH_MODE"] = "token"
    if own:
        settings["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        settings[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # loopback, on Linux too
    before = {name: os.environ.get(name) for name in settings}
    clusters = ray_constants.ENABLE_RAY_CLUSTER

    def apply(values: dict[str, str | None], clusters: bool) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        core.Config.initialize("")
        core.AuthenticationTokenLoader.instance().reset_cache()

    apply(dict(settings), clusters and not own)
    try:
        yield
    finally:
        apply(before, clusters)


def _require_refusal(address: str) -> None:
    """Raises WardroundError(CREDENTIALS) unless the cluster's control service (gcs_service.proto of
    Ray) refuses a call without a token."""
    import grpc
    from ray._common.tls_utils import load_certs_from_env

    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        chain, key, authority = load_certs_from_env()
        to_cluster = grpc.secure_channel(
            address, grpc.ssl_channel_credentials(authority, key, chain)
        )
    else:
        to_cluster = grpc.insecure_channel(address)
    with to_cluster as channel:
        try:
            channel.unary_unary("/ray.rpc.InternalKVGcsService/GetInternalConfig")(
                b"", timeout=_ANSWER
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return
    raise _unusable("does not refuse processes that have no token")


def _unusable(why: str) -> WardroundError:
    return WardroundError(
        Code.CREDENTIALS,
        f"The Ray cluster {why}: whoever attaches to one runs code beside the cohort.",
        remedy="Start every node with RAY_AUTH_MODE=token and one token (`ray get-auth-token "
        "--generate`), and give it to this process in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH. Or "
        "leave federation.address out.",
    )
