"""Screens an image's pixels: can they be decoded, and is there text in them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from client.data.dicom.index.index import Finding
from client.data.dicom.objects.gate import Reason
from client.data.dicom.objects.header import quiet
from client.data.dicom.pixels.faults import NoPicture
from client.data.dicom.pixels.text_detector import shows_text
from client.data.dicom.pixels.thumbnails import shown


def screen_pixels(path: Path) -> Finding:
    """Screens the frame that a cohort would take. Raises nothing."""
    quiet()
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read()
    except OSError:
        return Finding(Reason.UNREACHABLE)
    except MemoryError:
        return Finding(Reason.MEMORY)
    content, stamp = hashlib.sha256(data).hexdigest(), (status.st_size, status.st_mtime_ns)
    try:
        text = shows_text(shown(data, path))
    except MemoryError:
        return Finding(Reason.MEMORY)
    except NoPicture as none:
        return Finding("undecodable", content, stamp, none.fault)
    except (Exception, RecursionError):
        return Finding("undecodable", content, stamp)
    return Finding("text" if text else "clear", content, stamp)
