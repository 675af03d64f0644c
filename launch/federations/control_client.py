"""HTTP to a coordinator's control API: pinned to its CA, with one account's token.

Everything that can go wrong on the way becomes a WardroundError that says what to do. Answers are
bounded as they come in, and taken as they are sent: none is compressed, so that none can swell.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from client.transport.proxy import Proxy
from client.transport.route import Route
from protocol.document import read_object
from protocol.errors import Code, WardroundError
from protocol.release import RELEASE, RELEASE_HEADER
from server.coordinator.study_events import Event, error_from_json
from server.enrolment.accounts import Credentials

_SILENCE = 45.0
"""Seconds without a byte after which an event stream counts as broken; it beats every 15."""
_EVENT_LIMIT = 1 << 20
"""Bytes of one event."""
_ANSWER_LIMIT = 16 << 20
"""Bytes of an answer in JSON: a thousand studies."""
_FILE_LIMIT = 4 << 30
"""Bytes of a file: the weights of a model of a thousand million parameters."""


class ControlClient:
    """Calls of one account. `close` hangs up."""

    def __init__(self, credentials: Path, address: str | None, timeout: float) -> None:
        """address: host:port instead of the one in the credentials. timeout: seconds for a call.

        Raises WardroundError: CREDENTIALS (the file), TLS (its certificate), CONFIGURATION (the
        address, or an HTTPS_PROXY that cannot be used).
        """
        account = Credentials.load(credentials)
        self.coordinator, self.account = address or account.coordinator, account.account
        self._file = credentials
        try:
            context = ssl.create_default_context(cadata=account.ca)
        except (ssl.SSLError, ValueError):
            raise WardroundError(
                Code.TLS,
                f"The CA certificate in {credentials} cannot be read.",
                remedy="Ask the coordinator's operator for new credentials.",
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # No .netrc of the environment: the token goes to this coordinator only, also where a proxy
        # connects through, since TLS goes from end to end.
        self._proxy = Route.from_here(self.coordinator, None).proxy
        self._client = httpx.Client(
            base_url=f"https://{self.coordinator}/v1/wardround/",
            headers={
                "authorization": f"Bearer {account.token}",
                "accept-encoding": "identity",
                RELEASE_HEADER: RELEASE,
            },
            verify=context,
            timeout=httpx.Timeout(timeout, connect=10.0),
            trust_env=False,
            proxy=None if self._proxy is None else _as_httpx_has_it(self._proxy),
            follow_redirects=False,
        )

    def close(self) -> None:
        self._client.close()

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A JSON answer.

        Raises WardroundError: UNREACHABLE, TLS (another CA or host), CREDENTIALS (token refused),
        MESSAGE (no coordinator's answer), or what the coordinator says.
        """
        status, content = self._read(
            self._client.build_request(method, path, json=body), _ANSWER_LIMIT
        )
        if status not in (200, 202):
            raise self._refused(status, content)
        return self._json(content)

    def content(self, path: str) -> bytes:
        """A file's bytes. Raises as `call`."""
        status, content = self._read(self._client.build_request("GET", path), _FILE_LIMIT)
        if status != 200:
            raise self._refused(status, content)
        return content

    def stream(self, digest: str, after: int) -> Iterator[Event]:
        """A study's events until the stream ends or breaks. Raises as `call`."""
        request = self._client.build_request(
            "GET",
            f"studies/{digest}/events",
            params={"after": after},
            timeout=httpx.Timeout(_SILENCE, connect=10.0),
        )
        response = self._send(request)
        try:
            if response.status_code != 200:
                raise self._refused(response.status_code, self._rest(response, _ANSWER_LIMIT))
            for line in self._lines(response):
                if line.strip():
                    yield self._event(line)
        except httpx.TransportError as error:
            raise self._away(error) from None
        finally:
            response.close()

    def _lines(self, response: httpx.Response) -> Iterator[bytes]:
        """The lines of an answer as they come, of _EVENT_LIMIT bytes at most."""
        begun = b""
        for part in response.iter_raw():
            *lines, begun = (begun + part).split(b"\n")
            if max(map(len, (*lines, begun))) > _EVENT_LIMIT:
                raise no_coordinator(self.coordinator)
            yield from lines
        yield begun

    def _read(self, request: httpx.Request, limit: int) -> tuple[int, bytes]:
        """HTTP status and content of an answer of at most `limit` bytes."""
        response = self._send(request)
        try:
            return response.status_code, self._rest(response, limit)
        except httpx.TransportError as error:
            raise self._away(error) from None
        finally:
            response.close()

    def _rest(self, response: httpx.Response, limit: int) -> bytes:
        content = bytearray()
        for part in response.iter_raw():
            content += part
            if len(content) > limit:
                raise no_coordinator(self.coordinator)
        return bytes(content)

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise self._away(error) from None

    def _away(self, error: httpx.TransportError) -> WardroundError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return WardroundError(
                    Code.TLS,
                    f"What listens at {self.coordinator} does not show the coordinator's "
                    f"certificate ({cause.verify_message}).",
                    remedy=f"Compare the address and the CA in {self._file} with what the "
                    "coordinator's operator has.",
                )
            cause = cause.__cause__ or cause.__context__
        if self._proxy is not None and isinstance(error, httpx.ProxyError):
            return WardroundError(
                Code.UNREACHABLE,
                f"The proxy at {self._proxy.address} does not connect to {self.coordinator}.",
                remedy=f"Check {self._proxy.named_in} in the environment and its login, or name "
                "the coordinator in NO_PROXY.",
            )
        return WardroundError(
            Code.UNREACHABLE,
            f"The coordinator {self.coordinator} does not answer ({type(error).__name__}).",
            remedy="Is it running (`wardround coordinator status` there), and its port open to "
            "this machine?",
        )

    def _refused(self, status: int, content: bytes) -> WardroundError:
        if status == 401:
            return WardroundError(
                Code.CREDENTIALS,
                f"The coordinator {self.coordinator} refuses the token of account {self.account}.",
                remedy="It may have expired, or been replaced or removed: ask the operator for "
                f"`wardround coordinator account rotate {self.account}`, or `account add`.",
            )
        plain = self._json(content)
        return error_from_json(plain) if "code" in plain else no_coordinator(self.coordinator)

    def _json(self, content: bytes) -> dict[str, Any]:
        try:
            return read_object(content)
        except WardroundError:
            raise no_coordinator(self.coordinator) from None

    def _event(self, line: bytes) -> Event:
        event = self._json(line)
        if not (isinstance(event.get("n"), int) and isinstance(event.get("type"), str)):
            raise no_coordinator(self.coordinator)
        return event


def _as_httpx_has_it(proxy: Proxy) -> httpx.Proxy:
    login = None if proxy.user is None else (proxy.user, proxy.password)
    return httpx.Proxy(f"http://{proxy.address}", auth=login)


def no_coordinator(address: str) -> WardroundError:
    return WardroundError(
        Code.MESSAGE,
        f"What {address} answered is not a coordinator's answer.",
        remedy="Check the address, and that coordinator and this machine run the same version.",
    )
