"""Words -> the samples that lie in them: Bits Stored bits, the uppermost at High Bit.

PS3.5, 8.1.1. The bits around a sample are no part of it: noise, or an overlay (PS3.5, 8.1.2,
retired), which is never shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset


def samples(words: npt.NDArray[Any], header: Dataset, compressed: bool) -> npt.NDArray[Any]:
    """words: of any shape and integer type. The samples, of the same shape and type.

    compressed: they come from a stream with a precision of its own (PS3.5, 8.2), so that High Bit
    means something only where the stream holds whole words. A High Bit that leaves no room for
    Bits Stored counts as not given.
    """
    if words.dtype.kind not in "iu":
        return words
    allocated = 8 * words.dtype.itemsize
    stored = int(header.get("BitsStored", 0) or allocated)
    if not 0 < stored < allocated:
        return words
    high = int(header.get("HighBit", stored - 1))
    if not stored - 1 <= high < allocated or (compressed and not _holds_more(words, stored)):
        high = stored - 1
    above_cut = words << (allocated - 1 - high)
    return np.asarray(above_cut >> (allocated - stored), words.dtype)  # keeps the sign


def _holds_more(words: npt.NDArray[Any], stored: int) -> bool:
    """Whether bits above the stored ones are in use, other than as the sign."""
    low, high = int(words.min(initial=0)), int(words.max(initial=0))
    return low < -(1 << stored - 1) or high >= 1 << stored
