"""Screens an image's pixels: can they be decoded, and is there text in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from client.data.dicom.index.index import Seen
from client.data.dicom.objects.header import quiet
from client.data.dicom.pixels.text_detector import shows_text
from client.data.dicom.pixels.thumbnails import shown


@dataclass(frozen=True)
class ScreeningResult:
    """The result, and the SHA-256 of the file's content (None where it could not be read)."""

    seen: Seen
    content: str | None


def screen_pixels(path: Path) -> ScreeningResult:
    """Screens the frame that a cohort would take. Raises nothing."""
    quiet()
    content = None
    try:
        data = path.read_bytes()
        content = hashlib.sha256(data).hexdigest()
        text = shows_text(shown(data, path))
    except (Exception, RecursionError, MemoryError):
        return ScreeningResult("undecodable", content)
    return ScreeningResult("text" if text else "clear", content)
