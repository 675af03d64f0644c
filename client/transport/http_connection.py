"""One kept-alive TLS 1.3 connection to the coordinator, used by one thread at a time.

An answer is bounded in bytes and in time, whatever it is made of: endless header fields, endless
"100 Continue", a byte a minute.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast

from client.transport.route import ProxyUnreachable, Route
from protocol.errors import Code, WardroundError
from protocol.untrusted import parsing
from protocol.wire.progress import SLOWEST

_AROUND = 256 * 1024
"""Bytes of an answer beside its content: header fields, trailers, 100 Continue."""


@dataclass(frozen=True)
class Response:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def date(self) -> datetime | None:
        """The time at which it was made (Date, RFC 9110, section 6.6.1), in UTC, by the other
        side's clock; None where it does not say."""
        try:
            with parsing("A date is malformed."):
                said = parsedate_to_datetime(self.headers.get("date", ""))
                return said.replace(tzinfo=said.tzinfo or UTC).astimezone(UTC)
        except WardroundError:
            return None


class CallInterrupted(Exception):
    """The call was cut short by `interrupt`."""


class _PeerClosed(Exception):
    """The other side has closed the connection; `error` says so to a person."""

    def __init__(self, error: WardroundError) -> None:
        super().__init__()
        self.error = error


class PacedSocket(ssl.SSLSocket):
    """A TLS socket on which a call must go on at SLOWEST, and end."""

    _until = _left = float("inf")

    def begin_call(self, seconds: float, limit: int) -> None:
        """From now on, a call whose answer has n bytes may take `seconds` + n / SLOWEST; n is at
        most `limit` + _AROUND."""
        self._until, self._left = time.monotonic() + seconds, limit + _AROUND

    def send(self, *args: Any, **kwargs: Any) -> int:
        """As usual. Raises TimeoutError where it is too slow."""
        self._hurry()
        return super().send(*args, **kwargs)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """As usual. Raises TimeoutError where it is too slow, WardroundError(MESSAGE) too long."""
        self._hurry()
        received = super().recv_into(*args, **kwargs)
        self._until += received / SLOWEST
        self._left -= received
        if self._left < 0:
            raise _too_long()
        return received

    def _hurry(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("too slow")
        if left < float("inf"):
            self.settimeout(left)


def _too_long() -> WardroundError:
    return WardroundError(
        Code.MESSAGE,
        "An answer of the coordinator is too long.",
        remedy="Check that coordinator and site run the same release.",
    )


def tls(root_certificate: Path, private_ca: Path | None = None) -> ssl.SSLContext:
    """TLS 1.3 that trusts the coordinator's CA alone, and a `private_ca` where the site's operator
    has chosen one. Raises WardroundError(TLS) for a file."""
    remedies = (
        (root_certificate, "CA certificate", "Run `wardround-site join BUNDLE`."),
        (private_ca, "private CA", "Correct coordinator.private_ca in site.yaml."),
    )
    for file, what, remedy in remedies:
        try:
            if file == root_certificate:
                context = ssl.create_default_context(cafile=str(file))
            elif file is not None:
                context.load_verify_locations(str(file))
        except (OSError, ssl.SSLError):
            raise WardroundError(
                Code.TLS, f"The {what} {file} cannot be read.", remedy=remedy
            ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslsocket_class = PacedSocket
    return context


class HttpConnection:
    """A connection that is made on the first call and again after a fault."""

    def __init__(self, route: Route, context: ssl.SSLContext) -> None:
        """`context`: of `tls`."""
        self._route = route
        self._context = context
        self._connection: http.client.HTTPSConnection | None = None
        self._socket: socket.socket | None = None
        self._interrupted = False
        self.certificate_ends = 0.0
        """When the certificate that was shown last ends, in seconds since 1970; 0: none was."""

    def call(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout: float, limit: int
    ) -> Response:
        """POSTs `body`. `timeout`: seconds in which the body must be sent and the answer begin;
        `limit`: its bytes.

        Raises WardroundError: UNREACHABLE, TLS, MESSAGE (a longer answer); CallInterrupted after
        `interrupt`.
        """
        while True:
            fresh = self._connection is None
            try:
                return self._call(path, body, headers, timeout, limit)
            except _PeerClosed as fault:
                # An idle connection may have been closed meanwhile: try once more on a new one.
                if fresh:
                    raise fault.error from None

    def interrupt(self) -> None:
        """Cuts the running call short and all later ones; from any thread or signal handler."""
        self._interrupted = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _call(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout: float, limit: int
    ) -> Response:
        try:
            connection = self._connected()
            if self._interrupted:
                raise CallInterrupted
            cast("PacedSocket", connection.sock).begin_call(timeout, limit)
            connection.request("POST", path, body, dict(headers))
            answer = connection.getresponse()
            content = answer.read(limit + 1)
            if len(content) > limit:
                raise _too_long()
            fields = {key.lower(): value for key, value in answer.getheaders()}
            if answer.will_close or answer.status < 200:  # after 103 comes another answer
                self.close()
            return Response(answer.status, fields, content)
        except (WardroundError, CallInterrupted):
            self.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if self._interrupted:
                raise CallInterrupted from None
            if isinstance(error, ConnectionError | http.client.HTTPException | ssl.SSLEOFError):
                raise _PeerClosed(self._fault(error)) from None
            raise self._fault(error) from None
        except Exception:  # whatever else Python's parser raises on what is no HTTP
            self.close()
            raise WardroundError(
                Code.MESSAGE, "An answer of the coordinator is no HTTP answer."
            ) from None

    def _connected(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            host, port = self._route.target
            connection = http.client.HTTPSConnection(host, port, context=self._context)
            connection.sock = self._route.open(self._secure, self._begin)
            self._connection = connection
        return self._connection

    def _secure(self, plain: socket.socket) -> ssl.SSLSocket:
        """Shakes hands, which `interrupt` can cut short."""
        secured = self._context.wrap_socket(
            plain, server_hostname=self._route.target.host, do_handshake_on_connect=False
        )
        try:
            self._begin(secured)
            secured.do_handshake()
            ends = (secured.getpeercert() or {})["notAfter"]
            self.certificate_ends = ssl.cert_time_to_seconds(str(ends))
        except BaseException:
            secured.close()
            raise
        return secured

    def _begin(self, step: socket.socket) -> None:
        self._socket = step
        if self._interrupted:
            raise OSError("interrupted")

    def _fault(self, error: Exception) -> WardroundError:
        target = self._route.target
        if isinstance(error, ProxyUnreachable):
            return error.error
        if isinstance(error, ssl.SSLCertVerificationError):
            return WardroundError(
                Code.TLS,
                f"The coordinator at {target} showed a certificate that this site does not "
                f"trust: {error.verify_message}.",
                remedy="Check the address, the clock, and that the CA certificate is the one that "
                "the coordinator's operator handed out. A proxy that opens TLS shows one of its "
                "own: have it let this address through unopened.",
            )
        if isinstance(error, ssl.SSLError) and not isinstance(
            error, ssl.SSLEOFError | ssl.SSLZeroReturnError
        ):
            return WardroundError(
                Code.TLS,
                f"No TLS connection to {target} ({error.reason or 'TLS failure'}).",
                remedy="Check that address and port are those of a wardround coordinator.",
            )
        proxy = self._route.proxy
        through = f" through the proxy at {proxy.address}" if proxy else ""
        return WardroundError(
            Code.UNREACHABLE,
            f"The coordinator at {target} cannot be reached{through} ({type(error).__name__}).",
            remedy="Check the address, the network and the firewall, and that it is running.",
        )
