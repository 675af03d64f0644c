"""Small DICOM objects, written as a stranger might write them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from client.data.dicom.pixels.decode import middle_frame
from client.data.dicom.pixels.windowing import displayed

SECONDARY_CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7")


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def with_vr(dataset: Dataset, tag: int, vr: str, value: object) -> Dataset:
    """Whatever VR the dictionary has for the attribute."""
    dataset[tag] = DataElement(tag, vr, value)
    return dataset


def grey(words: npt.NDArray[Any], stored: int | None = None, **values: object) -> Dataset:
    """words: (rows, columns) or (frames, rows, columns), the words to be written."""
    allocated = 8 * words.dtype.itemsize
    frames = words if words.ndim == 3 else words[None]
    said: dict[str, object] = {
        "SOPClassUID": SECONDARY_CAPTURE,
        "SOPInstanceUID": generate_uid(entropy_srcs=["one"]),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "NumberOfFrames": len(frames),
        "Rows": frames.shape[1],
        "Columns": frames.shape[2],
        "BitsAllocated": allocated,
        "BitsStored": stored or allocated,
        "HighBit": (stored or allocated) - 1,
        "PixelRepresentation": int(words.dtype.kind == "i"),
        **values,
    }
    return with_vr(item(**said), 0x7FE00010, "OW", words.tobytes())


def file_of(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """Pixel data are to be in the order of the syntax, unless it compresses them."""
    meta = dataset.file_meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    return _saved(dataset)


def shown(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> npt.NDArray[np.uint8]:
    """Its middle frame."""
    return _shown(file_of(dataset, syntax))


def shown_again(written: Dataset) -> npt.NDArray[np.uint8]:
    """The same of an object that was written before, and changed since."""
    return _shown(_saved(written))


def _saved(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _shown(data: bytes) -> npt.NDArray[np.uint8]:
    frame = middle_frame(data)
    return displayed(frame.values, frame.header, frame.bits)
