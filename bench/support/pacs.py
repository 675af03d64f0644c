"""What a receiver of pictures meets beside a PACS: Orthanc that pushes whole studies, a scanner, a
monitor that probes the port, a sender that stalls. All real, on loopback."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Self

import httpx
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dsutils import encode

from launch.demo.local_ports import free_port
from support.radiographs import DX, radiograph, written

TITLE, PACS, SCANNER, STALLED = "WARDROUND", "ORTHANC", "SCANNER", "STALLED"
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"
IMAGES = (DX, DX, DX, MULTI_FRAME, DX)
REPORTS = (
    "1.3.12.2.1107.5.9.1",  # Siemens CSA Non-Image, private
    "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text SR
    "1.2.840.10008.5.1.4.1.1.11.1",  # Grayscale Softcopy Presentation State
    "1.2.840.10008.5.1.4.1.1.88.59",  # Key Object Selection
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
)
_PATIENCE = 120.0
_PROBES = (b"", b"\x01\0", b"GET / HTTP/1.0\r\n\r\n")


def study(number: int, side: int) -> list[Dataset]:
    """Images and what is none in turn, so that what is refused would keep an image from coming."""
    made = []
    for place, sop_class in enumerate(chain(*zip(IMAGES, REPORTS, strict=True))):
        dataset = radiograph(2 * number, side=side if sop_class in IMAGES else 8)
        dataset.SOPClassUID = sop_class
        dataset.SOPInstanceUID = f"{dataset.StudyInstanceUID}.{place}"
        if sop_class == MULTI_FRAME:
            dataset.NumberOfFrames, dataset.Modality = 3, "OT"
            dataset.PixelData *= 3
        dataset.PatientID = f"7770777{number}"
        made.append(dataset)
    return made


class Acknowledged:
    """What senders were told is stored: (study, instance) -> SHA-256 of its pixels."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], str] = {}
        self.answers = 0
        self._lock = threading.Lock()

    def add(self, dataset: Dataset) -> None:
        with self._lock:
            self.answers += 1
            if dataset.SOPClassUID in IMAGES:
                names = str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)
                self.objects[names] = hashlib.sha256(dataset.PixelData).hexdigest()


class Life:
    """Which receiver is alive. `number` counts them; `up` is set while one listens."""

    def __init__(self) -> None:
        self.number, self.up, self.over = 0, threading.Event(), threading.Event()


class Sender(threading.Thread):
    """Pushes one study after the other, each until it is taken, to the end of the run. push: says
    why not every object was acknowledged, "" where all were.

    failed: why pushes failed with the receiver alive. The first push to a new receiver may be over
    a line to the one before, and says nothing."""

    def __init__(self, life: Life, push: Callable[[list[Dataset]], str], first: int) -> None:
        super().__init__(daemon=True)
        self.pushed = self.interrupted = 0
        self.failed: list[str] = []
        self._life, self._push, self._first = life, push, first

    def run(self) -> None:
        life, met = self._life, -1
        while not life.over.is_set():
            objects = study(self._first + self.pushed, 512)
            while not life.over.is_set():
                if not life.up.wait(1.0):
                    continue
                number = life.number
                if not (why := self._push(objects)):
                    self.pushed += 1
                    met = number
                    break
                if number == life.number == met and life.up.is_set():
                    self.failed.append(why)
                else:
                    self.interrupted += 1
                met = number


class Orthanc:
    """A PACS with its default settings. Up inside `with`."""

    def __init__(self, folder: Path, receiver: int, told: Acknowledged) -> None:
        self._folder, self._receiver, self._told = folder, receiver, told

    def __enter__(self) -> Self:
        self._folder.mkdir()
        http = free_port()
        configuration = {
            "StorageDirectory": str(self._folder / "storage"),
            "IndexDirectory": str(self._folder / "storage"),
            "HttpPort": http,
            "DicomPort": free_port(),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {"site": [TITLE, "127.0.0.1", self._receiver]},
            "Plugins": [],
        }
        (self._folder / "orthanc.json").write_text(json.dumps(configuration))
        server = shutil.which("Orthanc", path="/usr/bin:/usr/sbin:/usr/local/sbin")
        if server is None:
            raise RuntimeError("Orthanc is not here: apt-get install orthanc")
        with (self._folder / "log").open("wb") as log:
            command = [server, str(self._folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{http}",
            timeout=_PATIENCE,
            limits=httpx.Limits(max_keepalive_connections=0),  # Orthanc ends idle ones unasked
        )
        while True:
            with suppress(httpx.HTTPError):
                if self._client.get("/system").is_success:
                    return self
            if self._process.poll() is not None:
                raise RuntimeError("Orthanc does not start")

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def push(self, objects: list[Dataset]) -> str:
        """Takes a study in and sends it."""
        parents = set()
        for dataset in objects:
            file = written(dataset, self._folder / "object.dcm")
            answer = self._client.post("/instances", content=file.read_bytes())
            parents.add(answer.raise_for_status().json()["ParentStudy"])
        sent = self._client.post("/modalities/site/store", json=sorted(parents))
        facts = sent.json() if sent.status_code == 200 else {}
        taken = facts.get("InstancesCount") == len(objects) and not facts["FailedInstancesCount"]
        if not taken:
            return f"Orthanc: {sent.status_code} {sent.text}"
        for dataset in objects:
            self._told.add(dataset)
        for parent in parents:
            self._client.delete(f"/studies/{parent}")
        return ""


def scan(port: int, told: Acknowledged) -> Callable[[list[Dataset]], str]:
    """A push that sends object by object and takes each acknowledgement for itself."""

    def push(objects: list[Dataset]) -> str:
        entity = AE(SCANNER)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _PATIENCE
        for sop_class in {*IMAGES, *REPORTS}:
            entity.add_requested_context(sop_class, ImplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", port, ae_title=TITLE)
        try:
            for place, dataset in enumerate(objects):
                began = time.monotonic()
                dataset.file_meta = FileMetaDataset()
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
                try:
                    answer = association.send_c_store(dataset)
                except RuntimeError:
                    return f"the scanner has no association at object {place}"
                if answer.get("Status") != 0:
                    waited = time.monotonic() - began
                    line = "aborted" if association.is_aborted else "open"
                    status = answer.get("Status")
                    return f"object {place}: {status} after {waited:.1f} s, the line {line}"
                told.add(dataset)
            return ""
        finally:
            if association.is_established:
                association.release()

    return push


def request(calling: str, sop_class: str) -> bytes:
    """A-ASSOCIATE-RQ (PS3.8, section 9.3.2) for one class in implicit little-endian."""

    def item(kind: int, content: bytes) -> bytes:
        return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content

    syntaxes = item(0x30, sop_class.encode()) + item(0x40, b"1.2.840.10008.1.2")
    user = item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3")
    body = b"\0\1\0\0" + TITLE.encode().ljust(16) + calling.encode().ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, b"\1\0\0\0" + syntaxes)
    body += item(0x50, user)
    return b"\1\0" + len(body).to_bytes(4, "big") + body


def fragment(data: bytes, context: int = 1, *, command: bool = False, last: bool = False) -> bytes:
    """P-DATA-TF (PS3.8, section 9.3.5) with one fragment of a message."""
    value = bytes([context, command | last << 1]) + data
    item = len(value).to_bytes(4, "big") + value
    return b"\4\0" + len(item).to_bytes(4, "big") + item


def store_command(sop_class: str, instance: str) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7, section 9.3.1)."""
    command = Dataset()
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = sop_class, instance
    command.CommandField, command.MessageID, command.Priority = 1, 1, 2
    command.CommandDataSetType = 0
    encoded = encode(command, True, True)
    assert encoded is not None
    return b"\0\0\0\0\4\0\0\0" + len(encoded).to_bytes(4, "little") + encoded


class Around:
    """Probes once a second, and senders that stall in the middle of an object for as long as they
    are let. A context manager."""

    def __init__(self, port: int) -> None:
        self.probes = self.stalls = 0
        self._port, self._over = port, threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._probe, self._stall)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _line(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), 5.0)

    def _probe(self) -> None:
        while not self._over.wait(1.0):
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", self._port), 5.0) as line,
            ):
                line.sendall(_PROBES[self.probes % len(_PROBES)])
                self.probes += 1

    def _stall(self) -> None:
        half = fragment(b"\x08\0\x05\0\x04\0\0\0")
        said = fragment(store_command(DX, "1.2.3"), command=True, last=True) + half + half[:9]
        while not self._over.wait(1.0):
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", self._port), 5.0) as line,
            ):
                line.sendall(request(STALLED, DX))
                line.recv(1 << 16)
                line.sendall(said)
                self.stalls += 1
                line.settimeout(1.0)
                while not self._over.is_set():
                    with suppress(TimeoutError):
                        if not line.recv(1 << 16):
                            break
