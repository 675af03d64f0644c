"""Sends synthetic radiographs to a hospital's receiver as a PACS would: DICOM Send (PS3.4, B)."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, build_context
from pynetdicom.presentation import PresentationContext

from protocol.errors import Code, WardroundError

AE_TITLE = "DEMO_PACS"
_STARTING = 60.0


def send(files: Sequence[Path], host: str, port: int, ae_title: str) -> int:
    """Each file in its own transfer syntax over one association; returns how many were kept.

    Waits until the receiver listens. Raises WardroundError(UNREACHABLE) where it does not, or
    where the association is not accepted.
    """
    _until_listening(host, port)
    entity = AE(ae_title=AE_TITLE)
    entity.requested_contexts = _contexts(files)
    association = entity.associate(host, port, ae_title=ae_title)
    if not association.is_established:
        raise WardroundError(
            Code.UNREACHABLE, f"The receiver at {host}:{port} accepted no association."
        )
    try:
        kept = 0
        for path in files:
            answer = association.send_c_store(path)
            if "Status" not in answer:  # the association ended, or nobody answered in time
                raise WardroundError(
                    Code.UNREACHABLE,
                    f"The receiver at {host}:{port} stopped answering.",
                    remedy="Its own words are in its log.",
                )
            kept += answer.Status == 0x0000
        return kept
    finally:
        association.release()


def _contexts(files: Sequence[Path]) -> list[PresentationContext]:
    kinds = set()
    for path in files:
        meta = dcmread(path, specific_tags=[], stop_before_pixels=True).file_meta
        kinds.add((meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID))
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(kinds)]


def _until_listening(host: str, port: int) -> None:
    deadline = time.monotonic() + _STARTING
    while True:
        try:
            with socket.create_connection((host, port), 1.0):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise WardroundError(
                    Code.UNREACHABLE, f"No receiver listens at {host}:{port}."
                ) from None
        time.sleep(0.1)
