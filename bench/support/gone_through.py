"""All that a picture goes through at a site, for processes of their own."""

from __future__ import annotations

import time
from pathlib import Path

from client.data.dicom.index.text_screening import screen_pixels
from client.data.dicom.pixels.preprocessing import Preprocessing, prepare_picture


def gone_through(path: Path) -> float:
    """Seconds of it: the look for text, and the picture's way to the cache."""
    began = time.monotonic()
    screen_pixels(path)
    prepare_picture(path, Preprocessing(224, 224))
    return time.monotonic() - began
