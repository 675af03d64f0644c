"""One frame's header of a multi-frame object (PS3.3, C.7.6.16): its functional groups brought up.

A functional group is shared by all frames (5200,9229) or given for each (5200,9230), and what it
says holds in place of what the object says of itself. None should be in both; where
one is, its attributes for the frame hold, and shared ones that the frame lacks stay.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

SHARED, PER_FRAME = 0x52009229, 0x52009230
_GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing",),  # C.7.6.16.2.1
    "PlaneOrientationSequence": ("ImageOrientationPatient",),  # C.7.6.16.2.4
    "FrameVOILUTSequence": (  # C.7.6.16.2.10
        *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    ),
    "PixelValueTransformationSequence": (  # C.7.6.16.2.9
        *("RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence"),
    ),
    "FramePixelDataPropertiesSequence": ("ImagerPixelSpacing",),  # C.8.19.6.4
    "PatientOrientationInFrameSequence": ("PatientOrientation",),  # C.7.6.16.2.15
}


def of_frame(header: Dataset, number: int) -> Dataset:
    """The header as it is for one frame, counted from 0; changed in place."""
    shared, own = _item(header, SHARED, 0), _item(header, PER_FRAME, number)
    for sequence, keywords in _GROUPS.items():
        items = [_item(group, sequence, 0) for group in (shared, own)]
        said = {k: item[k] for item in items for k in keywords if k in item}
        if said:
            for keyword in keywords:
                header.pop(keyword, None)
            for element in said.values():
                header.add(element)
    return header


def _item(dataset: Dataset, sequence: int | str, number: int) -> Dataset:
    """An item of a sequence; an empty one where there is none."""
    items = dataset[sequence].value if sequence in dataset else ()
    return items[number] if items and number < len(items) else Dataset()
