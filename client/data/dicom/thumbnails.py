"""Pictures as a person would see them, for the detector of text and for the contact sheet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID

from client.data.dicom.header import bounded, open_dataset

LARGEST = 1024
"""Pixels of the longer side that the detector sees."""
_MOST_PIXELS = 1 << 28


def frames(path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """The first, middle and last frame of a file, (rows, columns) uint8, the darkest value 0 and
    the brightest 255, no side longer than `LARGEST`. Raises whatever the file makes it raise."""
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    with bounded(path) as file:
        open_dataset(file, file.size, [0x00280010])  # refuses what inflates without end
    dataset = dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _uncompressed(dataset)
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    if int(dataset.Rows) * int(dataset.Columns) > _MOST_PIXELS:
        raise ValueError
    for number in sorted({0, count // 2, count - 1}):
        pixels = pixel_array(dataset, index=number) if count > 1 else pixel_array(dataset)
        yield grey(pixels)


def grey(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(rows, columns) or (rows, columns, colours) of any type -> (r, c) uint8, made smaller by
    averaging whole blocks where a side is longer than `LARGEST`."""
    picture = np.asarray(pixels, np.float32)
    if picture.ndim == 3:
        picture = picture.max(axis=2)
    block = -(-max(picture.shape) // LARGEST)
    if block > 1:
        rows, columns = (side // block * block for side in picture.shape)
        cut = picture[:rows, :columns].reshape(rows // block, block, columns // block, block)
        picture = cut.mean(axis=(1, 3))
    finite = np.nan_to_num(picture, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    return np.asarray((finite - low) * (255.0 / max(high - low, 1e-9)), np.uint8)


def _uncompressed(dataset: Any) -> UID:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
