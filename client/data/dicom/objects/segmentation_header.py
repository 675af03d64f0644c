"""Of which picture a DICOM Segmentation is a mask (PS3.3, A.51 and C.8.20)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

SOP_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation Storage
    }
)
WANTED = (0x00081115, 0x52009229, 0x52009230)
"""Referenced series, and the functional groups, shared and of each frame."""
_MOST_FRAMES = 1024
"""Frames that are looked at: a mask of one picture has one for each segment."""


def picture_of(header: Dataset) -> str:
    """The SOP Instance UID of the one image that all frames are derived from or, where no frame
    says, that the object refers to; "" where these are several, or none."""
    derived = set(_derived_from(header))
    referred = {
        str(item.get("ReferencedSOPInstanceUID", ""))
        for series in header.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedInstanceSequence") or ()
    }
    found = (derived or referred) - {""}
    return found.pop() if len(found) == 1 else ""


def _derived_from(header: Dataset) -> Iterator[str]:
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    frames = header.get("PerFrameFunctionalGroupsSequence") or ()
    for group in (*shared, *frames[:_MOST_FRAMES]):
        for derivation in group.get("DerivationImageSequence") or ():
            for source in derivation.get("SourceImageSequence") or ():
                yield str(source.get("ReferencedSOPInstanceUID", ""))
