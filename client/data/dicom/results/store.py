"""Sends objects to a PACS by C-STORE (PS3.4, annex B), as its service class user."""

from __future__ import annotations

import io
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
)
from pynetdicom import AE

_SECONDS = 30.0
"""For each answer of the peer."""
_SUCCESS, _WARNING, _OUT_OF_RESOURCES, _NOT_AUTHORISED = 0x0000, 0xB000, 0xA700, 0x0124


class PeerAwayError(Exception):
    """The peer does not take anything at present; its text says why."""


@dataclass(frozen=True)
class Refusal:
    """The peer will never take this object. why: its status."""

    why: str


def sender_context(certificate: str, key: str, servers: str) -> ssl.SSLContext:
    """The BCP 195 TLS Profile (PS3.15, B.12) with a certificate of our own: TLS 1.2 or newer, of
    1.2 the suites that RFC 9325, section 4.2 recommends. The peer's certificate is of the CA in
    `servers`, and names the host that is called.

    Raises OSError, ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(servers)
    return context


@contextmanager
def association(
    host: str, port: int, *, called: str, calling: str, tls: ssl.SSLContext | None = None
) -> Iterator[Callable[[bytes], Refusal | None]]:
    """A function that sends one DICOM file; None: it was taken.

    Raises PeerAwayError where the peer cannot be reached or rejects the association, and so does
    the function where the peer has no room, asks who this is, or goes away.
    """
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
    entity.connection_timeout = _SECONDS
    for kind in (ComprehensiveSRStorage, SegmentationStorage):
        entity.add_requested_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    secured = None if tls is None else (tls, host)
    peer = entity.associate(host, port, ae_title=called, tls_args=secured)
    if not peer.is_established:
        away = "it cannot be reached" if tls is None else "it cannot be reached by TLS"
        raise PeerAwayError("it rejects us" if peer.is_rejected else away)

    def send(content: bytes) -> Refusal | None:
        sent = dcmread(io.BytesIO(content))
        try:
            answer = peer.send_c_store(sent)
        except ValueError:  # no presentation context was accepted
            none = f"it takes no {sent.SOPClassUID.name}"
            if sent.SOPClassUID == ComprehensiveSRStorage:
                raise PeerAwayError(none) from None
            return Refusal(none)  # a map that holds up no report
        except RuntimeError:
            raise PeerAwayError("it went away") from None
        status = answer.get("Status")
        if status is None:
            raise PeerAwayError("it went away")
        if status == _SUCCESS or status & 0xF000 == _WARNING:
            return None
        if status & 0xFF00 == _OUT_OF_RESOURCES:
            raise PeerAwayError(f"it has no room (status {status:04X})")
        if status == _NOT_AUTHORISED:
            raise PeerAwayError(f"it does not allow us to store (status {status:04X})")
        return Refusal(f"it refused the report (status {status:04X})")

    try:
        yield send
    finally:
        if peer.is_established:
            peer.release()
