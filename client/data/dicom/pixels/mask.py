"""A DICOM Segmentation of one picture as a mask: the class of each pixel of the picture that is
made of that image (preprocessing.py), lying as it does and as large.

Class k is segment number k; what is in no segment is background. A fractional segment counts from
half of its largest value on (PS3.3, C.8.20.2). Only in a process of its own, as `decode`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from client.data.dicom.objects.header import quiet
from client.data.dicom.pixels import functional_groups, orientation
from client.data.dicom.pixels.faults import NoPicture, PixelFault
from client.data.dicom.pixels.preprocessing import (
    CHOICES,
    LARGEST_FILE,
    VERSION,
    PreparedPicture,
    aspect,
    made_once,
    placement,
)

_MOST_FRAMES = 256


@dataclass(frozen=True)
class MaskPreparation:
    """How masks are made: of pictures of this size, with classes from 0 to `classes` - 1."""

    rows: int
    columns: int
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one mask."""
        return self.rows, self.columns

    @property
    def name(self) -> str:
        choices = hashlib.sha256("\n".join(CHOICES).encode()).hexdigest()[:8]
        return f"v{VERSION}-{choices}-mask{self.classes}-{self.rows}x{self.columns}"


def prepare_mask(
    path: Path,
    made: MaskPreparation,
    known: frozenset[str] = frozenset(),
    pictures: Mapping[Path, Path] | None = None,
) -> PreparedPicture:
    """One file's mask, as `prepare_picture` makes a picture. Raises nothing.

    pictures: a mask's file -> that of its picture, which does not change under its UID."""
    quiet()
    try:
        picture = (pictures or {})[path]
        if max(path.stat().st_size, picture.stat().st_size) > LARGEST_FILE:
            return PreparedPicture(None, fault=PixelFault.TOO_LARGE)
        data = path.read_bytes()
        image = dcmread(picture, stop_before_pixels=True, force=True)
    except (OSError, KeyError):
        return PreparedPicture(None, fault=PixelFault.GONE)
    except MemoryError:
        return PreparedPicture(None, fault=PixelFault.MEMORY)
    except (Exception, RecursionError):
        return PreparedPicture(None, fault=PixelFault.UNDECODABLE)
    return made_once(data, known, lambda: mask(data, image, made))


def mask(data: bytes, image: Dataset, made: MaskPreparation) -> npt.NDArray[np.uint8]:
    """A file's bytes, the header of its picture -> (rows, columns) uint8.

    Raises NoPicture: of another size than the picture, of segments that there are no classes for,
    or that overlap; MemoryError; and whatever pydicom raises for a damaged file."""
    header = dcmread(io.BytesIO(data), force=True)
    sides = [(int(of.Rows), int(of.Columns)) for of in (header, image)]
    if sides[0] != sides[1]:
        raise NoPicture(PixelFault.MASK_SIZE)
    classes = np.zeros(sides[0], dtype=np.uint8)
    for segment, shown in _segments(header):
        if not shown.any():
            continue
        if segment >= made.classes or (classes[shown] > 0).any():
            raise NoPicture(PixelFault.SEGMENTS)
        classes[shown] = segment
    turned, pixel_aspect = orientation.upright(classes, aspect(image), image)
    at = placement(turned.shape, pixel_aspect, made.rows, made.columns)
    small = Pillow.fromarray(turned).resize((at.columns, at.rows), Pillow.Resampling.NEAREST)
    canvas = np.zeros(made.shape, dtype=np.uint8)
    canvas[at.top : at.top + at.rows, at.left : at.left + at.columns] = np.asarray(small)
    return canvas


def _segments(header: Dataset) -> list[tuple[int, npt.NDArray[np.bool_]]]:
    """Segment numbers and where each is; a segment may have several frames."""
    kind, frames = str(header.SegmentationType), int(header.get("NumberOfFrames", 1) or 1)
    if not 1 <= frames <= _MOST_FRAMES:
        raise NoPicture(PixelFault.FRAMES)
    if kind == "LABELMAP":
        if frames > 1:
            raise NoPicture(PixelFault.FRAMES)
        values = pixel_array(header, index=0)
        return [(int(number), values == number) for number in np.unique(values) if number]
    least = 1.0 if kind == "BINARY" else int(header.MaximumFractionalValue) / 2
    found: dict[int, npt.NDArray[np.bool_]] = {}
    for frame in range(frames):
        number = _segment_of(header, frame)
        shown = np.asarray(pixel_array(header, index=frame) >= least)
        found[number] = found[number] | shown if number in found else shown
    return list(found.items())


def _segment_of(header: Dataset, frame: int) -> int:
    """Segment Identification (C.8.20.3.1), of all frames or of each."""
    for groups, place in (
        (functional_groups.PER_FRAME, frame),
        (functional_groups.SHARED, 0),
    ):
        items: Any = header[groups].value if groups in header else ()
        if place < len(items) and items[place].get("SegmentIdentificationSequence"):
            own = items[place].SegmentIdentificationSequence[0]
            return int(own.ReferencedSegmentNumber)
    raise NoPicture(PixelFault.SEGMENTS)
