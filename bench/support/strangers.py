"""Hostile traffic against a coordinator's port, from threads and addresses of its own.

Each kind of stranger does one thing over and over, with a pause in between, so that what is
measured is what a coordinator makes of it and not who has more processors. Loopback only.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import (
    generate_key_pairs,
    public_key_to_bytes,
    sign_message,
)

from launch.federations.deployment import RemoteFederation
from protocol.errors import WardroundError
from server.enrolment.accounts import Credentials
from server.transport.gateway import FLEET_ROUTES, PREFIX

_ANSWER = 20.0
"""Seconds after which a stranger gives up on one call."""
_PAUSE = 0.05
_HELD = 64
_HOLDS = 3.0
_HEADS = (
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    b"\r\n",
    b"POST /v1/wardround/studies HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/wardround/studies HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\nx",
    b"POST /v1/wardround/plans HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"fffffffffff\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5_000 + b"\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/wardround/studies/%2e%2e%2f HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x00\x01\x02 / HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /v1/wardround/federation HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\n\r\n",
)


class Strangers:
    """All kinds at once, until the end of the block. A context manager."""

    def __init__(self, account: Credentials, seed: int) -> None:
        """account: a data scientist's at the coordinator, who sends studies that are none."""
        self.port, self._account = int(account.coordinator.rsplit(":", 1)[1]), account
        self.sent: Counter[str] = Counter()
        """Calls by kind."""
        self.let_in: Counter[str] = Counter()
        """Answers of success by kind."""
        self.failed: Counter[str] = Counter()
        """Kinds whose own code ended."""
        self._over = threading.Event()
        kinds: tuple[Callable[[random.Random, str], bool], ...] = (
            self._hold,
            self._drip,
            self._half_a_handshake,
            self._noise,
            self._noise_in_tls,
            self._broken_head,
            self._guess_a_token,
            self._fleet_call,
            self._no_study,
        )
        self._threads = [
            threading.Thread(target=self._again, args=(kind, number, seed), daemon=True)
            for number, kind in enumerate(kinds)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * _ANSWER)

    def _again(self, kind: Callable[[random.Random, str], bool], number: int, seed: int) -> None:
        name, drawn = kind.__name__.strip("_"), random.Random(f"{seed} {number}")
        while not self._over.wait(_PAUSE):
            self.sent[name] += 1
            try:
                self.let_in[name] += kind(drawn, f"127.0.{number + 1}.{drawn.randint(1, 4)}")
            except (OSError, WardroundError):
                continue
            except Exception:
                self.failed[name] += 1
                raise

    def _connected(self, address: str) -> socket.socket:
        target = "127.0.0.1", self.port
        return socket.create_connection(target, _ANSWER, source_address=(address, 0))

    @contextmanager
    def _tls(self, address: str) -> Iterator[ssl.SSLSocket]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self._connected(address) as raw, context.wrap_socket(raw) as line:
            yield line

    def _answered(self, address: str, request: bytes) -> bool:
        """Whether the answer is one of success."""
        with self._tls(address) as line:
            line.sendall(request)
            return line.recv(16).split(b" ")[1:2] == [b"200"]

    def _hold(self, drawn: random.Random, address: str) -> bool:
        held = []
        try:
            for _ in range(_HELD):
                held.append(self._connected(address))
            self._over.wait(_HOLDS)
        finally:
            for line in held:
                line.close()
        return False

    def _drip(self, drawn: random.Random, address: str) -> bool:
        with self._tls(address) as line:
            for byte in b"GET / HTTP/1.1\r\n" + b"x" * 40:
                line.sendall(bytes([byte]))
                if self._over.wait(0.5):
                    break
        return False

    def _half_a_handshake(self, drawn: random.Random, address: str) -> bool:
        sent, context = ssl.MemoryBIO(), ssl.create_default_context()
        hello = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
        with suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        said = sent.read()
        with self._connected(address) as line:
            line.sendall(said[: drawn.randrange(len(said))])
            self._over.wait(drawn.random())
        return False

    def _noise(self, drawn: random.Random, address: str) -> bool:
        with self._connected(address) as line:
            line.sendall(drawn.randbytes(drawn.randint(1, 4096)))
            line.recv(64)
        return False

    def _noise_in_tls(self, drawn: random.Random, address: str) -> bool:
        return self._answered(address, drawn.randbytes(drawn.randint(1, 4096)) + b"\r\n\r\n")

    def _broken_head(self, drawn: random.Random, address: str) -> bool:
        return self._answered(address, drawn.choice(_HEADS))

    def _guess_a_token(self, drawn: random.Random, address: str) -> bool:
        path = drawn.choice(["federation", "studies", "studies/" + "0" * 64, "plans"])
        token = drawn.choice(["", "x", drawn.randbytes(32).hex(), self._account.token[:-1]])
        head = f"GET /v1/wardround/{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}"
        return self._answered(address, head.encode() + b"\r\n\r\n")

    def _fleet_call(self, drawn: random.Random, address: str) -> bool:
        """Signed by a key of the stranger's own."""
        key, public = generate_key_pairs()
        now = datetime.now(UTC).isoformat()
        body = drawn.randbytes(drawn.randint(0, 2048))
        head = [
            f"POST {PREFIX}{drawn.choice(sorted(FLEET_ROUTES))} HTTP/1.1",
            "Host: a",
            "Content-Type: application/protobuf",
            f"Content-Length: {len(body)}",
            f"{FLEET_HTTP_PUBLIC_KEY_HEADER}: {b64encode(public_key_to_bytes(public)).decode()}",
            f"{TIMESTAMP_HEADER}: {now}",
            f"{FLEET_HTTP_SIGNATURE_HEADER}: {b64encode(sign_message(key, now.encode())).decode()}",
        ]
        return self._answered(address, "\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def _no_study(self, drawn: random.Random, address: str) -> bool:
        """What somebody with an account sends in place of a study."""
        dirt = [
            b"",
            b"null",
            b"[" * 5_000,
            b'{"study": 1e999}',
            b'{"study": "' + b"a" * 100_000 + b'"}',
            json.dumps({"study": {"format": 1, "title": "\x1b]0;x\x07"}}).encode(),
            drawn.randbytes(500),
        ]
        body = drawn.choice(dirt)
        head = (
            f"POST /v1/wardround/{drawn.choice(['studies', 'plans'])} HTTP/1.1\r\nHost: a\r\n"
            f"Authorization: Bearer {self._account.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return self._answered(address, head.encode() + body)


class Caller:
    """Somebody honest who asks the coordinator for its hospitals once a second, each time on a new
    connection, and once more where that fails. A context manager."""

    def __init__(self, credentials: Path) -> None:
        self.asked = self.dropped = self.dropped_twice = 0
        self.slowest = 0.0
        """Seconds of a call, the connection included."""
        self._credentials, self._over = credentials, threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(1.0):
            self.asked += 1
            if not self._once():
                self.dropped += 1
                self.dropped_twice += not self._once()

    def _once(self) -> bool:
        begun = time.monotonic()
        try:
            with RemoteFederation(self._credentials) as remote:
                remote.federation()
        except WardroundError:
            return False
        finally:
            self.slowest = max(self.slowest, time.monotonic() - begun)
        return True
