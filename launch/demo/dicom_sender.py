"""Sends synthetic radiographs to a hospital's receiver as a PACS would: DICOM Send (PS3.4, B)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, build_context
from pynetdicom.presentation import PresentationContext

from launch.demo.local_ports import is_listening
from protocol.errors import Code, WardroundError

AE_TITLE = "DEMO_PACS"
_STARTING = 60.0


def send(files: Sequence[Path], host: str, port: int, ae_title: str) -> int:
    """Sends each file in its own transfer syntax over one association; returns how many it stored.

    Waits until the receiver listens. Raises WardroundError(UNREACHABLE) where it does not, or
    where the association is not accepted.
    """
    if not is_listening(host, port, _STARTING):
        raise WardroundError(
            Code.UNREACHABLE,
            f"No receiver listens at {host}:{port}.",
            remedy="Its log says why it did not start.",
        )
    entity = AE(ae_title=AE_TITLE)
    entity.requested_contexts = _contexts(files)
    association = entity.associate(host, port, ae_title=ae_title)
    if not association.is_established:
        raise WardroundError(
            Code.UNREACHABLE,
            f"The receiver at {host}:{port} accepted no association.",
            remedy="Its log says why.",
        )
    try:
        stored = 0
        for path in files:
            answer = association.send_c_store(path)
            if "Status" not in answer:  # the association ended, or nobody answered in time
                raise WardroundError(
                    Code.UNREACHABLE,
                    f"The receiver at {host}:{port} stopped answering.",
                    remedy="Its log says why.",
                )
            stored += answer.Status == 0x0000
        return stored
    finally:
        association.release()


def _contexts(files: Sequence[Path]) -> list[PresentationContext]:
    kinds = set()
    for path in files:
        meta = dcmread(path, specific_tags=[], stop_before_pixels=True).file_meta
        kinds.add((meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID))
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(kinds)]
