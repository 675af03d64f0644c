"""Whose image a file holds: what a result must say to find its way back, at this hospital alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from protocol.errors import Code
from protocol.untrusted import parsing

_TAGS = ("PatientID", "AccessionNumber", "StudyInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True)
class SourceImage:
    """Identifiers as the file states them, "" where it states none."""

    patient_id: str
    accession_number: str
    study_uid: str
    image_uid: str

    @staticmethod
    def of(file: Path | None) -> SourceImage:
        """file: None for a record without a picture.

        Raises WardroundError(MALFORMED_DATA) for a file that cannot be read any more."""
        if file is None:
            return SourceImage("", "", "", "")
        with parsing(
            "A picture that was scored cannot be read any more.",
            Code.MALFORMED_DATA,
            "Run `wardround-site index`, and score it again.",
        ):
            read = dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
            return SourceImage(*(str(read.get(tag) or "") for tag in _TAGS))
