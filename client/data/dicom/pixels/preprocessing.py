"""Makes one small picture of a file, the same for every task, whatever the scanner wrote: grey, or
in colour where a task asks for that.

    decoded (decode.py) -> as it is meant to be shown (windowing.py) -> upright (orientation.py)
    -> square pixels, resized

Nothing is cropped: where the shape differs from the one wanted, black borders fill up. A picture
of zeros stands for none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from pydicom.dataset import Dataset

from client.data.dicom.objects.header import quiet
from client.data.dicom.pixels import orientation, windowing
from client.data.dicom.pixels.decode import FRAME, middle_frame
from client.data.dicom.pixels.faults import NoPicture, PixelFault

VERSION = 2
"""Of everything that shapes a picture; another number makes every cached picture again."""
CHOICES = (FRAME, *windowing.CHOICES, orientation.RULE, "resized by a triangle filter, centred")
"""What DICOM leaves to the reader, as it is done here; another choice does the same."""
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
LARGEST_FILE = 1 << 30
"""Bytes of a file, at most."""


@dataclass(frozen=True)
class Preprocessing:
    """How pictures are made. Two of one `name` are comparable: it says the size, the Hounsfield
    units shown as black and as white, if any, whether colours are kept, and by its digest every
    choice."""

    rows: int
    columns: int
    hounsfield: tuple[float, float] | None = None
    colour: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture."""
        return (self.rows, self.columns, 3) if self.colour else (self.rows, self.columns)

    @property
    def name(self) -> str:
        choices = hashlib.sha256("\n".join(CHOICES).encode()).hexdigest()[:8]
        window = "-hu{}to{}".format(*map(float, self.hounsfield)) if self.hounsfield else ""
        colour = "-rgb" if self.colour else ""
        return f"v{VERSION}-{choices}-{self.rows}x{self.columns}{window}{colour}"


@dataclass(frozen=True)
class PreparedPicture:
    """What became of one file. content: SHA-256 of its bytes, None where they cannot be read;
    picture: its values, None where there is a fault."""

    content: str | None
    picture: bytes | None = None
    fault: PixelFault | None = None


def prepare_picture(
    path: Path, made: Preprocessing, known: frozenset[str] = frozenset()
) -> PreparedPicture:
    """One file's picture. Raises nothing. For a process of its own: a codec in C may crash.

    `known`: digests of contents whose picture is cached, so that a file that moved or was copied
    is not decoded again; the result then has neither picture nor fault.
    """
    quiet()
    try:
        if path.stat().st_size > LARGEST_FILE:
            return PreparedPicture(None, fault=PixelFault.TOO_LARGE)
        data = path.read_bytes()
    except OSError:
        return PreparedPicture(None, fault=PixelFault.GONE)
    except MemoryError:
        return PreparedPicture(None, fault=PixelFault.MEMORY)
    return made_once(data, known, lambda: _not_blank(picture(data, made, path)))


def made_once(
    data: bytes, known: frozenset[str], make: Callable[[], npt.NDArray[np.uint8]]
) -> PreparedPicture:
    """What `make` comes to, for a file of these bytes, unless that is known. Raises nothing."""
    content = hashlib.sha256(data).hexdigest()
    if content in known:
        return PreparedPicture(content)
    try:
        return PreparedPicture(content, make().tobytes())
    except NoPicture as none:
        return PreparedPicture(content, fault=none.fault)
    except MemoryError:
        return PreparedPicture(content, fault=PixelFault.MEMORY)
    except (Exception, RecursionError):
        return PreparedPicture(content, fault=PixelFault.UNDECODABLE)


def _not_blank(shown: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if not shown.any():
        raise NoPicture(PixelFault.BLANK)
    return shown


def picture(data: bytes, made: Preprocessing, path: Path | None = None) -> npt.NDArray[np.uint8]:
    """A file's bytes -> uint8 of the shape that is made. Raises NoPicture, MemoryError."""
    frame = middle_frame(data, path)
    if made.colour:
        shown = windowing.coloured(frame.values, frame.header, frame.bits)
    elif made.hounsfield is None:
        shown = windowing.displayed(frame.values, frame.header, frame.bits)
    else:
        shown = windowing.measured(frame.values, frame.header, made.hounsfield)
    turned, pixel_aspect = orientation.upright(shown, aspect(frame.header), frame.header)
    return resized(turned, pixel_aspect, made.rows, made.columns)


def aspect(header: Dataset) -> float:
    """Height of a pixel over its width; 1 where nothing sensible is said. Spacing (PS3.3, 10.7.1.3)
    is that between rows, then between columns; the ratio (C.7.6.3.1.7) stands where none is."""
    for name in (*_SPACINGS, "PixelAspectRatio"):
        with suppress(TypeError, ValueError, ZeroDivisionError):
            vertical, horizontal = (float(v) for v in header.get(name))
            if 0.1 <= vertical / horizontal <= 10:
                return vertical / horizontal
    return 1.0


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the picture that is made of it, in the picture's pixels."""

    top: int
    left: int
    rows: int
    columns: int


def placement(shape: tuple[int, ...], pixel_aspect: float, rows: int, columns: int) -> Placement:
    """shape: of the image, upright. As large as fits, in its true proportions, in the middle."""
    height, width = shape[0] * pixel_aspect, float(shape[1])
    scale = min(rows / height, columns / width)
    inner_rows = max(1, min(rows, round(height * scale)))
    inner_columns = max(1, min(columns, round(width * scale)))
    top, left = (rows - inner_rows) // 2, (columns - inner_columns) // 2
    return Placement(top, left, inner_rows, inner_columns)


def resized(
    shown: npt.NDArray[np.uint8], pixel_aspect: float, rows: int, columns: int
) -> npt.NDArray[np.uint8]:
    """(r, c) or (r, c, 3) -> rows and columns of these numbers: as large as fits, in its true
    proportions, in the middle.

    Averages where it makes smaller (a triangle filter over the pixels that fall together), and
    leaves a picture of the right size as it is. A picture with light in it keeps some.
    """
    at = placement(shown.shape, pixel_aspect, rows, columns)
    image = Pillow.fromarray(np.ascontiguousarray(shown))
    if image.size != (at.columns, at.rows):
        image = image.resize((at.columns, at.rows), Pillow.Resampling.BILINEAR)
    small = np.asarray(image, dtype=np.uint8)
    if not small.any() and shown.any():
        small = np.full_like(small, 1)
    canvas = np.zeros((rows, columns, *shown.shape[2:]), dtype=np.uint8)
    canvas[at.top : at.top + at.rows, at.left : at.left + at.columns] = small
    return canvas
