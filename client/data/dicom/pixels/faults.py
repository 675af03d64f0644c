"""Why a file gives no picture, in words that name the attribute at fault: a closed list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum

from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder

from client.data.dicom.objects.defined_terms import PHOTOMETRIC


class PixelFault(StrEnum):
    """The values are shown to the site's operator."""

    GONE = "file cannot be read"
    TOO_LARGE = "too large: Rows, Columns, SamplesPerPixel, or the whole file"
    NO_PIXELS = "no pixel data"
    CUT_SHORT = "cut short: PixelData is less than Rows, Columns and NumberOfFrames say"
    SYNTAX = "unsupported syntax: TransferSyntaxUID"
    SIDES = "Rows or Columns is missing, or no number"
    SAMPLES = "SamplesPerPixel is missing, or neither 1 nor 3"
    PHOTOMETRIC = "PhotometricInterpretation is missing, or no defined term"
    FRAMES = "NumberOfFrames is no number"
    BITS = "BitsAllocated, BitsStored or PixelRepresentation is missing, or no number"
    LOOKUP_TABLE = "look-up table: its descriptor or data is missing, or describes none"
    RESCALE = "RescaleSlope or RescaleIntercept is no number"
    UNITS = "RescaleType: not in Hounsfield units, in which the task's window is"
    UNDECODABLE = "pixels cannot be decoded"
    BLANK = "blank: every pixel black"
    MASK_SIZE = "mask of another size than its picture: Rows or Columns"
    SEGMENTS = "segments overlap, or have numbers that the task has no class for"
    SLOW = "took too long to decode"
    CRASHED = "ended the process that decoded it"
    MEMORY = "not enough memory to decode it"


TRANSIENT = (PixelFault.SLOW, PixelFault.CRASHED, PixelFault.MEMORY)
"""Faults that are no property of the file, and pass."""


class NoPicture(Exception):
    """A file that gives no picture. Holds the reason and nothing of the file."""

    def __init__(self, fault: PixelFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


def explained(dataset: Dataset) -> PixelFault:
    """Why its pixels could not be decoded: what of the Image Pixel module (PS3.3, C.7.6.3) is
    wrong first. Asked only after decoding has failed, so that nothing readable is refused."""
    return next(_wrong(dataset), PixelFault.UNDECODABLE)


def _wrong(dataset: Dataset) -> Iterator[PixelFault]:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and not _decodes(syntax):
        yield PixelFault.SYNTAX
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    if rows is None or columns is None or min(rows, columns) < 1:
        yield PixelFault.SIDES
    samples = _number(dataset, "SamplesPerPixel")
    if samples not in (1, 3):
        yield PixelFault.SAMPLES
    if _value(dataset, "PhotometricInterpretation") not in PHOTOMETRIC.values():
        yield PixelFault.PHOTOMETRIC
    frames = _number(dataset, "NumberOfFrames") if "NumberOfFrames" in dataset else 1
    if frames is None or frames < 1:
        yield PixelFault.FRAMES
    bits = [_number(dataset, k) for k in ("BitsAllocated", "BitsStored", "PixelRepresentation")]
    if None in bits:
        yield PixelFault.BITS
    if rows and columns and samples and frames and bits[0] and not syntax.is_encapsulated:
        held = _value(dataset, "PixelData")
        size = len(held) if isinstance(held, bytes) else 0
        if size < rows * columns * samples * frames * bits[0] // 8:
            yield PixelFault.CUT_SHORT


def _decodes(syntax: object) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)  # type: ignore[arg-type]  # any UID
    except NotImplementedError:
        return False


def _value(dataset: Dataset, keyword: str) -> object:
    with suppress(Exception):
        return dataset.get(keyword)
    return None


def _number(dataset: Dataset, keyword: str) -> int | None:
    with suppress(Exception):
        return int(dataset.get(keyword))
    return None
