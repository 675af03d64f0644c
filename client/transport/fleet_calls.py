"""One signed call of Flower's Fleet API, and what a refusal of it means."""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from client.transport.fleet_config import FleetConfig
from client.transport.http_connection import HttpConnection, Response, tls
from client.transport.node_key import load_node_key, public_pem, successor_of
from protocol import durable_files
from protocol.document import read_json
from protocol.errors import Code, WardroundError
from protocol.untrusted import parsing
from protocol.wire.flower_version import FLOWER_WIRE, require_flower

require_flower()

from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata

from protocol.wire.flower_encoding import (
    BUSY,
    DISK_FULL,
    NOTICE,
    OBJECT_LIMIT,
    PART,
    REFUSED,
    WAIT,
    decoded,
)

T = TypeVar("T")

_SIGNATURE_AGE = 30.0
"""Seconds for which a signed timestamp is used; Flower takes it for 300."""
_CLOCK_LIMIT = 280.0
"""Seconds of clock difference from which a refusal is put down to the clock."""
_ANSWER_LIMIT = 4 << 20
"""Bytes of an answer without an object: a header of 1 MiB, a small body, a tree."""


class CoordinatorBusy(WardroundError):
    """The coordinator asks for the same call again, later."""

    def __init__(self) -> None:
        super().__init__(Code.UNREACHABLE, "The coordinator takes in other sites' answers first.")


class FleetCalls:
    """Calls under one node key, and the node id that the coordinator gave. May be made from several
    threads, each with a line of its own.

    Raises WardroundError(NODE_KEY) or (TLS) at once for unusable files.
    """

    def __init__(self, config: FleetConfig) -> None:
        self.config = config
        self._use_key(config.node_key)
        self._successor = False
        self._context = tls(config.root_certificate, config.private_ca)
        version = RuntimeVersionMetadata.from_local_component(
            "SuperNode", package_version_value=FLOWER_WIRE
        )
        self._version = dict(version.as_metadata())
        self._signed: tuple[float, dict[str, str]] = (0.0, {})
        self._notice = ""
        self.node_id: int | None = None
        """None while the coordinator does not know this site as connected."""

    @property
    def public_key(self) -> bytes:
        """The node key's public half, PEM."""
        return self._public

    @property
    def coordinator_paused(self) -> bool:
        """Whether the coordinator said that its disk is full, with its last answer."""
        return self._notice == DISK_FULL

    def line(self) -> HttpConnection:
        """A new connection, made when it is used."""
        return HttpConnection(self.config.route, self._context)

    def call(
        self,
        line: HttpConnection,
        route: str,
        request: Any,
        response_type: type[T],
        extra: Mapping[str, str] | None = None,
        *,
        hold: float | None = None,
        limit: float | None = None,
    ) -> tuple[T, Mapping[str, str]]:
        """POSTs a request of the Fleet API; returns the response and its HTTP headers.

        hold: seconds for which the coordinator may hold the call. limit: seconds in which its
        answer must begin, beyond `hold`; the configuration's call_timeout where it is not given.
        """
        headers = {"content-type": PROTOBUF_MEDIA_TYPE, **self._version, **self._signature()}
        headers |= extra or {}
        if hold is not None:
            headers[WAIT] = f"{hold:.3f}"
        timeout = (hold or 0.0) + (self.config.call_timeout if limit is None else limit)
        longest = OBJECT_LIMIT + 4096 if route == "pull-object" else _ANSWER_LIMIT
        answer = line.call(
            f"/v1/fleet/{route}", request.SerializeToString(), headers, timeout, longest
        )
        if answer.headers.get(REFUSED) == BUSY:
            raise CoordinatorBusy
        if answer.status != 200:
            raise _refusal(answer)
        self._notice = answer.headers.get(NOTICE, "")
        return decoded(response_type, answer.body), answer.headers

    def part_of(self, line: HttpConnection, path: str, offset: int, length: int) -> Response:
        """Bytes of a file that the coordinator has for this site: an answer of status 200, with
        PART, or of 404. Raises WardroundError as `call` does."""
        headers = {**self._version, **self._signature(), PART: f"{offset}/{length}"}
        answer = line.call(path, b"", headers, self.config.call_timeout, length + 4096)
        if answer.status not in (200, 404):
            raise _refusal(answer)
        return answer

    def node(self) -> Node:
        """Raises WardroundError(UNREACHABLE) while there is none."""
        if self.node_id is None:
            raise WardroundError(Code.UNREACHABLE, "This site is not connected.")
        return Node(node_id=self.node_id)

    def forget(self, refusal: WardroundError) -> None:
        """Signs anew from here on, after a refusal of the signature; with the key's successor, or
        the key again, where the coordinator does not know this one."""
        self.node_id = None
        self._signed = (0.0, {})
        if refusal.code is Code.NODE_KEY:
            self._try_other_key()

    def _try_other_key(self) -> None:
        """Signs in with the key that takes the place of this one, or with this one again."""
        old, new = self.config.node_key, successor_of(self.config.node_key)
        self._successor = new.exists() and not self._successor
        self._use_key(new if self._successor else old)

    def keep_key(self) -> None:
        """Makes a successor that the coordinator took this site's node key."""
        if self._successor:
            durable_files.move(successor_of(self.config.node_key), self.config.node_key)
            self._successor = False

    def _use_key(self, path: Path) -> None:
        self._key = load_node_key(path)
        self._public = public_pem(self._key)

    def _signature(self) -> dict[str, str]:
        made, headers = self._signed
        if time.monotonic() - made > _SIGNATURE_AGE or not headers:
            timestamp = datetime.now(UTC).isoformat()
            signature = sign_message(self._key, timestamp.encode("ascii"))
            headers = {
                FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self._public).decode("ascii"),
                TIMESTAMP_HEADER: timestamp,
                FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode("ascii"),
            }
            self._signed = (time.monotonic(), headers)
        return headers


def _refusal(answer: Response) -> WardroundError:
    """The error for an answer of the coordinator other than 200."""
    reason = answer.headers.get(REFUSED, "")
    release = answer.headers.get("flwr-package-version", "")
    if answer.status == 401:
        said = answer.date
        skew = None if said is None else abs((datetime.now(UTC) - said).total_seconds())
        if reason == "clock" or (not reason and skew is not None and skew > _CLOCK_LIMIT):
            off = f" by {skew:.0f} s" if skew is not None and skew > _CLOCK_LIMIT else ""
            return WardroundError(
                Code.CLOCK,
                f"This machine's clock differs from the coordinator's{off}.",
                remedy="Set the clock that is wrong (NTP); more than five minutes are refused. "
                "It is tried again.",
            )
        return WardroundError(
            Code.NODE_KEY,
            "The coordinator does not know this site's node key.",
            remedy="Have the public key that `wardround-site init` printed registered there.",
        )
    code = _flower_code(answer.body)
    if reason == "version" or code == 1001 or (release and release != FLOWER_WIRE):
        return WardroundError(
            Code.FLWR_VERSION,
            f"The coordinator runs Flower {release or 'of another release'}, this site "
            f"{FLOWER_WIRE}.",
            remedy="Install the same wardround release on both sides.",
        )
    if reason == "active" or code == 2004:
        return WardroundError(
            Code.UNREACHABLE,
            "The coordinator still counts this site as connected.",
            remedy="It is tried again. If it lasts, another process uses the same node key.",
        )
    return WardroundError(
        Code.UNREACHABLE,
        f"The coordinator answered with HTTP status {answer.status}.",
        remedy="It is tried again; see the coordinator's event log.",
    )


def _flower_code(body: bytes) -> int | None:
    """The error number of Flower's API in an answer's body, if there is one."""
    try:
        with parsing("An error of Flower is malformed."):
            value = read_json(body)
            value = read_json(value.encode()) if isinstance(value, str) else value
            return int(value["code"])
    except WardroundError:
        return None
