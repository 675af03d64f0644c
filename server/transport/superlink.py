"""The coordinator's end of the federation: a Flower SuperLink in our own process.

The round loop talks to Flower's LinkState directly, so there is no ServerApp, no FAB, no SuperExec
and no Control API: on the network are only the Fleet API, over TLS with node authentication and
an allow-list, and what is mounted on the same port (server/transport/gateway.py).

    with SuperLink(SuperLinkConfig(port=9092, certificate=..., private_key=...)) as link:
        link.register("north", public_key_pem)
        for site, frame in link.ask({"north": Frame(b"{}")}, timeout=60): ...

`SuperLink` and `FleetRun` are both a `server.rounds.transport.Fleet`; several threads may `ask`
at once.
"""

# ruff: noqa: E402  (Flower may only be imported once its version has been checked)
from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.address import Address
from protocol.connections import Connections, Limits, raise_open_files
from protocol.errors import Code, WardroundError
from protocol.models.decision import DecisionHistory
from protocol.wire.flower_version import require_flower
from protocol.wire.messages import Frame
from protocol.wire.offered_models import PREFIX
from protocol.wire.progress import WINDOW
from protocol.wire.roster import RosterHistory
from protocol.wire.sizes import BODY_LIMIT

require_flower()

from flwr.supercore.primitives.asymmetric import (
    bytes_to_public_key,
    public_key_to_bytes,
    uses_nist_ec_curve,
)

from server.enrolment.certificates import read_key
from server.transport.acceptor import Acceptor
from server.transport.event_log import EventLog
from server.transport.fleet_run import FleetRun
from server.transport.gateway import Application, Gateway
from server.transport.offered_models import OfferedModels
from server.transport.upload_slots import UploadSlots

_M_MMAP_THRESHOLD = -3
"""mallopt(3)"""


@dataclass(frozen=True)
class SuperLinkConfig:
    """Where and how the coordinator listens.

    certificate, private_key: PEM files of the server certificate (chain) and its key (0600).
    event_log: JSON lines, created 0600; None for no log.
    upload_slots: large replies in memory at once, at one body each.
    upload_room: bytes of memory for the replies of slow sites beside these slots, so that they hold
        no other up.
    patience: seconds after which a reply that is still coming in counts as slow.
    grace: seconds in which a site whose connection broke may come back and still answer.
    stall: seconds without a byte after which a transfer is given up, be the site there or not.
    hold: longest time in seconds for which a site's call is held.
    max_body: bytes that one reply may have.
    connections: most at once, fewer where the process may not open as many files; a site has five.
    """

    certificate: Path
    private_key: Path
    host: str = "127.0.0.1"
    port: int = 0
    event_log: Path | None = None
    upload_slots: int = 1
    upload_room: int = 1 << 30
    patience: float = 2.0
    grace: float = 2.0
    stall: float = WINDOW
    hold: float = 25.0
    max_body: int = BODY_LIMIT
    connections: int = 2048


class SuperLink:
    """The server that sites connect to. Use as a context manager, or `start` and `stop`."""

    def __init__(self, config: SuperLinkConfig) -> None:
        self.config = config
        self._events = EventLog(config.event_log)
        self._gateway = Gateway(
            self._events,
            slots=UploadSlots(config.upload_slots, config.upload_room, config.patience),
            hold=config.hold,
            stall=config.stall,
            max_body=config.max_body,
        )
        self._state = self._gateway.state
        self._nodes: dict[str, int] = {}
        self.open_files = raise_open_files()
        """How many files this process may have open."""
        self._connections = Connections(Limits.fitting(config.connections, self.open_files))
        self._acceptor: Acceptor | None = None
        self._address = ""
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._run: FleetRun | None = None

    # --- life ---
    def start(self) -> Self:
        """Listens. Returns when calls are answered.

        Raises WardroundError: PORT_TAKEN, TLS (certificate or key unreadable, unfit, or the key
        readable by others).
        """
        config = self.config
        read_key(config.private_key)  # refused here, since uvicorn reads it whoever else can
        _return_large_buffers()
        listening = _listening_socket(config.host, config.port)
        uvicorn_config = uvicorn.Config(
            self._gateway,
            ssl_certfile=config.certificate,
            ssl_keyfile=config.private_key,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # a warning for each request that is none fills a log
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        try:
            uvicorn_config.load()
        except (OSError, ssl.SSLError) as error:
            listening.close()
            raise WardroundError(
                Code.TLS,
                f"The server certificate {config.certificate} and key {config.private_key} "
                f"cannot be used ({type(error).__name__}).",
                remedy="Issue them again with `wardround coordinator renew`.",
            ) from None
        if uvicorn_config.ssl is not None:
            uvicorn_config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server = uvicorn.Server(uvicorn_config)
        self._address = str(Address(*listening.getsockname()[:2]))
        self._acceptor = Acceptor(listening, self._server, self._connections, self._events)
        self._thread = threading.Thread(target=self._serve, name="superlink", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise WardroundError(Code.INTERNAL, "The coordinator's server did not start.")
            time.sleep(0.005)
        self._run = self.open_run("wardround")
        self._events.write("listening", address=self.address)
        return self

    def stop(self) -> None:
        """Ends open exchanges, closes all connections and frees the port. May be called twice."""
        server, thread, loop, acceptor = self._server, self._thread, self._loop, self._acceptor
        self._server = None
        if server is None or thread is None or acceptor is None:
            return
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(acceptor.stop)
            loop.call_soon_threadsafe(self._gateway.stop)
        server.should_exit = True
        for run_id in list(self._state.run_ids):
            self._state.close_run(run_id)
        thread.join()
        self._events.write("stopped")
        self._events.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """host:port on which sites reach this coordinator (the port that was found, if 0)."""
        if not self._address:
            raise WardroundError(Code.INTERNAL, "The coordinator's server is not started.")
        return self._address

    @property
    def limits(self) -> Limits:
        """How many connections it holds at once."""
        return self._connections.limits

    def mount(self, prefix: str, application: Application) -> None:
        """Serves an ASGI application below `prefix` (`/v1/wardround`) on the same port.

        It sees the full path and must authenticate its callers itself. Mount before `start`.
        """
        self._gateway.mount(prefix, application)

    def offer(self, folder: Path) -> None:
        """Hands the bundles of approved models in `folder` to registered sites that ask."""
        self.mount(PREFIX, OfferedModels(folder, self._state, self._events))

    def renew_certificate(self) -> None:
        """Reads certificate and key again; connections made from now on get the new ones."""
        if self._server is not None and self._server.config.ssl is not None:
            self._server.config.ssl.load_cert_chain(
                self.config.certificate, self.config.private_key
            )

    # --- sites ---
    def register(self, name: str, node_public_key_pem: bytes) -> None:
        """Puts a site and its node key on the allow-list.

        Raises WardroundError(NODE_KEY) for a key that is not an ECDSA key in PEM, or that another
        site has; (CONFIGURATION) for a name that is taken.
        """
        if name in self._nodes:
            raise WardroundError(Code.CONFIGURATION, f"Site {name} is registered already.")
        try:
            self._nodes[name] = self._state.register(
                name, canonical_public_key(node_public_key_pem)
            )
        except ValueError:
            raise WardroundError(
                Code.NODE_KEY,
                f"The node key of site {name} is not an ECDSA public key of its own.",
                remedy="Ask the site for the public key that `wardround-site init` printed.",
            ) from None
        self._events.write("registered", site=name)

    def unregister(self, name: str) -> None:
        """Takes a site off the allow-list; its next call is refused."""
        node_id = self._nodes.pop(name, None)
        if node_id is not None:
            self._state.unregister(node_id)
            self._events.write("unregistered", site=name)

    def announce(self, notice: str) -> None:
        """What sites are told of the coordinator with every answer from now on (`NOTICE`)."""
        self._gateway.notice = notice

    def publish(self, roster: RosterHistory) -> None:
        """The roster of which sites that ask are told from now on."""
        self._gateway.publish(roster)

    def publish_decisions(self, decisions: DecisionHistory) -> None:
        """The decisions about models of which sites that ask are told from now on."""
        self._gateway.publish_decisions(decisions)

    def online(self) -> frozenset[str]:
        """Names of the sites that are connected."""
        alive = self._state.online_nodes()
        return frozenset(name for name, node_id in list(self._nodes.items()) if node_id in alive)

    # --- questions ---
    def open_run(self, label: str) -> FleetRun:
        """A Flower run of its own for one study. `label` goes into messages and the event log."""
        return FleetRun(
            self._state,
            self._events,
            self._nodes,
            label=label,
            grace=self.config.grace,
            stall=self.config.stall,
        )

    def ask(
        self, frames: Mapping[str, Frame], timeout: float
    ) -> Iterator[tuple[str, Frame | None]]:
        """Does what `FleetRun.ask` does, in the coordinator's own run."""
        if self._run is None:
            raise WardroundError(Code.INTERNAL, "The coordinator's server is not started.")
        return self._run.ask(frames, timeout)

    def _serve(self) -> None:
        server, acceptor = self._server, self._acceptor
        if server is None or acceptor is None:
            return
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            self._loop = runner.get_loop()
            runner.run(self._listen(server, acceptor))

    async def _listen(self, server: uvicorn.Server, acceptor: Acceptor) -> None:
        self._gateway.start()
        acceptor.start()
        try:
            await server.serve(sockets=[])  # the acceptor has the socket
        finally:
            acceptor.stop()


def _return_large_buffers() -> None:
    """Makes glibc return buffers of a chunk's size to the system as soon as they are free.

    By default they stay in heaps that fragment: the same traffic then peaks at 2.3 times a body
    instead of 1.4. Without glibc nothing is changed.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def canonical_public_key(pem: bytes) -> bytes:
    """A node's public key in the bytes that Flower's client sends. Raises ValueError."""
    key = bytes_to_public_key(pem)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not uses_nist_ec_curve(key):
        raise ValueError("not an ECDSA key")
    return public_key_to_bytes(key)


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        raise WardroundError(
            Code.PORT_TAKEN if taken else Code.CONFIGURATION,
            f"Cannot listen on {host}:{port} ({error.strerror}).",
            remedy="End what listens there, or change `listen` in coordinator.yaml.",
        ) from None
    return listening
