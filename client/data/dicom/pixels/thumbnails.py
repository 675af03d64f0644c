"""Pictures as a model sees them, for the detector of text and for the contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.data.dicom.pixels.decode import middle_frame
from client.data.dicom.pixels.windowing import displayed

LARGEST = 1024
"""Pixels of the longer side that the detector sees: text stays legible, noise goes."""


def shown(data: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes -> its middle frame, windowed, (rows, columns) uint8; no side longer than
    `LARGEST`. Raises whatever the file makes a decoder raise."""
    frame = middle_frame(data, path)
    return smaller(displayed(frame.values, frame.header, frame.bits))


def smaller(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Averages whole blocks where a side is longer than `LARGEST`."""
    block = -(-max(picture.shape) // LARGEST)
    if block == 1:
        return picture
    rows, columns = (side // block * block for side in picture.shape)
    cut = picture[:rows, :columns].reshape(rows // block, block, columns // block, block)
    return np.asarray(cut.mean(axis=(1, 3), dtype=np.float32), np.uint8)
