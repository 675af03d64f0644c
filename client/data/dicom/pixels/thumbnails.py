"""Pictures as a model sees them, for the detector of text and for the contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.data.dicom.pixels.decode import middle_frame
from client.data.dicom.pixels.windowing import displayed


def shown(data: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes -> its middle frame, windowed, (rows, columns) uint8, at its full size.
    Raises whatever the file makes a decoder raise."""
    frame = middle_frame(data, path)
    return displayed(frame.values, frame.header, frame.bits)
