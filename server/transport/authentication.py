"""Flower's node authentication, checked before a request's body is read.

The rules are Flower's own (flwr.superlink.routers.fleet.node_auth): the ECDSA signature of a
timestamp at most 305 s old, by a key on the allow-list, which must be the key of the node that
the body names. Flower reads the body first; here an outsider cannot make the coordinator read
anything but a header. A refusal states its reason, so that a site's operator can correct it; an
outsider learns nothing new from it.
"""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

import datetime
from base64 import b64decode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from protocol.errors import WardroundError
from protocol.untrusted import parsing
from protocol.wire.flower_version import FLOWER_VERSION, FLOWER_WIRE, require_flower

require_flower()

from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_PACKAGE_VERSION_METADATA_KEY,
)
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature

from server.transport.link_state import FleetState


class CallRefusedError(Exception):
    """A call that is turned away; `reason` is one of `protocol.wire.flower_encoding.REFUSED`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def authenticate(headers: Mapping[str, str], state: FleetState) -> tuple[int, bytes]:
    """Header fields -> (node id, public key) of a registered node. Raises CallRefusedError(401)."""
    try:
        with parsing("A signature is malformed."):
            public_key = b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
            signature = b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER], validate=True)
            timestamp = headers[TIMESTAMP_HEADER]
            age = (now() - datetime.datetime.fromisoformat(timestamp)).total_seconds()
            signed = timestamp.encode("ascii")
    except WardroundError:
        raise CallRefusedError(401, "form") from None
    node_id = state.get_node_id_by_public_key(public_key)
    if node_id is None:
        raise CallRefusedError(401, "key")
    if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
        raise CallRefusedError(401, "clock")
    if not _signed_by(public_key, signed, signature):
        raise CallRefusedError(401, "signature")
    return node_id, public_key


def check_version(headers: Mapping[str, str]) -> None:
    """Refuses a peer of a Flower release with other messages, or one that does not say.

    Raises CallRefusedError(412).
    """
    if headers.get(FLWR_PACKAGE_VERSION_METADATA_KEY) not in (FLOWER_WIRE, FLOWER_VERSION):
        raise CallRefusedError(412, "version")


def check_named_node(request: object, node_id: int, public_key: bytes) -> None:
    """The body must speak for the node whose key signed the call. Raises CallRefusedError(401)."""
    if isinstance(request, RegisterNodeFleetRequest | ActivateNodeRequest):
        if request.public_key != public_key:
            raise CallRefusedError(401, "key")
        return
    node: Any = getattr(request, "node", request)
    if node.node_id != node_id:
        raise CallRefusedError(401, "node")


@lru_cache(maxsize=4096)
def _signed_by(public_key: bytes, signed: bytes, signature: bytes) -> bool:
    """A signature stays good for its window, in Flower too: the same one is checked once.

    The age of its timestamp is checked on every call, outside of this cache.
    """
    try:
        with parsing("A signature is malformed."):
            return verify_signature(bytes_to_public_key(public_key), signed, signature)
    except WardroundError:
        return False
