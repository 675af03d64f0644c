"""DICOM Send to this site: a storage SCP (PS3.4, Annex B) that answers C-STORE and C-ECHO.

    another application     rejected: 2, application context name not supported
    unknown calling title   the association is rejected: 3, calling AE title not recognised
    wrong called title      rejected: 7, called AE title not recognised
    too many senders        rejected: 2, local limit exceeded
    stored, or not needed   0000
    not a storage class     its presentation context is rejected: 3, abstract syntax not supported
    A700, out of resources  the disk is full or at its floor, or the object larger than allowed
    A900, data set does not match SOP class
    C000, cannot understand: no data set, a damaged one, or one without its UIDs

A PACS sends a study with all that is in it, and ends at the first object that is refused. So every
storage class is accepted, private ones included; images and dose reports are stored, and the rest
is counted and dropped.

An object is written as it came, not decoded. Of its data set only the elements up to the study's
UID are read. Another object with the UID of one that is there is kept beside it, and the index says
which is used. Counts, titles and addresses are logged, nothing of an object.
"""

from __future__ import annotations

import io
import secrets
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom._uid_dict import UID_dictionary
from pydicom.filereader import read_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import (
    PYNETDICOM_IMPLEMENTATION_UID,
    PYNETDICOM_IMPLEMENTATION_VERSION,
    _config,
    build_context,
    evt,
)
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # pynetdicom makes it at import
    Verification,
    register_uid,
    uid_to_service_class,
)

from client.data.dicom.objects.dose_report import SOP_CLASSES as DOSE_REPORTS
from client.data.dicom.objects.header import quiet
from client.data.dicom.receive import private_classes
from client.data.dicom.receive.association_server import (
    INTRODUCTION,
    MAX_PDU,
    AssociationServer,
    Entity,
    tls_context,
)
from client.data.dicom.receive.incoming_object import DISK_FAILS, DISK_FULL, IncomingObject
from client.data.dicom.receive.object_store import DiskFull, ObjectStore, StoredObject
from client.data.dicom.receive.settings import ReceiverSettings
from client.log_events import event as log
from protocol.errors import Code, WardroundError
from protocol.untrusted import Throttle

_NOT_AGREED = "not of the class that was agreed on"
STORED, NO_RESOURCES, OTHER_CLASS, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
_STRANGE, _WINDOW = 20, 600.0
"""Lines of the log on each kind of unwelcome connection, in so many seconds."""
_DICOM = "1.2.840.10008.3.1.1.1"
"""DICOM's application context (PS3.7, A.2.1)."""
_STUDY = 0x0020000D
_PEEK = [0x00080016, 0x00080018, _STUDY]
_PEEKED = 1 << 20
"""Bytes of a data set within which its study's UID stands: it is one of the first elements."""
_UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_NOT_OBJECTS = ("Storage Commitment", "Media Storage Directory", "Stored Print")
_NOT_FOR_FILES = ("JPIP", "SMPTE", "MIME", "XML Encoding", "Papyrus", "(Retired)")
_ULTRASOUND_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
_RETIRED = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("3", "5", "6", "12.3"))
"""Ultrasound, nuclear medicine and biplane angiography before 1993-98; archives still hold them."""


def storage_classes() -> frozenset[str]:
    """SOP classes that are accepted: all of the standard by which composite objects are stored,
    retired ones included."""
    return frozenset(
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and not name.startswith(_NOT_OBJECTS)
    )


def kept_classes() -> frozenset[str]:
    """SOP classes that are stored: all of images, and radiation dose reports."""
    images = {
        uid
        for uid, (name, kind, _, retired, _) in UID_dictionary.items()
        if kind == "SOP Class" and "Image Storage" in name and not retired and "Video" not in name
    }
    return frozenset(images | {_ULTRASOUND_VOLUME, *_RETIRED} | DOSE_REPORTS)


def transfer_syntaxes() -> list[str]:
    """Transfer syntaxes in which an object can be a file: all but references and streams.

    Of those that both sides have the first is taken, so uncompressed ones come first: a sender
    that offers several at once must not compress for our sake.
    """
    syntaxes = [
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "Transfer Syntax" and not any(word in name for word in _NOT_FOR_FILES)
    ]
    return sorted(syntaxes, key=lambda uid: uid not in _UNCOMPRESSED)


@dataclass
class ReceiverCounts:
    """What has happened since the start. `refused`: objects by reason; `rejected`: associations by
    reason; `dropped`: objects that are not needed, by SOP class, "" for those on no list of ours;
    `last_sender`, `last_rejected`: title and address; `last_time`: in seconds since 1970."""

    started: float = field(default_factory=time.time)
    associations: int = 0
    bytes: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    last_sender: str = ""
    last_time: float = 0.0
    last_rejected: str = ""


class RefusedObject(Exception):
    """An object that is not taken. status: the answer (PS3.4, Table B.2-1)."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Receiver:
    """A listening receiver. It calls `arrived(study folder)` for every new object."""

    def __init__(
        self, settings: ReceiverSettings, store: ObjectStore, arrived: Callable[[Path], None]
    ) -> None:
        self.counts = ReceiverCounts()
        self._settings, self._store, self._arrived = settings, store, arrived
        self._lock = threading.Lock()
        self._server: Any = None
        self._kept, self._known = kept_classes(), storage_classes() | {Verification}
        self._syntaxes = transfer_syntaxes()
        self._strange = Throttle(_STRANGE, _WINDOW)

    def start(self) -> int:
        """Listens: the port. Raises WardroundError: PORT_TAKEN, TLS."""
        quiet()
        _config.LOG_HANDLER_LEVEL = "none"  # pynetdicom's own log shows data sets
        threading.excepthook = self._not_understood  # and so would a traceback
        settings = self._settings
        entity = Entity(settings.ae_title)
        # An empty list would let everybody in; nobody guesses this title.
        entity.require_calling_aet = list(settings.calling) or [secrets.token_hex(8)]
        entity.require_called_aet = True
        entity.maximum_associations = settings.associations
        entity.maximum_pdu_size = MAX_PDU
        entity.acse_timeout = INTRODUCTION
        entity.dimse_timeout = entity.network_timeout = 60
        entity.add_supported_context(Verification)
        for sop_class in sorted(self._known - {Verification}):
            if uid_to_service_class(sop_class) is ServiceClass:  # it would abort at such an object
                register_uid(sop_class, UID(sop_class).keyword, StorageServiceClass)
            entity.add_supported_context(sop_class, self._syntaxes)
        handlers: list[Any] = [
            (evt.EVT_PDU_RECV, self._prepare_data_set),
            (evt.EVT_C_STORE, self._store_one),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_SOP_COMMON, self._as_storage),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_CONN_CLOSE, _discard_unfinished),
        ]
        tls = self._tls()
        try:
            self._server = entity.make_server(
                settings.address, evt_handlers=handlers, server_class=AssociationServer, tls=tls
            )
        except OSError as error:
            raise WardroundError(
                Code.PORT_TAKEN,
                f"Cannot listen on {settings.listen}: {error.strerror}.",
                remedy="Correct imaging.receiver.listen in site.yaml, or stop what listens there.",
            ) from None
        entity._servers.append(self._server)  # as AE.start_server does
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self, patience: float = 10.0) -> None:
        """Takes no new association; lets those there are finish for a while; closes."""
        deadline = time.monotonic() + patience
        self._server.shutdown()
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._server.active_associations:
            association.abort()

    @property
    def tls_failures(self) -> int:
        return int(self._server.tls_failures)

    @property
    def refused_connections(self) -> int:
        """Closed at once, since too many were open."""
        return int(self._server.refused)

    def _tls(self) -> Any:
        tls = self._settings.tls
        if tls is None:
            return None
        try:
            return tls_context(str(tls.certificate), str(tls.key), str(tls.clients))
        except OSError:
            raise WardroundError(
                Code.TLS,
                "The receiver's certificate, key or client CA cannot be used.",
                remedy="Correct imaging.receiver.tls in site.yaml: three PEM files.",
            ) from None

    def _prepare_data_set(self, event: Any) -> None:
        """Before a PDU is decoded: sets where the next message's data set is written to."""
        dimse = event.assoc.dimse
        if dimse.message is None:
            message = dimse.message = DIMSEMessage()
            message.data_set = IncomingObject(
                lambda: _head(event.assoc, message),
                self._store.spool,
                self._settings.largest,
                lambda: message.command_set.AffectedSOPClassUID in self._kept,
            )

    def _store_one(self, event: Any) -> int:
        data = event.request.DataSet
        try:
            stored = self._take(event, data)
        except RefusedObject as refused:
            log("object refused", why=refused.why, sender=_peer(event.assoc))
            with self._lock:
                self.counts.refused[refused.why] += 1
            return refused.status
        finally:
            if isinstance(data, IncomingObject):
                data.discard()
        with self._lock:
            if stored is None:
                sop_class = event.request.AffectedSOPClassUID
                self.counts.dropped[sop_class if sop_class in self._known else ""] += 1
            else:
                self.counts.kept[stored.what] += 1
                self.counts.bytes += data.length
        if stored is not None and stored.what != "again":
            self._arrived(stored.study)
        return STORED

    def _take(self, event: Any, data: Any) -> StoredObject | None:
        """None for an object that is not needed. Raises RefusedObject."""
        request = event.request
        if not isinstance(data, IncomingObject) or data.length == 0:
            raise RefusedObject(NOT_UNDERSTOOD, "without a data set")
        sop_class = request.AffectedSOPClassUID
        if sop_class != event.context.abstract_syntax:
            raise RefusedObject(OTHER_CLASS, _NOT_AGREED)
        if sop_class not in self._kept:
            return None
        if data.failed is not None:
            raise RefusedObject(NO_RESOURCES, data.failed)
        uids = peek(data.start(_PEEKED), UID(event.context.transfer_syntax))
        if uids is None:
            raise RefusedObject(NOT_UNDERSTOOD, "damaged")
        stated, instance, study = uids
        if instance != request.AffectedSOPInstanceUID or not study:
            raise RefusedObject(NOT_UNDERSTOOD, "without its own UID or its study's")
        if stated != sop_class:
            raise RefusedObject(OTHER_CLASS, _NOT_AGREED)
        try:
            self._store.check_room(data.length)
            stored = self._store.keep(data.written(), study, instance)
        except DiskFull:
            raise RefusedObject(NO_RESOURCES, DISK_FULL) from None
        except OSError as error:
            raise RefusedObject(NO_RESOURCES, f"{DISK_FAILS}: {error.strerror}") from None
        if stored.what == "beside":
            log("another object has this UID", kept="beside the first", sender=_peer(event.assoc))
        return stored

    def _requested(self, event: Any) -> None:
        """Another application than DICOM's is rejected: pynetdicom does not look. Private classes
        are added to those that this association may agree on."""
        asked, acceptor = event.assoc.requestor.primitive, event.assoc.acceptor
        if asked.application_context_name != _DICOM:
            event.assoc.acse.send_reject(0x01, 0x01, 0x02)
            event.assoc.kill()
            self._count_rejected(event.assoc, "another application context")
        elif others := private_classes.asked_for(asked, self._known):
            more = [build_context(uid, self._syntaxes) for uid in others]
            acceptor.supported_contexts = [*acceptor.supported_contexts, *more]

    def _as_storage(self, event: Any) -> dict[str, SOPClassCommonExtendedNegotiation]:
        asked = event.assoc.requestor.primitive
        return private_classes.as_storage(private_classes.asked_for(asked, self._known))

    def _accepted(self, event: Any) -> None:
        with self._lock:
            self.counts.associations += 1
            self.counts.last_time = time.time()
            self.counts.last_sender = f"{_title(event.assoc)} at {_peer(event.assoc)}"
        log("association", title=_title(event.assoc), sender=_peer(event.assoc))

    def _rejected(self, event: Any) -> None:
        title = _title(event.assoc)
        if title not in self._settings.calling:
            why = "title not in receiver.calling"
        elif event.assoc.requestor.primitive.called_ae_title != self._settings.ae_title:
            why = "called by another title"
        else:
            why = "too many associations"
        self._count_rejected(event.assoc, why)

    def _count_rejected(self, association: Any, why: str) -> None:
        title, peer = _title(association), _peer(association)
        with self._lock:
            self.counts.rejected[why] += 1
            self.counts.last_rejected = f"{title} at {peer}"
        if self._is_news("association rejected"):
            log("association rejected", why=why, title=title, sender=peer)

    def _not_understood(self, arguments: threading.ExceptHookArgs) -> None:
        """A sender said what pynetdicom cannot read: the thread, and so the connection, ends."""
        with self._lock:
            self.counts.rejected["not understood"] += 1
        if self._is_news("connection not understood"):
            log("connection not understood", why=arguments.exc_type.__name__)

    def _is_news(self, event: str) -> bool:
        """Whether what anybody can cause is logged: of more than _STRANGE in _WINDOW the number
        alone is, here."""
        with self._lock:
            passes, unlogged = self._strange.admit(event)
        if unlogged:
            log(f"{event}, as often again", count=unlogged)
        return passes


def peek(start: bytes, syntax: UID) -> tuple[str, str, str] | None:
    """The SOP class, instance and study UIDs of a data set, by its first bytes, "" where one is
    not there; None where it cannot be read."""
    try:
        if syntax.is_deflated:
            start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(start, _PEEKED)
        dataset = read_dataset(
            io.BytesIO(start),
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=lambda tag, vr, length: tag > _STUDY,
            specific_tags=_PEEK,
        )
        sop_class, instance, study = (
            str(dataset[tag].value) if tag in dataset else "" for tag in _PEEK
        )
    except (Exception, RecursionError, MemoryError):
        return None
    return sop_class, instance, study


def _head(association: Any, message: Any) -> bytes:
    """Preamble and file meta information (PS3.10, section 7.1). Written here: pydicom's general
    writer takes as long for it as all else that an object costs."""
    command = message.command_set
    context = association._accepted_cx[message.context_id]
    elements = (
        b"\2\0\1\0OB\0\0\2\0\0\0\0\1"
        + _element(0x02, b"UI", command.AffectedSOPClassUID)
        + _element(0x03, b"UI", command.AffectedSOPInstanceUID)
        + _element(0x10, b"UI", context.transfer_syntax[0])
        + _element(0x12, b"UI", PYNETDICOM_IMPLEMENTATION_UID)
        + _element(0x13, b"SH", PYNETDICOM_IMPLEMENTATION_VERSION)
    )
    length = b"\2\0\0\0UL\4\0" + struct.pack("<L", len(elements))
    return b"\0" * 128 + b"DICM" + length + elements


def _element(number: int, kind: bytes, value: str) -> bytes:
    """(0002,number) in explicit VR, padded to an even length (PS3.5, section 7.1.2)."""
    padded = value.encode("ascii") + (b" " if kind == b"SH" else b"\0") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, kind, len(padded)) + padded


def _discard_unfinished(event: Any) -> None:
    """The connection is closed: removes an object that was half received."""
    message = event.assoc.dimse.message
    if message is not None and isinstance(message.data_set, IncomingObject):
        message.data_set.discard()


def _title(association: Any) -> str:
    return str(association.requestor.primitive.calling_ae_title).strip()


def _peer(association: Any) -> str:
    return str(association.requestor.address)
