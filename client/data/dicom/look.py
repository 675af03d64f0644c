"""One look at an image's pixels: can they be decoded, and is there text in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from client.data.dicom.header import quiet
from client.data.dicom.index import Seen
from client.data.dicom.text_detector import shows_text


@dataclass(frozen=True)
class Look:
    """What was seen, and the SHA-256 of the file's content (None where it could not be read)."""

    seen: Seen
    content: str | None


def look(job: tuple[Path, str]) -> Look:
    """(file, modality) -> what its first, middle and last frame show. Raises nothing."""
    quiet()
    path, _ = job
    content = None
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        from client.data.dicom.thumbnails import frames

        text = any(shows_text(frame) for frame in frames(path))
    except (Exception, RecursionError, MemoryError):
        return Look("undecodable", content)
    return Look("text" if text else "clear", content)
