"""From a prepared picture back to the image that it was made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from client.data.dicom.pixels import orientation
from client.data.dicom.pixels.preprocessing import aspect, placement


def back_projected(values: npt.NDArray[np.uint8], header: Dataset) -> npt.NDArray[np.uint8]:
    """(rows, columns) of values at the pixels of a prepared picture -> (Rows, Columns) as the
    image itself lies; each pixel has the value of the one that shows it."""
    rows, columns = int(header.Rows), int(header.Columns)
    number = np.arange(rows * columns).reshape(rows, columns)
    turned, pixel_aspect = orientation.upright(number, aspect(header), header)
    at = placement(turned.shape, pixel_aspect, *values.shape)
    inner = values[at.top : at.top + at.rows, at.left : at.left + at.columns]
    down = np.arange(turned.shape[0]) * at.rows // turned.shape[0]
    across = np.arange(turned.shape[1]) * at.columns // turned.shape[1]
    found = np.empty(rows * columns, dtype=np.uint8)
    found[turned.ravel()] = inner[np.ix_(down, across)].ravel()
    return found.reshape(rows, columns)
