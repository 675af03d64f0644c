"""The two ports that strangers reach, driven by raw bytes: HTTP of a coordinator, DICOM of a site.

TLS is left out: what it does not let through reaches neither. Everything else is what serves.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from client.data.dicom.objects.pseudonym import Pseudonyms
from client.data.dicom.receive.object_store import ObjectStore
from client.data.dicom.receive.receiver import Receiver
from client.data.dicom.receive.settings import ReceiverSettings
from protocol.connections import Connections, Limits
from protocol.wire.enrolment import CARD_PATH
from server.coordinator.journal import Journal
from server.coordinator.service import PREFIX, Coordinator
from server.coordinator.setup import create
from server.enrolment.accounts import Accounts
from server.transport.http import BoundedProtocol

_PATIENCE = 30.0
"""Seconds after which a door that says nothing has hung."""
_COMPUTED_TOMOGRAPHY = "1.2.840.10008.5.1.4.1.1.2"
_FAILED = re.compile(rb"(?m)^HTTP/1\.1 (5\d\d)")


class HttpDoor:
    """A coordinator's port: Flower's calls, the control API and invitations, with an account."""

    def __init__(self, coordinator: Coordinator, token: str) -> None:
        application: Any = coordinator.link._gateway
        # Otherwise nearly all inputs would be answered "too many calls".
        application._mounted[f"{PREFIX}/"]._limits.take = lambda account: True
        self._config = uvicorn.Config(
            application,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
        )
        self._config.load()
        self._state = uvicorn.Server(self._config).server_state
        self._connections = Connections(Limits(100, 100))
        self._token = token

    def seeds(self, study: bytes) -> list[bytes]:
        """Requests of every kind, with a valid token."""
        document = json.dumps({"document": json.loads(study), "configuration": {}}).encode()
        digest = "0" * 64
        lines = [
            (f"GET {PREFIX}/federation", b""),
            (f"GET {PREFIX}/studies", b""),
            (f"POST {PREFIX}/studies", document),
            (f"POST {PREFIX}/plans", document),
            (f"DELETE {PREFIX}/studies/{digest}", b""),
            (f"POST {PREFIX}/studies/{digest}/pause", b""),
            (f"GET {PREFIX}/studies/{digest}/events?after=0", b""),
            (f"GET {PREFIX}/studies/{digest}/weights", b""),
            ("POST /v1/fleet/pull-messages", b"\x0a\x02\x08\x07"),
            (f"POST {CARD_PATH}", b"{}"),
        ]
        requests = [
            f"{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
            for line, body in lines
        ]
        chunked = requests[2].partition(b"Content-Length")[0] + (
            b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        )
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: YQ==\r\n\r\n"
        upgraded = requests[0].partition(b"Content-Type")[0] + upgrade
        return [*requests, chunked, upgraded, requests[0] * 3]

    async def take(self, data: bytes) -> None:
        """One connection with these bytes and no more. Raises RuntimeError for an answer that
        blames the coordinator, and what breaks in its event loop."""
        loop, broken, ended = asyncio.get_running_loop(), list[dict[str, Any]](), asyncio.Event()
        loop.set_exception_handler(lambda _, context: broken.append(context))
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        place = self._connections.admit("127.0.0.1")
        if place is None:
            raise RuntimeError("a closed connection is still counted")
        protocol = BoundedProtocol(self._config, self._state, {}, place=place)

        def end() -> bool:
            ended.set()
            return True  # answers are still sent

        protocol.eof_received = end  # type: ignore[method-assign, assignment]  # asyncio asks the instance
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, near)
        protocol.client = ("127.0.0.1", 1)
        answer = bytearray()

        async def hear() -> None:
            try:
                while part := await loop.sock_recv(far, 1 << 16):
                    answer.extend(part)
            except ConnectionError:
                pass
            ended.set()  # the coordinator has hung up

        async with asyncio.timeout(_PATIENCE):
            hearing = loop.create_task(hear())
            try:
                await loop.sock_sendall(far, data)
                far.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            await ended.wait()
            while (cycle := protocol.cycle) and not (
                cycle.response_complete or cycle.more_body or transport.is_closing()
            ):
                await asyncio.sleep(0.001)
            transport.close()
            await hearing
        far.close()
        if broken:
            raise RuntimeError(f"broken: {broken[0].get('exception') or broken[0]['message']!r}")
        if failed := _FAILED.search(answer):
            raise RuntimeError(f"HTTP status {failed[1].decode()}")


@contextmanager
def http_door(folder: Path) -> Iterator[HttpDoor]:
    config = create(folder, ["127.0.0.1"], 0, None, "Test")
    with Coordinator(config, Journal(config.event_log, console=None)) as coordinator:
        yield HttpDoor(coordinator, Accounts(config.accounts).add("mallory"))


class DicomDoor:
    """A site's receiver for the title A."""

    def __init__(self, receiver: Receiver, port: int) -> None:
        self._receiver, self._port = receiver, port
        self._request, self._parts = self._record()

    def requests(self) -> list[bytes]:
        """What a sender says to be let in."""
        return [self._request]

    def conversations(self) -> list[bytes]:
        """What a sender says once it is in: an echo, an object, farewell."""
        return [b"".join(self._parts), *self._parts]

    def knock(self, data: bytes) -> None:
        """A connection with these bytes and no more. Raises RuntimeError where it hangs."""
        self._say(data, b"")

    def talk(self, data: bytes) -> None:
        """An association of an honest sender that then says this. Raises as `knock`, and where
        the association was not accepted."""
        self._say(self._request, data)

    def _say(self, first: bytes, then: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._port), _PATIENCE) as line:
            try:
                line.sendall(first)
                if then:
                    if line.recv(1) != b"\x02":  # A-ASSOCIATE-AC (PS3.8, section 9.3.1)
                        raise RuntimeError("an honest sender was not let in")
                    line.sendall(then)
                line.shutdown(socket.SHUT_WR)
                while line.recv(1 << 16):
                    pass
            except TimeoutError:
                raise
            except OSError:
                pass  # it has hung up
        until = time.monotonic() + _PATIENCE
        while len(self._receiver._server.connections):
            if time.monotonic() > until:
                raise RuntimeError("a closed connection is still counted")
            time.sleep(0.0005)

    def _record(self) -> tuple[bytes, Sequence[bytes]]:
        """The bytes of an honest sender: its request, and each message after that."""
        sent = list[bytes]()
        entity = AE("A")
        entity.add_requested_context(Verification)
        entity.add_requested_context(_COMPUTED_TOMOGRAPHY, ExplicitVRLittleEndian)
        handlers: list[Any] = [(evt.EVT_DATA_SENT, lambda event: sent.append(event.data))]
        address = ("127.0.0.1", self._port)
        association = entity.associate(*address, ae_title="WARDROUND", evt_handlers=handlers)
        association.send_c_echo()
        association.send_c_store(_object())
        association.release()
        return sent[0], sent[1:]


def _object() -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = _COMPUTED_TOMOGRAPHY, generate_uid()
    dataset.StudyInstanceUID, dataset.PatientID = generate_uid(), "1"
    dataset.add_new(0x7FE00010, "OB", b"\0" * 512)
    return dataset


@contextmanager
def dicom_door(folder: Path) -> Iterator[DicomDoor]:
    folder.mkdir(mode=0o700)
    store = ObjectStore.open(folder / "dicom", Pseudonyms.create(folder), 0)
    settings = ReceiverSettings(listen="127.0.0.1:0", calling=("A",), largest=1 << 20)
    receiver, hook = Receiver(settings, store, lambda study: None), threading.excepthook
    try:
        yield DicomDoor(receiver, receiver.start())
    finally:
        receiver.stop()
        threading.excepthook = hook
        store.close()
